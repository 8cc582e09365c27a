"""Ports of this device and where they are: real sockets, a real relay that says what it sees, and others that lie."""

from __future__ import annotations

import errno
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address, ip_address

import pytest
import trio

from peer.mesh.punching import endpoints, ports
from peer.mesh.punching.endpoints import DIALS, _HeldPorts, held
from peer.mesh.punching.ports import LocalPort
from peer.mesh.relays import Route, observing
from peer.mesh.relays.observing import Connect, Seen
from peer.protocol.errors import Unavailable
from peer.protocol.punching import MAX_SEEN, Endpoint
from tests.conftest import HANG
from tests.mesh.punching.harness import tcp_pair
from tests.rendezvous.relay.world import running_relay

HERE = IPv4Address("127.0.0.1")
PRIVATE, PUBLIC = ip_address("10.1.2.3"), ip_address("93.184.216.34")
ROUTE = Route(proxy=lambda _host, _port: "", trusted=ssl.create_default_context, loopback_alone=True)


async def ask(origin: str, port: LocalPort, route: Route = ROUTE) -> Seen:
    return await observing.ask(origin, 4, port.connect, route=route, chosen=True)


async def test_the_relay_says_the_very_port_from_which_a_peer_is_dialled_then() -> None:
    port = LocalPort(HERE)
    async with running_relay() as relay, trio.open_nursery() as nursery:
        seen = await ask(relay.relay.origin, port)
        assert seen.endpoint == Endpoint(HERE, port.number)
        came: list[int] = []

        async def note(stream: trio.SocketStream) -> None:
            came.append(stream.socket.getpeername()[1])
            await stream.send_all(b"x")

        (listener,) = await nursery.start(partial(trio.serve_tcp, note, 0, host="127.0.0.1"))
        stream = await port.connect("127.0.0.1", listener.socket.getsockname()[1])
        port.close()
        assert await stream.receive_some(1) == b"x" and came == [port.number], "it outlives the port's"
        await stream.aclose()
        await trio.aclose_forcefully(seen.connection)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("family", [6, 4])
async def test_without_a_relay_of_the_family_or_past_a_proxy_nothing_is_asked(family: int) -> None:
    async def never(_address: str, _port: int) -> trio.SocketStream:
        raise AssertionError

    route = ROUTE if family == 6 else Route(proxy=lambda _host, _port: "http://192.0.2.1", trusted=ROUTE.trusted)
    with pytest.raises(Unavailable):
        await observing.ask("http://127.0.0.1:9", family, never, route=route, chosen=True)


OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b'HTTP/1.1 404 Not Found\r\n\r\n{"address": "93.184.216.34", "port": 40000}',
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n",
        OK,
        OK + b"{}",
        OK + b'{"address": "localhost", "port": 40000}',
        OK + b'{"address": "93.184.216.34", "port": true}',
        OK + b'{"address": "93.184.216.34", "port": 65536}',
        OK + b"[" * (MAX_SEEN - 1),
        OK + b" " * (MAX_SEEN + 1) + b'{"address": "93.184.216.34", "port": 40000}',
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000,
    ],
)
async def test_what_is_no_answer_counts_for_nothing(said: bytes) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):  # nobody reads that to its end
            await stream.receive_some(4096)
            await stream.send_all(said)

    port = LocalPort(HERE)
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        with trio.fail_after(HANG), pytest.raises(Unavailable):
            await ask(f"http://127.0.0.1:{listener.socket.getsockname()[1]}", port)
        nursery.cancel_scope.cancel()
    port.close()


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine has one address, 127.0.0.1 in truth, that looks like an address behind a NAT; no IPv6."""

    def of(version: int) -> IPv4Address:
        if version == 6:
            raise OSError(errno.ENETUNREACH, "no route")
        return HERE

    monkeypatch.setattr(ports, "source", of)


def said(address: object, port: int) -> Callable[[int, Connect], Awaitable[Seen]]:
    async def answer(_version: int, _connect: Connect) -> Seen:
        await trio.lowlevel.checkpoint()
        return Seen(Endpoint(ip_address(str(address)), port), tcp_pair()[0])

    return answer


@pytest.mark.parametrize(
    ("address", "port", "offered"),
    [(PUBLIC, 40_000, True), (PRIVATE, 40_000, False), (PUBLIC, 443, False), ("2606:2800:220:1::1", 40_000, False)],
)
@pytest.mark.usefixtures("source")
async def test_what_a_relay_says_is_offered_where_it_can_be_so(address: object, port: int, offered: bool) -> None:
    async with held(said(address, port)) as found:
        assert found.endpoints == ((Endpoint(ip_address(str(address)), port),) if offered else ())


@pytest.mark.usefixtures("source")
async def test_a_relay_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "ASKED_WITHIN", 0.05)

    async def never(_version: int, _connect: Connect) -> Seen:
        await trio.sleep_forever()
        raise AssertionError

    with trio.fail_after(HANG):
        async with held(never) as found:
            assert found.endpoints == ()


async def test_where_this_machine_has_a_public_address_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "source", lambda version: HERE if version == 4 else ip_address("::1"))
    monkeypatch.setattr(endpoints, "is_public", lambda _address: True)

    async def never(_version: int, _connect: Connect) -> Seen:
        raise AssertionError

    async with held(never) as found:
        assert {each.address for each in found.endpoints} == {HERE, ip_address("::1")}


@pytest.mark.parametrize("refusals", [0, DIALS - 1, DIALS])
async def test_a_dial_that_is_refused_is_made_again_so_often(monkeypatch: pytest.MonkeyPatch, refusals: int) -> None:
    monkeypatch.setattr(endpoints, "FIRST_PAUSE", 0.0)
    dials = []

    class Refusing(LocalPort):
        async def connect(self, address: str, port: int) -> trio.SocketStream:
            dials.append((address, port))
            if len(dials) <= refusals:
                raise ConnectionRefusedError
            return tcp_pair()[0]

    holding = _HeldPorts()
    port = Refusing(HERE)
    holding.ports[4] = port, Endpoint(HERE, port.number)
    there = Endpoint(IPv4Address("93.184.216.34"), 40_000)
    if refusals < DIALS:
        await holding.dial(there)
    else:
        with pytest.raises(ConnectionRefusedError):
            await holding.dial(there)
    assert dials == [(str(there.address), there.port)] * min(refusals + 1, DIALS)
    port.close()
