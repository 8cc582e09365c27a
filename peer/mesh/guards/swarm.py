"""The swarm's guards: bounded handshakes, released slots, contained handlers, no dials of its own.

Stock py-libp2p 0.8.1 keeps an inbound slot until the whole swarm stops, lets one bad stream name end the host, lets
half-open strangers take the slots of contacts, and dials peers on its own to reach a target number of connections.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import NoReturn, cast

import structlog
import trio
from libp2p.abc import IMuxedConn, INetConn, INetStream
from libp2p.connection_types import ConnectionType
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.io.trio import TrioTCPStream
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.stream.net_stream import NetStream
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.transport.tcp.tcp import TCP
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr

from peer.mesh.guards.expected import ExpectedConnection
from peer.mesh.guards.handshakes import Handshakes
from peer.mesh.guards.noise_gate import GatedNoise, noise_only
from peer.mesh.guards.probes import ProbeOver, Probes
from peer.mesh.guards.yamux import SafeYamux
from peer.mesh.guards.yamux_limits import YamuxLimits
from peer.mesh.guards.yamux_muxer import SafeMuxer
from peer.mesh.guards.yamux_stream import SafeYamuxStream
from peer.protocol.relays.messages import PROBE_BYTES, PROBE_LINE
from peer.protocol.turns import Turns

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class SwarmLimits:
    """Times in seconds, the rest counts."""

    handshake: float = 10.0
    """From TCP connection to running muxer for inbound connections; per step for outbound ones."""
    pending_handshakes: int = 128
    """Inbound handshakes under way; one more ends another, see handshakes.py."""
    addresses_remembered: int = 1024
    """Where admitted peers connected from last; their next handshake has a place before any stranger's."""
    connections: int = 1024
    connections_per_peer: int = 6
    """Room for simultaneous dials and for connections that linger after a restart; one more closes the oldest."""


class _HeardStream(TrioTCPStream):
    """A TCP stream that calls `on_heard` when the first bytes have come, and `on_probe` with those of a relay's probe.

    A probe goes no further: whoever sends one is disconnected, and gets no other answer than every stranger. Its end is
    an error: stock returns nothing then, and libp2p's `read_exactly` asks a hundred times more.
    """

    on_heard: Callable[[], None] | None = None
    turns: Turns | None = None
    """Whose turn it has to wait for after it was sent something, until it has proven itself."""
    on_probe: Callable[[bytes], None] = staticmethod(lambda _sent: None)

    async def read(self, n: int | None = None) -> bytes:
        if self.turns is not None:
            self.turns.give_back(self)
        data = await super().read(n)
        if not data and n != 0:
            raise ConnectionClosedError("the connection has ended", transport="tcp")
        await self.take_turn()
        if self.on_heard is not None:
            self.on_heard()
            self.on_heard = None
            if PROBE_LINE.startswith(data[:1]):
                await self._read_probe(data)
        return data

    async def take_turn(self) -> None:
        """Wait for a turn."""
        if self.turns is not None:
            turn = trio.Event()
            self.turns.ask(self, turn.set)
            await turn.wait()

    async def _read_probe(self, data: bytes) -> NoReturn:
        whole = len(PROBE_LINE) + PROBE_BYTES
        while len(data) < whole and (more := await super().read(whole - len(data))):
            data += more
        if len(data) == whole and data.startswith(PROBE_LINE):
            self.on_probe(data[len(PROBE_LINE) :])
        raise ProbeOver


class _NoConnector:
    """Never dials: the courier decides which peer is dialled, and when.

    Stock dials known peers every 30 s until there are half as many connections as the high watermark, even where the
    low one is 0.
    """

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def run_background_task(self, _nursery: trio.Nursery) -> None: ...

    def record_disconnect(self, _peer_id: ID) -> None: ...


def ours(connection: IMuxedConn) -> SafeYamux:
    """Narrow the type of a GuardedSwarm's connection: its muxer makes no other type."""
    assert isinstance(connection, SafeYamux)
    return connection


def our_stream(stream: INetStream) -> SafeYamuxStream:
    """Narrow the type of a GuardedSwarm's stream, as `ours` does for connections."""
    assert isinstance(stream, NetStream) and isinstance(stream.muxed_stream, SafeYamuxStream)
    return stream.muxed_stream


def is_direct(connection: INetConn) -> bool:
    """Whether a connection goes through no relay."""
    return connection.get_connection_type() is ConnectionType.DIRECT


class GuardedSwarm(Swarm):
    """A libp2p swarm over TCP, Noise and Yamux only, in which no peer can use up the resources of another.

    No ResourceManager: its circuit breaker blocks every peer when it opens, and its scopes leak when a dial is
    cancelled. What it would count is bounded here, by the Noise gate and by the muxer.
    """

    def __init__(
        self,
        peer_id: ID,
        peerstore: PeerStore,
        gate: GatedNoise,
        *,
        limits: SwarmLimits,
        yamux: YamuxLimits,
        expects: Callable[[str], bool],
    ) -> None:
        """`expects(ip)`: whether a peer that is admitted may connect from there."""
        upgrader = TransportUpgrader({}, {})
        upgrader.security_multistream = noise_only(gate)
        upgrader.muxer_multistream = SafeMuxer(limits=yamux)
        super().__init__(
            peer_id,
            peerstore,
            upgrader,
            transports=[TCP()],
            retry_config=RetryConfig(max_retries=0),  # the courier retries
            connection_config=ConnectionConfig(
                max_connections=limits.connections,
                high_watermark=limits.connections,
                min_connections=0,
                low_watermark=0,
                max_connections_per_peer=limits.connections_per_peer,
                inbound_upgrade_timeout=limits.handshake,
                outbound_upgrade_timeout=limits.handshake,
                inbound_stream_protocol_negotiation_timeout=limits.handshake,
            ),
        )
        self.auto_connector = cast(AutoConnector, _NoConnector())
        self._limits = limits
        self.probes = Probes()
        self._seen_at: OrderedDict[str, None] = OrderedDict()
        self._turns = Turns(lambda what: trio.lowlevel.current_trio_token().run_sync_soon(what))
        self.handshakes = Handshakes(limits.pending_handshakes, lambda ip: ip in self._seen_at or expects(ip))

    def set_stream_handler(self, stream_handler: Callable[[INetStream], Awaitable[None]]) -> None:
        """Wrap the handler of inbound streams: an exception resets its stream instead of ending the host.

        After its handler a stream takes nothing more. Stock only finishes its own side of it, and receives on.
        """

        async def contained(stream: INetStream) -> None:
            try:
                await stream_handler(stream)
            except Exception as error:
                log.info("stream.failed", peer=stream.muxed_conn.peer_id.to_base58(), error=type(error).__name__)
                await stream.reset()
            else:
                await our_stream(stream).release()
                await stream.close()

        super().set_stream_handler(contained)

    async def _handle_inbound_connection(self, read_write_closer: ReadWriteCloser, maddr: Multiaddr) -> None:
        """Upgrade one inbound connection, then return when it closes; the listener closes its socket."""
        assert isinstance(read_write_closer, TrioTCPStream)  # the only kind that TCP makes
        socket, muxed = _HeardStream(read_write_closer.stream), None
        remote = socket.get_remote_address()
        ip = remote[0] if remote is not None else ""
        with trio.CancelScope() as scope:
            handshake = self.handshakes.enter(ip, scope.cancel)
            socket.on_heard = partial(setattr, handshake, "heard", True)
            socket.on_probe = self.probes.note
            socket.turns = None if handshake.expected else self._turns
            try:
                await socket.take_turn()
                muxed = await self.upgrade_inbound_raw_conn(RawConnection(socket, False), maddr)
            except Exception as error:
                # Debug level only: there may be thousands of strangers.
                log.debug("handshake.failed", error=type(error).__name__)
            finally:
                self.handshakes.leave(handshake)
                self._turns.give_back(socket)
                socket.turns = None
        if muxed is not None:
            self._remember(ip)
            await ours(muxed).event_closed.wait()

    async def serve_expected(
        self, stream: ReadWriteCloser, peer_id: str, address: Multiaddr, *, relayed: bool = False
    ) -> None:
        """Upgrade a connection of one peer, then return when it closes. `peer_id`: base58, who has to be there."""
        raw = ExpectedConnection(stream, peer_id, initiator=False, relayed=relayed)
        try:
            muxed = await self.upgrade_inbound_raw_conn(raw, address)
        except Exception as error:
            log.debug("handshake.failed", error=type(error).__name__)
        else:
            await ours(muxed).event_closed.wait()

    async def upgrade_expected(self, stream: ReadWriteCloser, peer_id: str, *, relayed: bool = False) -> INetConn:
        """Upgrade a connection that was opened to a peer. Raises SwarmException, which has closed it."""
        with trio.fail_after(self._limits.handshake):
            raw = ExpectedConnection(stream, peer_id, initiator=True, relayed=relayed)
            return await self.upgrade_outbound_raw_conn(raw, ID.from_base58(peer_id))

    def live(self, peer_id: str) -> list[INetConn]:
        """Return usable connections, the best last: direct before relayed, and the newest of those.

        After a peer's restart a dead one may linger. `peer_id`: base58.
        """
        connections = self.get_connections(ID.from_base58(peer_id))
        live = [each for each in connections if not each.is_closed and each.muxed_conn.is_established]
        return sorted(live, key=is_direct)

    def is_direct(self, peer_id: str) -> bool:
        """Whether a peer is connected by a direct path."""
        return any(is_direct(each) for each in self.live(peer_id))

    def _remember(self, ip: str) -> None:
        """Note that an admitted peer has connected from this address."""
        self._seen_at[ip] = None
        self._seen_at.move_to_end(ip)
        while len(self._seen_at) > self._limits.addresses_remembered:
            self._seen_at.popitem(last=False)

    def _trim_connections(self, peer_id: ID) -> None:
        """End a peer's oldest connections beyond its number; stock spares all younger than 20 s, so floods pass."""
        for connection in self.connections[peer_id][: -self._limits.connections_per_peer]:
            ours(connection.muxed_conn).abort()

    def _schedule_auto_connect(self) -> None:
        """Do nothing: stock dials peers here."""

    def _schedule_prune(self) -> None:
        """Do nothing: a connection beyond the limit is refused instead of closing another one."""
