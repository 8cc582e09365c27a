"""A relay dials a device back: where, how often, with what, and what it says of it."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from peer.protocol import codec
from peer.protocol.relays import messages
from peer.protocol.relays.messages import (
    CONTROL_PATH,
    PROBE_BYTES,
    PROBE_LINE,
    Challenge,
    Probe,
    Probed,
    Refusal,
    Welcome,
)
from rendezvous.relay import control
from rendezvous.relay.admission import Admission
from rendezvous.relay.dialing_back import dial_back, may_dial_back, plain
from rendezvous.relay.limits import RelayLimits
from tests.conftest import HANG
from tests.rendezvous.relay.world import (
    Broker,
    ByHand,
    Client,
    Keys,
    Running,
    proof,
    running_relay,
    upgrade,
)

HERE = "http://127.0.0.1:8900"
ELSEWHERE = "https://relay.example"


@asynccontextmanager
async def a_port(serve: Callable[[trio.SocketStream], Awaitable[None]], host: str = "127.0.0.1") -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host=host))
        try:
            yield listener.socket.getsockname()[1]
        finally:
            nursery.cancel_scope.cancel()


async def probe(client: Client, port: int, number: int = 7) -> Probed:
    await client.send(Probe(number, port))
    answer = await client.receive()
    assert isinstance(answer, Probed) and answer.number == number
    return answer


async def test_the_device_gets_bytes_of_the_relays_choosing_at_the_port_it_named() -> None:
    came: list[bytes] = []

    async def device(stream: trio.SocketStream) -> None:
        came.append(await exactly(stream, len(PROBE_LINE) + PROBE_BYTES))

    async with running_relay() as relay, a_port(device) as port, relay.control(Keys()) as client:
        first, second = await probe(client, port, 1), await probe(client, port, 2)
    assert [first.address, second.address] == ["127.0.0.1"] * 2
    assert came == [PROBE_LINE + first.sent, PROBE_LINE + second.sent]
    assert first.sent != second.sent


async def exactly(stream: trio.SocketStream, size: int) -> bytes:
    received = b""
    with trio.fail_after(HANG):
        while len(received) < size:
            received += await stream.receive_some(size - len(received))
    return received


async def test_a_port_where_nobody_listens_is_answered_as_any_other() -> None:
    async def unused(stream: trio.SocketStream) -> None: ...

    async with running_relay() as relay, relay.control(Keys()) as client:
        async with a_port(unused) as port:
            pass
        answer = await probe(client, port)
    assert answer.address == "127.0.0.1" and len(answer.sent) == PROBE_BYTES


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, bytes]]:
    """Where the relay would have dialled."""
    found: list[tuple[str, int, bytes]] = []

    async def note(address: str, port: int, sent: bytes, *, within: float) -> None:
        found.append((address, port, sent))

    monkeypatch.setattr(control, "dial_back", note)
    return found


@asynccontextmanager
async def forwarded(relay: Running, keys: Keys, client: str) -> AsyncIterator[ByHand]:
    """A control connection that comes through the owner's proxy."""
    async with await relay.connect() as stream:
        await stream.send_all(upgrade(CONTROL_PATH, f"X-Forwarded-For: {client}"))
        received = b""
        with trio.fail_after(HANG):
            while b"\r\n\r\n" not in received:
                received += await stream.receive_some()
        by_hand = ByHand(stream, received.partition(b"\r\n\r\n")[2])
        challenge = messages.decode(await by_hand.message())
        assert isinstance(challenge, Challenge)
        await by_hand.send(messages.encode(proof(keys, challenge)))
        assert isinstance(messages.decode(await by_hand.message()), Welcome)
        yield by_hand


@pytest.mark.parametrize(
    ("client", "seen", "is_dialled"),
    [
        ("8.8.4.4", "8.8.4.4", True),
        ("::ffff:8.8.4.4", "8.8.4.4", True),
        ("2606:4700::1111", "2606:4700::1111", True),
        ("192.168.1.7", "192.168.1.7", False),
        ("169.254.169.254", "169.254.169.254", False),
    ],
)
async def test_behind_a_proxy_the_address_is_the_one_that_the_proxy_names(
    dialled: list[tuple[str, int, bytes]], client: str, seen: str, is_dialled: bool
) -> None:
    async with running_relay(proxies=("127.0.0.1",)) as relay, forwarded(relay, Keys(), client) as by_hand:
        await by_hand.send(messages.encode(Probe(3, 4001)))
        answer = messages.decode(await by_hand.message())
    assert isinstance(answer, Probed) and answer.address == seen
    assert dialled == ([(seen, 4001, PROBE_LINE + answer.sent)] if is_dialled else [])


async def test_what_a_client_says_of_its_address_counts_for_nothing(dialled: list[tuple[str, int, bytes]]) -> None:
    async with running_relay() as relay, forwarded(relay, Keys(), "8.8.4.4") as by_hand:
        await by_hand.send(messages.encode(Probe(3, 4001)))
        assert isinstance(messages.decode(await by_hand.message()), Probed)
    assert [address for address, _, _ in dialled] == ["127.0.0.1"]


@pytest.mark.parametrize(
    "address",
    [
        *("10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "0.0.0.0", "255.255.255.255"),
        *("224.0.0.1", "239.255.255.250", "198.18.0.1", "192.0.2.1", "127.0.0.1", "::1", "::", "fe80::1", "fd00::1"),
        *(
            "ff0e::1",
            "2001:db8::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "2002:7f00:1::",
            "64:ff9b::a00:1",
            "gone",
            "",
        ),
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    ],
)
def test_a_relay_of_the_internet_dials_no_address_of_a_network_of_its_own(address: str) -> None:
    assert not may_dial_back(address, ELSEWHERE)


def test_addresses_of_the_internet_are_dialled_and_loopback_by_a_relay_on_loopback_alone() -> None:
    assert may_dial_back("8.8.8.8", ELSEWHERE) and may_dial_back("2606:4700::1111", ELSEWHERE)
    assert may_dial_back("127.0.0.1", HERE) and not may_dial_back("192.168.1.1", HERE)


@given(st.ip_addresses())
def test_what_is_dialled_is_an_address_of_the_internet(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    text = plain(str(address))
    assert not may_dial_back(text, ELSEWHERE) or ipaddress.ip_address(text).is_global


@given(st.text(max_size=60))
def test_what_is_no_address_is_not_dialled(text: str) -> None:
    assert plain(text) == "" or ipaddress.ip_address(plain(text))
    assert not may_dial_back(plain(text), ELSEWHERE) or ipaddress.ip_address(plain(text)).is_global


async def test_one_port_of_a_device_is_dialled_at_a_time() -> None:
    async def silent(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with running_relay() as relay, a_port(silent) as port, relay.control(Keys()) as client:
        await client.send(Probe(1, port))
        await client.send(Probe(2, port))
        assert await client.receive() == Refusal(2, 429)
    # Its connection is over, and the dial with it: running_relay looks.


async def test_so_many_probes_a_minute_of_a_device_and_no_more(dialled: list[tuple[str, int, bytes]]) -> None:
    most = RelayLimits().probes_per_minute
    async with running_relay() as relay, relay.control(Keys()) as client:
        for number in range(most):
            await probe(client, 4001, number)
        await client.send(Probe(99, 4001))
        assert await client.receive() == Refusal(99, 429)
    assert len(dialled) == most
    assert relay.relay.refused["probes"] == 1


async def test_devices_of_one_user_have_as_many_together(dialled: list[tuple[str, int, bytes]]) -> None:
    broker, devices = Broker(), [Keys(), Keys()]
    most = RelayLimits().probes_per_minute
    admission = Admission(frozenset({broker.public}))
    async with (
        running_relay(admission=admission) as relay,
        relay.control(devices[0], broker.token(devices[0].device)) as one,
        relay.control(devices[1], broker.token(devices[1].device)) as other,
    ):
        for number in range(most):
            await probe(one, 4001, number)
        await other.send(Probe(5, 4001))
        assert await other.receive() == Refusal(5, 429)


async def test_ports_that_are_dialled_at_once_are_bounded() -> None:
    async def silent(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    limits = RelayLimits(probes=1)
    async with (
        running_relay(limits=limits) as relay,
        a_port(silent) as port,
        relay.control(Keys()) as one,
        relay.control(Keys()) as other,
    ):
        await one.send(Probe(1, port))
        await relay.until(lambda: relay.relay.registry._probes_under_way == 1)
        await other.send(Probe(2, port))
        assert await other.receive() == Refusal(2, 503)


@pytest.mark.parametrize("port", [0, 65536])
async def test_what_is_no_port_ends_the_connection(port: int) -> None:
    async with running_relay() as relay, relay.control(Keys()) as client:
        raw = codec.encode({0: 11, 1: 1, 2: port})
        await client.socket.send_message(raw)
        assert (await client.closed())[0] == 1002


async def test_the_relay_reads_no_more_than_a_little() -> None:
    """Whoever answers without end is left, long before the time is over."""

    async def talks(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            while True:
                await stream.send_all(b"x" * 65536)

    async with a_port(talks) as port:
        with trio.fail_after(HANG):
            await dial_back("127.0.0.1", port, b"x", within=float("inf"))


async def test_a_dial_ends_in_its_time() -> None:
    async def silent(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with a_port(silent) as port:
        with trio.fail_after(HANG):
            await dial_back("127.0.0.1", port, b"x", within=0.01)
