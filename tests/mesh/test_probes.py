"""A relay's probe at the mesh's own listener: it is recognised while one is expected, and harms nobody else."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from peer.mesh.guards.probes import REMEMBERED
from peer.mesh.host import MeshHost
from peer.protocol.errors import Unavailable
from peer.protocol.relays.messages import PROBE_BYTES, PROBE_LINE, Probed
from tests.conftest import HANG
from tests.mesh.harness import LOOPBACK
from tests.mesh.relays.harness import Device, acquainted, device
from tests.rendezvous.relay.world import SECRET, running_relay

MULTISTREAM = b"\x13/multistream/1.0.0\n"


@asynccontextmanager
async def at_a_relay() -> AsyncIterator[Device]:
    """A device that is connected to a relay on this machine."""
    async with running_relay() as relay:
        one = device()
        one.relays.set_relays(chosen=[relay.relay.origin], named=[], token=b"", secret=SECRET)
        async with one.host.running():
            await one.up()
            yield one


def port_of(host: MeshHost) -> int:
    return int(host.addresses()[0].split("/")[4])


async def sent(port: int, data: bytes) -> bytes:
    """Send to a listener and end; return all that it says."""
    with trio.fail_after(HANG):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(data)
            received = b""
            async for more in stream:
                received += more
    return received


async def test_a_relay_reaches_the_listener() -> None:
    async with at_a_relay() as one:
        assert await one.host.probe(port_of(one.host)) == "127.0.0.1"
        # Nothing of it stays: neither a connection nor what came.
        assert not len(one.host._swarm.handshakes) and not one.host._swarm.probes._came


async def test_another_listener_at_that_port_is_not_this_device() -> None:
    """As where a router leads to another machine, which runs dispatch too, or sends back what it gets."""
    seed = os.urandom(32)
    other = MeshHost(seed, listen=[LOOPBACK], admits=lambda _: True)

    async def echo(stream: trio.SocketStream) -> None:
        await stream.send_all(await stream.receive_some(100))

    async with at_a_relay() as one, other.running(), trio.open_nursery() as nursery:
        (echoing,) = await nursery.start(partial(trio.serve_tcp, echo, 0, host="127.0.0.1"))
        for port in (port_of(other), echoing.socket.getsockname()[1]):
            assert await one.host.probe(port) == ""
        nursery.cancel_scope.cancel()


async def test_without_a_relay_there_is_nobody_to_ask() -> None:
    host = MeshHost(os.urandom(32), listen=[LOOPBACK], admits=lambda _: True)
    async with host.running():
        with pytest.raises(Unavailable):
            await host.probe(4001)
    one = device()
    async with one.host.running():
        with pytest.raises(Unavailable):
            await one.host.probe(4001)


PROBE = PROBE_LINE + bytes(PROBE_BYTES)


@pytest.mark.parametrize(
    "data",
    [PROBE, PROBE + b"more", PROBE_LINE, PROBE[:-1], PROBE[:1], PROBE_LINE[:-1] + b"2\n" + bytes(PROBE_BYTES)],
    ids=["probe", "longer", "line", "short", "one byte", "another line"],
)
async def test_a_stranger_who_sends_a_probe_gets_what_every_stranger_gets(data: bytes) -> None:
    host = MeshHost(os.urandom(32), listen=[LOOPBACK], admits=lambda _: True)
    async with host.running():
        with trio.fail_after(HANG):
            async with await trio.open_tcp_stream("127.0.0.1", port_of(host)) as stream:
                await stream.send_all(data)
                await stream.send_eof()
                received = b""
                try:
                    async for more in stream:
                        received += more
                except trio.BrokenResourceError:
                    pass
        assert received in (b"", MULTISTREAM)
        assert not host._swarm.probes._came


async def test_what_strangers_send_while_a_probe_is_expected_is_bounded_and_counts_for_nothing() -> None:
    host = MeshHost(os.urandom(32), listen=[LOOPBACK], admits=lambda _: True)
    async with host.running():
        probes = host._swarm.probes
        with probes.expected():
            for _ in range(REMEMBERED + 3):
                await sent(port_of(host), PROBE_LINE + os.urandom(PROBE_BYTES))
            assert len(probes._came) == REMEMBERED
            assert not probes.came(bytes(PROBE_BYTES))
        assert not probes._came


@pytest.mark.long
async def test_what_only_looks_like_a_probe_is_none() -> None:
    host = MeshHost(os.urandom(32), listen=[LOOPBACK], admits=lambda _: True)
    async with host.running():
        with host._swarm.probes.expected():
            for data in (PROBE_LINE[:-1] + b"!" + bytes(PROBE_BYTES), b"d" * len(PROBE), MULTISTREAM + PROBE):
                await sent(port_of(host), data)
            await sent(port_of(host), PROBE)
            assert list(host._swarm.probes._came) == [bytes(PROBE_BYTES)]


async def test_a_probe_takes_no_place_of_a_handshake() -> None:
    host = MeshHost(os.urandom(32), listen=[LOOPBACK], admits=lambda _: True)
    async with host.running():
        await sent(port_of(host), PROBE)
        assert host._swarm.handshakes.entered == 1 and not len(host._swarm.handshakes)


async def test_what_a_relay_says_without_having_sent_it_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with at_a_relay() as one:

        async def claims(_port: int) -> Probed:
            return Probed(1, "8.8.4.4", os.urandom(PROBE_BYTES))

        monkeypatch.setattr(one.relays, "probe", claims)
        assert await one.host.probe(port_of(one.host)) == ""


@pytest.mark.parametrize(
    ("listen", "own", "maps"),
    [
        ("/ip4/0.0.0.0/tcp/0", ["127.0.0.1", "192.168.1.7", "fe80::1"], True),
        ("/ip4/0.0.0.0/tcp/0", ["127.0.0.1", "100.64.3.4"], True),
        ("/ip4/0.0.0.0/tcp/0", ["127.0.0.1", "192.168.1.7", "8.8.4.4"], False),
        ("/ip4/0.0.0.0/tcp/0", ["127.0.0.1", "192.168.1.7", "2606:4700::1111"], False),
        ("/ip4/127.0.0.1/tcp/0", ["127.0.0.1", "192.168.1.7"], False),
    ],
)
async def test_what_there_is_to_map(
    own_addresses: Callable[[list[str]], None], listen: str, own: list[str], maps: bool
) -> None:
    own_addresses(own)
    host = MeshHost(os.urandom(32), listen=[listen], admits=lambda _: True)
    async with host.running():
        bound = int(str(host._host.get_transport_addrs()[0]).split("/")[4])
        assert host.port_to_map() == (bound if maps else 0)


@pytest.fixture
def own_addresses(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], None]:
    """Have the interfaces of this machine have these addresses, for who asks what is around."""
    from ipaddress import ip_address

    from peer.mesh import host as host_module
    from peer.mesh.dialable import Surroundings, surroundings

    def set_to(texts: list[str]) -> None:
        def looked(listen: object) -> Surroundings:
            alone = surroundings(listen).loopback_alone  # type: ignore[arg-type]
            return Surroundings(frozenset(ip_address(text) for text in texts), (), alone)

        monkeypatch.setattr(host_module, "surroundings", looked)

    return set_to


async def test_two_hosts_still_connect_while_a_probe_is_expected() -> None:
    one, other = device(), device()
    acquainted(one, other)
    async with one.host.running(), other.host.running():
        with one.host._swarm.probes.expected(), trio.fail_after(HANG):
            await other.host.connect(one.id, one.host.addresses())
        assert other.host.path(one.id) == "direct"
