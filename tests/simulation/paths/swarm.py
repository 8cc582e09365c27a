"""In place of libp2p's swarm: our Yamux over lines and relays' pipes. What Noise proves, a peer says here.

Of libp2p's stack only the TCP transport, Noise and the negotiation of both are left out; they are tested with real
sockets (tests/mesh). Yamux with its pings and doubts is the real one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Protocol
from unittest import mock

import trio
from libp2p.abc import INetConn, INetStream, INotifee
from libp2p.connection_types import ConnectionType
from libp2p.network.stream.exceptions import StreamError
from libp2p.network.stream.net_stream import NetStream
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.utils.varint import encode_delim, read_delim
from multiaddr import Multiaddr

from peer.mesh.guards.noise_gate import GatedNoise
from peer.mesh.guards.probes import Probes
from peer.mesh.guards.swarm import GuardedSwarm, SwarmLimits
from peer.mesh.guards.yamux import SafeYamux
from peer.mesh.guards.yamux_limits import YamuxLimits
from peer.mesh.guards.yamux_stream import SafeYamuxStream
from peer.mesh.host import MULTISTREAM, MeshHost
from peer.mesh.relays import Pipe
from tests.simulation.paths.reach import Reach
from tests.simulation.paths.still import StillYamux

Handler = Callable[[INetStream], Awaitable[None]]
NAME_BYTES = 64


class Duplex(Protocol):
    """An end of a line, or of a relay's pipe."""

    async def read(self, n: int | None = None) -> bytes: ...

    async def write(self, data: bytes) -> None: ...

    async def close(self) -> None: ...


class Secured:
    """What SafeYamux needs of a secured connection."""

    def __init__(self, duplex: Duplex, *, initiator: bool, relayed: bool) -> None:
        self.duplex = duplex
        self.is_initiator = initiator
        self._type = ConnectionType.RELAYED if relayed else ConnectionType.DIRECT
        self._rest = b""

    async def read(self, n: int | None = None) -> bytes:
        if self._rest:
            data, self._rest = self._rest, b""
            return data
        return await self.duplex.read(n)

    async def read_exactly(self, size: int) -> bytes:
        while len(self._rest) < size:
            more = await self.duplex.read()
            if not more:
                raise ConnectionError("it ended in the handshake")
            self._rest += more
        found, self._rest = self._rest[:size], self._rest[size:]
        return found

    async def write(self, data: bytes) -> None:
        await self.duplex.write(data)

    async def close(self) -> None:
        await self.duplex.close()

    def get_connection_type(self) -> ConnectionType:
        return self._type

    def get_remote_address(self) -> tuple[str, int] | None:
        return None

    def get_transport_addresses(self) -> list[Multiaddr]:
        return []


class Connection(INetConn):
    """As the swarm's SwarmConn."""

    def __init__(self, session: SafeYamux) -> None:
        self.muxed_conn = self.session = session
        self.event_started = session.event_started

    @property
    def is_closed(self) -> bool:
        return self.session.event_shutting_down.is_set()

    async def new_stream(self) -> INetStream:
        return SimulatedStream(await self.session.open_stream(), self.session)

    def get_streams(self) -> tuple[INetStream, ...]:
        return ()

    def get_transport_addresses(self) -> list[Multiaddr]:
        return []

    def get_connection_type(self) -> ConnectionType:
        return self.session.get_connection_type()

    async def close(self) -> None:
        await self.session.close()


class SimulatedStream(NetStream):
    """A muxed stream with the interface that peer.mesh.streams.Stream takes; libp2p's own has locks and a table."""

    def __init__(self, muxed: SafeYamuxStream, session: SafeYamux) -> None:
        self.muxed_stream = self._muxed = muxed
        self.muxed_conn = session

    async def read(self, n: int | None = None) -> bytes:
        try:
            return await self.muxed_stream.read(n)
        except MuxedStreamError as error:
            raise StreamError from error

    async def write(self, data: bytes) -> None:
        try:
            await self.muxed_stream.write(data)
        except MuxedStreamError as error:
            raise StreamError from error

    async def close(self) -> None:
        await self.muxed_stream.close()

    async def reset(self) -> None:
        await self.muxed_stream.reset()


class SimulatedSwarm(GuardedSwarm):
    """Dials and takes in over lines. Not libp2p's: its constructor is not called."""

    def __init__(
        self,
        reach: Reach,
        peer_id: ID,
        _peerstore: object,
        gate: GatedNoise,
        *,
        limits: SwarmLimits,
        yamux: YamuxLimits,
        expects: Callable[[str], bool],
    ) -> None:
        self.reach = reach
        self.own = peer_id
        self.name = reach.devices[peer_id.to_base58()]
        self.nursery: trio.Nursery | None = None
        self.handlers: dict[str, Handler] = {}
        self.probes = Probes()
        self.listeners = {}
        self._gate, self._limits, self._yamux = gate, limits, yamux
        self._sessions: dict[ID, list[INetConn]] = {}
        self._told: list[INotifee] = []
        self.changes = 0
        """How many connections have begun and ended."""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """In place of libp2p's service."""
        async with trio.open_nursery() as self.nursery:
            self.reach.swarms[self.name] = self
            try:
                yield
            finally:
                if self.reach.swarms.get(self.name) is self:
                    del self.reach.swarms[self.name]
                self.nursery.cancel_scope.cancel()

    async def listen(self, *_addresses: Multiaddr) -> bool:
        return True

    def register_notifee(self, notifee: INotifee) -> None:
        self._told.append(notifee)

    def get_peer_id(self) -> ID:
        return self.own

    def get_connections(self, peer_id: ID | None = None) -> list[INetConn]:
        if peer_id is None:
            return [each for connections in self._sessions.values() for each in connections]
        return list(self._sessions.get(peer_id, ()))

    # --- connecting

    def take_in(self, duplex: Duplex) -> None:
        """Serve a connection that somebody made to here."""
        assert self.nursery is not None
        self.reach.start_at(self.name, self.nursery, self._serve, duplex)

    async def _serve(self, duplex: Duplex) -> None:
        try:
            await self._establish(duplex, None, initiator=False, relayed=False)
        except (OSError, ConnectionError, trio.TooSlowError, trio.BrokenResourceError):
            await duplex.close()

    async def dial_addr(self, addr: Multiaddr, peer_id: ID, source: tuple[str, int] | None = None) -> INetConn:
        return await self._begin(await self.reach.dial(self.name, str(addr)), peer_id, relayed=False)

    async def upgrade_expected(self, stream: Any, peer_id: str, *, relayed: bool = False) -> INetConn:
        return await self._begin(stream, ID.from_base58(peer_id), relayed=relayed)

    async def _begin(self, duplex: Duplex, peer_id: ID, *, relayed: bool) -> INetConn:
        try:
            return await self._establish(duplex, peer_id, initiator=True, relayed=relayed)
        except BaseException:
            with trio.CancelScope(shield=True):
                await duplex.close()
            raise

    async def serve_expected(self, stream: Any, peer_id: str, address: Multiaddr, *, relayed: bool = False) -> None:
        try:
            connection = await self._establish(stream, ID.from_base58(peer_id), initiator=False, relayed=relayed)
        except Exception:
            return
        await connection.session.event_closed.wait()

    async def _establish(self, duplex: Duplex, expected: ID | None, *, initiator: bool, relayed: bool) -> Connection:
        secured = Secured(duplex, initiator=initiator, relayed=relayed)
        own = self.own.to_base58().encode().ljust(NAME_BYTES)
        with trio.fail_after(self._limits.handshake):
            if initiator:
                await secured.write(own)
            remote = (await secured.read_exactly(NAME_BYTES)).decode().strip()
            if (expected is not None and remote != expected.to_base58()) or not self._gate._admits(remote):
                raise ConnectionError("not admitted")
            if initiator:
                await secured.write(b".")
            else:
                await secured.write(own)
                await secured.read_exactly(1)
        origins = [duplex.origin] if isinstance(duplex, Pipe) else []
        # It has an id, a connection type and reads and writes: all that is asked of it.
        session: SafeYamux
        if self.reach.still:
            names = (self.name, self.reach.devices[remote], *origins)
            session = StillYamux(self.reach, names, secured, remote, self._yamux)
        else:
            session = SafeYamux(secured, ID.from_base58(remote), limits=self._yamux)  # type: ignore[arg-type]
        connection = Connection(session)
        assert self.nursery is not None
        session.on_close = partial(self._closed, connection)
        self._sessions.setdefault(session.peer_id, []).append(connection)
        self.changes += 1
        self.nursery.start_soon(session.start)
        await session.event_started.wait()
        for notifee in self._told:
            await notifee.connected(self, connection)
        self.nursery.start_soon(self._take_streams, connection)
        for oldest in self._sessions.get(session.peer_id, [])[: -self._limits.connections_per_peer]:
            assert isinstance(oldest, Connection)
            oldest.session.abort()
        return connection

    async def _closed(self, connection: Connection) -> None:
        left = self._sessions.get(connection.session.peer_id, [])
        if connection in left:
            left.remove(connection)
            self.changes += 1
            if not left:
                del self._sessions[connection.session.peer_id]
            for notifee in self._told:
                await notifee.disconnected(self, connection)

    # --- streams

    async def _take_streams(self, connection: Connection) -> None:
        try:
            while True:
                muxed = await connection.session.accept_stream()
                assert self.nursery is not None
                self.nursery.start_soon(self._handle, SimulatedStream(muxed, connection.session))
        except Exception:
            return  # the connection is closed

    async def _handle(self, stream: SimulatedStream) -> None:
        """Negotiate, and run the handler as GuardedSwarm does."""
        try:
            with trio.fail_after(self._limits.handshake):
                await read_delim(stream)
                protocol = await read_delim(stream)
                await stream.write(encode_delim(MULTISTREAM) + encode_delim(protocol))
            await self.handlers[protocol.decode()](stream)
        except Exception:
            await stream.reset()
        else:
            await stream._muxed.release()
            await stream.close()


class SimulatedHost:
    """In place of libp2p's host, of which MeshHost uses this."""

    def __init__(self, swarm: SimulatedSwarm, **_options: object) -> None:
        self._swarm = swarm

    def set_stream_handler(self, protocol: str, handler: Handler) -> None:
        self._swarm.handlers[str(protocol)] = handler

    def remove_stream_handler(self, protocol: str) -> None: ...

    def get_transport_addrs(self) -> list[Multiaddr]:
        return []


@contextmanager
def installed(reach: Reach) -> Iterator[None]:
    """Have every MeshHost that is made meanwhile be on these networks."""
    with (
        mock.patch("peer.mesh.host.GuardedSwarm", partial(SimulatedSwarm, reach)),
        mock.patch("peer.mesh.host._Host", SimulatedHost),
        mock.patch.object(MeshHost, "addresses", lambda host: [f"{reach.address_of(host.peer_id)}/p2p/{host.peer_id}"]),
        mock.patch("peer.mesh.host.background_trio_service", lambda swarm: swarm.serving()),
    ):
        yield
