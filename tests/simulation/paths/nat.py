"""In place of the kernel's sockets and of home routers: which two dials of one instant meet, and which never do.

What decides about punching is the real code (peer/mesh/punching). Here are its ports, and what a relay sees of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address
from typing import Any, Final, cast
from unittest import mock

import trio

from peer.mesh.relays.observing import Seen
from peer.protocol.errors import NO_FIX, Unavailable
from peer.protocol.punching import Endpoint
from tests.simulation.paths.lines import End
from tests.simulation.paths.reach import Reach

NATS: Final = ("independent", "independent", "refusing", "dependent", "firewall", "web only")
"""What may be between a machine and the internet. independent: a port is seen alike from everywhere (RFC 4787's
endpoint-independent mapping), and what nobody asked for is dropped. refusing: the same, but that is refused. dependent:
another port for each destination. firewall: no NAT, what nobody asked for is dropped. web only: nothing but relays."""
PUNCHABLE: Final = frozenset({"independent", "refusing", "firewall"})
FIRST_RETRANSMISSION: Final = 1.0
"""Seconds after which a kernel sends a SYN again that nobody answered; twice as long each further time (RFC 6298)."""


@dataclass
class Dial:
    """One under way: `met` once the other one has met it, with this one's end."""

    name: str
    end: End | None = None
    met: trio.Event = field(default_factory=trio.Event)


class SimulatedPort:
    """The methods of peer.mesh.punching.ports.LocalPort."""

    def __init__(self, nats: Nats, name: str) -> None:
        self.number = nats.next_port()
        self.name = name
        self._nats = nats

    async def connect(self, address: str, port: int) -> PunchedStream:
        return await self._nats.dial(self, Endpoint(IPv4Address(address), port))

    def close(self) -> None: ...


class PunchedStream:
    """What is used of trio's SocketStream."""

    def __init__(self, end: End) -> None:
        self.end = end

    async def receive_some(self, _most: int | None = None) -> bytes:
        return await self.end.read()

    async def send_all(self, data: bytes) -> None:
        await self.end.write(data)

    async def aclose(self) -> None:
        await self.end.close()


class Observed:
    """The connection that keeps a NAT's mapping while it is open."""

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class Nats:
    """`kind`: who → one of NATS."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self.kind: dict[str, str] = {}
        self.met = 0
        """How many pairs of dials met."""
        self._port = 20_000
        self._under_way: dict[tuple[Endpoint, Endpoint], Dial] = {}
        """(From where, to where), as both sides see it."""

    def next_port(self) -> int:
        self._port = 20_000 + (self._port + 7) % 40_000
        return self._port

    def punchable(self, a: str, b: str) -> bool:
        """Whether two dials of one instant meet."""
        return {self.kind[a], self.kind[b]} <= PUNCHABLE

    def outside(self, port: SimulatedPort, destination: object) -> Endpoint:
        """Return where a connection from a port is seen to come from."""
        address = IPv4Address(self._reach.address[port.name].split("/")[2])
        shift = hash(str(destination)) % 5_000 if self.kind[port.name] == "dependent" else 0
        return Endpoint(address, port.number + shift)

    async def dial(self, port: SimulatedPort, there: Endpoint) -> PunchedStream:
        """Connect from a port. Raises OSError where that is refused, or tries for as long as it may."""
        reach, name = self._reach, port.name
        reach.dials += 1
        if self.kind[name] == "web only":
            await trio.sleep_forever()
        here = self.outside(port, there)
        mine = self._under_way[here, there] = Dial(name)
        latency, pause = 10 ** reach.world.random.uniform(-3, -0.7), FIRST_RETRANSMISSION
        try:
            while True:
                await trio.sleep(latency)
                theirs = self._under_way.get((there, here))
                if mine.end is None and theirs is not None and reach.both_awake(name, theirs.name):
                    other = theirs.name
                    line = reach.line(name, other, "punched", partial(reach.both_awake, name, other))
                    mine.end, theirs.end = line.ends
                    theirs.met.set()
                    self.met += 1
                if mine.end is not None:
                    return PunchedStream(mine.end)
                if self._refuses(there):
                    await trio.sleep(latency)
                    if mine.end is None:
                        raise ConnectionRefusedError(str(there))
                    continue
                with trio.move_on_after(pause):
                    await mine.met.wait()
                pause *= 2
        except trio.Cancelled:
            if mine.end is not None:
                mine.end.end()
            raise
        finally:
            del self._under_way[here, there]

    def _refuses(self, there: Endpoint) -> bool:
        found = self._reach.whose(f"/ip4/{there.address}/")
        return found is not None and self.kind[found] == "refusing" and found not in self._reach.asleep

    async def seen(self, origin: str, port: SimulatedPort) -> Seen:
        """Have a relay say where a port is. Raises Unavailable."""
        reach = self._reach
        await trio.sleep(10 ** reach.world.random.uniform(-3, -0.7))
        relay = reach.relays[origin]
        if not relay.up and reach.at_relay(port.name, origin):
            raise Unavailable("the relay is gone", fix=NO_FIX)
        await reach.until(lambda: relay.up and reach.at_relay(port.name, origin))
        return Seen(self.outside(port, origin), cast(Any, Observed()))


@contextmanager
def installed(reach: Reach) -> Iterator[None]:
    """Have the ports of every node that runs meanwhile be behind these NATs."""
    nats = reach.nats

    def source(version: int) -> IPv4Address:
        if version == 6:
            raise OSError("no IPv6")
        name = reach.who.get()
        firewall = nats.kind[name] == "firewall"
        return IPv4Address(reach.address[name].split("/")[2] if firewall else "10.0.0.2")

    async def ask(origin: str, _version: int, connect: Callable[..., Awaitable[Any]], **_how: object) -> Seen:
        return await nats.seen(origin, cast(Any, connect).__self__)

    with (
        mock.patch("peer.mesh.punching.ports.source", source),
        mock.patch("peer.mesh.punching.endpoints.LocalPort", lambda _source: SimulatedPort(nats, reach.who.get())),
        mock.patch("peer.mesh.relays.observing.ask", ask),
    ):
        yield
