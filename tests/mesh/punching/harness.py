"""Devices at a relay whose dials through NATs come together in memory: what is real is everything but the NATs."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address

import trio

from peer.mesh.punching import Puncher, PunchLimits
from peer.mesh.punching.endpoints import Held
from peer.protocol import punching
from peer.protocol.punching import Endpoint
from tests.mesh.harness import until
from tests.mesh.relays.harness import Device, device, running
from tests.mesh.relays.hostile import HostileRelay


def tcp_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        one = socket.create_connection(listening.getsockname())
        other, _ = listening.accept()
    first, second = (trio.SocketStream(trio.socket.from_stdlib_socket(each)) for each in (one, other))
    return first, second


@dataclass
class Nats:
    """All NATs between devices: two that dial each other's endpoints have a connection."""

    dialled: list[tuple[Endpoint, Endpoint]] = field(default_factory=list)
    """From where to where."""
    waiting: dict[tuple[Endpoint, Endpoint], trio.MemorySendChannel[trio.SocketStream]] = field(default_factory=dict)
    answers: Callable[[Endpoint], trio.SocketStream | None] = lambda _endpoint: None
    """Somebody else's end of a connection, at once, for whoever dials there."""

    async def dial(self, here: Endpoint, there: Endpoint) -> trio.SocketStream:
        self.dialled.append((here, there))
        if (found := self.answers(there)) is not None:
            return found
        if (other := self.waiting.pop((there, here), None)) is not None:
            one, far = tcp_pair()
            other.send_nowait(far)
            return one
        sending, receiving = trio.open_memory_channel[trio.SocketStream](1)
        self.waiting[here, there] = sending
        return await receiving.receive()


@dataclass
class FakeHeld:
    nats: Nats
    endpoints: tuple[Endpoint, ...]

    async def dial(self, endpoint: Endpoint) -> trio.SocketStream:
        (here,) = [each for each in self.endpoints if each.address.version == endpoint.address.version]
        return await self.nats.dial(here, endpoint)


def behind_nat(one: Device, nats: Nats, *endpoints: Endpoint, limits: PunchLimits | None = None) -> Puncher:
    """Let a device that does not run yet punch."""

    @asynccontextmanager
    async def hold() -> AsyncIterator[Held]:
        yield FakeHeld(nats, endpoints)

    host = one.host
    host.puncher = Puncher(
        host._swarm,
        own_id=one.id,
        open_stream=host.open_stream,
        party=lambda peer_id: peer_id,
        hold=hold,
        own_addresses=lambda: frozenset({IPv4Address("93.184.216.99")}),
        limits=limits,
    )
    host.handle(punching.PROTOCOL, host.puncher.answer)
    return host.puncher


LOW, HIGH = Endpoint(IPv4Address("93.184.216.34"), 40_001), Endpoint(IPv4Address("93.184.216.35"), 40_002)


@asynccontextmanager
async def two(
    nats: Nats, *, limits: PunchLimits | None = None, more: Sequence[Device] = ()
) -> AsyncIterator[tuple[Device, Device]]:
    """Two devices that a relay joins, the one with the lower id first, at LOW and HIGH; others at the relay too."""
    low, high = sorted((device(), device()), key=lambda each: each.id)
    behind_nat(low, nats, LOW, limits=limits)
    behind_nat(high, nats, HIGH, limits=limits)
    relay = HostileRelay()
    async with relay.running(), running(low, high, *more, at=relay.origin):
        await low.host.connect(high.id, high.relays.addresses())
        await until(lambda: high.host.path(low.id) == "relay")
        yield low, high
