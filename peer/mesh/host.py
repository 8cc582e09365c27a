"""One hardened libp2p host: its life, connections, streams in and out. No statements, no storage.

How a peer is dialled: ways.py. The guards are in peer/mesh/guards, the protocols in peer/mesh/courier and blobs.py.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, NamedTuple

import structlog
import trio
from libp2p.abc import INetConn, INetStream, INetwork, INotifee
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.identity.identify_push.identify_push import ID_PUSH
from libp2p.network.stream.exceptions import StreamError
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.tools.anyio_service import background_trio_service
from libp2p.utils.address_validation import expand_wildcard_address
from libp2p.utils.varint import encode_delim, read_delim
from multiaddr import Multiaddr

from peer.mesh import listening
from peer.mesh.dialable import loopback_alone, surroundings
from peer.mesh.guards.noise_gate import GatedNoise
from peer.mesh.guards.swarm import GuardedSwarm, SwarmLimits, is_direct, ours
from peer.mesh.guards.yamux_limits import YamuxLimits
from peer.mesh.lan import Host as LanHost
from peer.mesh.lan import Lan, MaskedStream
from peer.mesh.punching import Puncher, endpoints
from peer.mesh.relays import Pipe, Relays
from peer.mesh.streams import Stream, StreamEnded
from peer.mesh.ways import Ways
from peer.protocol import punching
from peer.protocol.errors import NO_FIX, Unavailable
from peer.protocol.relays.addresses import to_multiaddr
from sandbox.network.addresses import is_public

log = structlog.get_logger(__name__)

MULTISTREAM = b"/multistream/1.0.0"

Handler = Callable[[Stream], Awaitable[None]]
Listener = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class MeshLimits:
    """Every bound of a host in one place; times in seconds."""

    swarm: SwarmLimits = field(default_factory=SwarmLimits)
    yamux: YamuxLimits = field(default_factory=YamuxLimits)
    dial: float = 15.0
    dials_per_minute: int = 60
    """Addresses of one party: four attempts with 16 addresses each, or all attempts of the courier with four."""
    open_stream: float = 15.0
    proof: float = 5.0
    """For a connection to show that it is alive, once there is a reason to doubt."""
    shutdown: float = 3.0


class PathNow(NamedTuple):
    """How a peer is connected. `since`: ms since the epoch; `round_trip`: seconds, of the last ping."""

    kind: Literal["direct", "relay"]
    since: int
    round_trip: float


class _Host(BasicHost):
    """libp2p's host without its own initiative: it answers identify and ping, but never requests or pushes."""

    def _schedule_identify(self, peer_id: ID, *, reason: str) -> None:
        # Stock runs this as a trio system task, in which an exception ends the process, and a peer could fill the
        # peerstore with addresses. We do not use identify.
        pass


class _Notifee(INotifee):
    """Forwards the swarm's connection events as peer ids."""

    def __init__(self, host: MeshHost) -> None:
        self._host = host

    async def connected(self, _network: INetwork, conn: INetConn) -> None:
        self._host._notify_connected(conn.muxed_conn.peer_id.to_base58(), conn)

    async def disconnected(self, _network: INetwork, conn: INetConn) -> None:
        self._host._notify_disconnected(conn.muxed_conn.peer_id.to_base58())

    async def opened_stream(self, _network: INetwork, _stream: INetStream) -> None: ...

    async def closed_stream(self, _network: INetwork, _stream: INetStream) -> None: ...

    async def listen(self, _network: INetwork, _address: Multiaddr) -> None: ...

    async def listen_close(self, _network: INetwork, _address: Multiaddr) -> None: ...


class MeshHost:
    """The device's end of every connection. Peer ids are base58 text, addresses multiaddr text.

    `seed`: 32-byte Ed25519 seed of the device key. `listen`: multiaddrs to listen on. `admits(peer_id)`: called for
    every connection, which is closed if it returns False. `expects(ip)`: whether a peer that is admitted may connect
    from there; while many strangers connect, these come first. `typed(peer_id)`: addresses that this machine's person
    typed, which are dialled before others, of whatever network. `relays`: ways to peers that no address leads to.
    `lan`: finds peers on the local network.
    """

    def __init__(
        self,
        seed: bytes,
        *,
        listen: Sequence[str],
        admits: Callable[[str], bool],
        expects: Callable[[str], bool] = lambda _ip: False,
        party: Callable[[str], str] = lambda peer_id: peer_id,
        typed: Callable[[str], Sequence[str]] = lambda _peer_id: (),
        relays: Relays | None = None,
        lan: Lan | None = None,
        limits: MeshLimits | None = None,
    ) -> None:
        self._relays = relays
        self._lan = lan
        self._limits = limits or MeshLimits()
        self._listen = [Multiaddr(text) for text in listen]
        key_pair = create_new_key_pair(seed)
        own_id = ID.from_pubkey(key_pair.public_key)
        peerstore = PeerStore()
        peerstore.add_key_pair(own_id, key_pair)
        self._gate = GatedNoise(key_pair, admits=admits)
        self._swarm = GuardedSwarm(
            own_id,
            peerstore,
            self._gate,
            limits=self._limits.swarm,
            yamux=self._limits.yamux,
            expects=expects,
        )
        self.ways = Ways(
            self._swarm,
            listen=self._listen,
            party=party,
            typed=typed,
            relays=relays,
            lan=lan,
            dial=self._limits.dial,
            dials_per_minute=self._limits.dials_per_minute,
        )
        self._swarm.register_notifee(_Notifee(self))
        self._host = _Host(self._swarm, disable_identify_address_discovery=True)
        self._host.remove_stream_handler(ID_PUSH)  # it would let a peer write to our peerstore
        self.puncher: Puncher | None = None
        if relays is not None and not loopback_alone(listen):
            hold = partial(endpoints.held, relays.seen)
            self.puncher = Puncher(
                self._swarm, own_id=own_id.to_base58(), open_stream=self.open_stream, party=party, hold=hold
            )
            self.handle(punching.PROTOCOL, self.puncher.answer)
        self._on_connected: list[Listener] = []
        self._on_disconnected: list[Listener] = []
        self.peer_id: str = own_id.to_base58()

    # --- life

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen and serve while the block runs; on exit, close every connection before the listeners' sockets.

        Raises Conflict if an address is in use, Unavailable if listening fails for another reason.
        """
        _silence_libp2p()
        for address in (wanted := listening.possible(self._listen)):
            listening.refuse_taken(address)
        async with background_trio_service(self._swarm):
            failed = [str(address) for address in wanted if not await self._swarm.listen(address)]
            if not failed:
                try:
                    async with self._reaching():
                        yield
                finally:
                    await self._close_everything()
        if failed:
            # Raised outside the service, whose nursery would wrap it in an ExceptionGroup.
            raise Unavailable(f"cannot listen on {', '.join(failed)}", fix="choose another `listen` in config.json")

    @asynccontextmanager
    async def _reaching(self) -> AsyncIterator[None]:
        """Serve what comes through relays, through NATs and from the local network; find peers there."""
        async with AsyncExitStack() as stack:
            if self._relays is not None:
                await stack.enter_async_context(self._relays.running(self._serve_pipe))
            if self._lan is not None:
                await stack.enter_async_context(self._lan.running(LanHost(self.ways.meet, self._serve_near)))
            if self.puncher is not None:
                await stack.enter_async_context(self.puncher.running())
            # Before these: they are closed in order, as long as their readers run.
            stack.push_async_callback(self._close_everything)
            yield

    async def _serve_pipe(self, pipe: Pipe) -> None:
        address = Multiaddr(to_multiaddr(pipe.origin))
        await self._swarm.serve_expected(pipe, pipe.peer_id, address, relayed=True)

    async def _serve_near(self, stream: MaskedStream, peer_id: str, ip: str) -> None:
        family = "ip6" if ":" in ip else "ip4"
        await self._swarm.serve_expected(stream, peer_id, Multiaddr(f"/{family}/{ip}/tcp/0"))

    async def _close_everything(self) -> None:
        """Close listeners and connections. Stock does it in a task already cancelled, which leaves both open."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + self._limits.shutdown):
            async with trio.open_nursery() as nursery:
                for listener in self._swarm.listeners.values():
                    nursery.start_soon(listener.close)
                for connection in self._swarm.get_connections():
                    nursery.start_soon(connection.close)
        self._swarm.listeners.clear()

    def addresses(self) -> list[str]:
        """Return the multiaddrs to dial, with /p2p/ part, wildcards expanded to this machine's addresses, if any."""
        found: dict[str, None] = {}
        for bound in self._host.get_transport_addrs():
            for address in expand_wildcard_address(bound):
                if not listening.is_wildcard(address):  # the library's answer where a machine has no address
                    found[f"{address}/p2p/{self.peer_id}"] = None
        return list(found)

    def port_to_map(self) -> int:
        """Return the port of IPv4 that a router would have to map; 0 where nothing is to be mapped.

        That is where an interface has an address of the internet, and where this node serves its own machine alone.
        """
        if any(is_public(address) for address in surroundings(self._listen).own):
            return 0
        bound = [address for address in self._host.get_transport_addrs() if listening.is_for_others(address)]
        return int(bound[0].value_for_protocol("tcp")) if bound else 0

    async def probe(self, port: int) -> str:
        """Have a relay dial this device back at a port, and return the address that it dialled, as text.

        "" unless what it sent has come to a listener of this host. Raises Unavailable, RateLimited.
        """
        if self._relays is None:
            raise Unavailable("no relay is known", fix=NO_FIX)
        with self._swarm.probes.expected():
            probed = await self._relays.probe(port)
            return probed.address if self._swarm.probes.came(probed.sent) else ""

    @property
    def refused(self) -> int:
        """Inbound connections refused since the start because their peer is not admitted."""
        return self._gate.refused

    # --- connections

    def on_connected(self, listener: Listener) -> None:
        """Call `listener(peer_id)` on every new connection. It must not raise or block."""
        self._on_connected.append(listener)

    def on_disconnected(self, listener: Listener) -> None:
        """Call `listener(peer_id)` when a peer's last connection has closed."""
        self._on_disconnected.append(listener)

    def connected(self, peer_id: str) -> bool:
        """Whether there is a live connection to the peer."""
        return bool(self._swarm.live(peer_id))

    def path(self, peer_id: str) -> Literal["direct", "relay"] | None:
        """Return how the peer is connected, None if it is not."""
        now = self.path_now(peer_id)
        return None if now is None else now.kind

    def relayed(self) -> set[str]:
        """Return the peers to which there is a connection through a relay, whether or not there is a direct one too."""
        return {
            connection.muxed_conn.peer_id.to_base58()
            for connection in self._swarm.get_connections()
            if not connection.is_closed and not is_direct(connection)
        }

    def path_now(self, peer_id: str) -> PathNow | None:
        """Return the connection that new streams take, None if the peer is not connected."""
        live = self._swarm.live(peer_id)
        if not live:
            return None
        session = ours(live[-1].muxed_conn)
        return PathNow("direct" if is_direct(live[-1]) else "relay", session.since, session.round_trip)

    async def connect(self, peer_id: str, addresses: Sequence[str]) -> None:
        """Connect to a peer, as Ways.connect does."""
        await self.ways.connect(peer_id, addresses)

    def renew(self, within: float) -> None:
        """End what belongs to a network that is gone: dials under way, and connections that are not proven soon."""
        self.ways.give_up()
        for connection in self._swarm.get_connections():
            ours(connection.muxed_conn).prove(within)

    def doubt(self, peer_id: str) -> None:
        """Have the connections to a peer prove that they are alive: it answers nothing where it should."""
        for connection in self._swarm.get_connections(ID.from_base58(peer_id)):
            ours(connection.muxed_conn).prove(self._limits.proof)

    def drop(self, peer_id: str) -> None:
        """Abort every connection to the peer at once, without a GO_AWAY."""
        for connection in self._swarm.get_connections(ID.from_base58(peer_id)):
            ours(connection.muxed_conn).abort()

    # --- streams

    def handle(self, protocol_id: str, handler: Handler) -> None:
        """Serve `protocol_id`: `handler(stream)` runs once per inbound stream, in a task of its own.

        When it returns, the stream is closed. When it raises, the stream is reset and the type of the error logged,
        except for StreamEnded, which the peer caused.
        """

        async def adapted(net_stream: INetStream) -> None:
            stream = Stream(net_stream)
            try:
                await handler(stream)
            except StreamEnded:
                await stream.reset()

        self._host.set_stream_handler(TProtocol(protocol_id), adapted)

    async def open_stream(self, peer_id: str, protocol_id: str, *, opening: bytes = b"") -> Stream:
        """Open a stream on the peer's newest connection.

        `opening`, the first frames of the protocol (a window of them at most), is sent with the negotiation, without
        waiting for its answer. A peer that does not serve the protocol sees them as well.

        Raises Unavailable if it is not connected, does not serve the protocol, or does not reply within
        MeshLimits.open_stream seconds.
        """
        live = self._swarm.live(peer_id)
        if not live:
            raise Unavailable(
                f"device {peer_id[-8:]} is not connected",
                fix="it is tried again automatically; see `dispatch contacts`",
            )
        try:
            # Shielded, because a cancel between muxer and swarm would leak the stream. It does not wait for the peer.
            with trio.CancelScope(shield=True):
                net_stream = await live[-1].new_stream()
        except MuxedStreamError as error:
            raise Unavailable(
                f"device {peer_id[-8:]} accepts no new stream",
                fix="it is tried again automatically; see `dispatch contacts`",
            ) from error
        done = False
        try:
            with trio.fail_after(self._limits.open_stream):
                await _negotiate(net_stream, protocol_id.encode(), opening)
            done = True
        except (trio.TooSlowError, StreamError, ValueError, OSError) as error:
            if isinstance(error, trio.TooSlowError):
                ours(live[-1].muxed_conn).prove(self._limits.proof)
            raise Unavailable(
                f"device {peer_id[-8:]} did not accept {protocol_id}", fix="update dispatch on the other machine"
            ) from error
        finally:
            if not done:
                with trio.CancelScope(shield=True):
                    await net_stream.reset()
        return Stream(net_stream)

    # --- internal

    def _notify_connected(self, peer_id: str, newest: INetConn) -> None:
        for connection in self._swarm.get_connections(ID.from_base58(peer_id)):
            if connection is not newest:  # a peer connects anew because it lost these, as a rule
                ours(connection.muxed_conn).prove(self._limits.proof)
        for listener in self._on_connected:
            listener(peer_id)

    def _notify_disconnected(self, peer_id: str) -> None:
        if not self.connected(peer_id):
            for listener in self._on_disconnected:
                listener(peer_id)


async def _negotiate(net_stream: INetStream, protocol: bytes, opening: bytes = b"") -> None:
    """multistream-select with everything sent at once, as the spec allows: one round trip instead of three."""
    await net_stream.write(encode_delim(MULTISTREAM) + encode_delim(protocol) + opening)
    if await read_delim(net_stream) != MULTISTREAM or await read_delim(net_stream) != protocol:
        raise ValueError("the other side chose another protocol")


def _silence_libp2p() -> None:
    """Drop libp2p's own log records, which contain strangers' addresses."""
    logger = logging.getLogger("libp2p")
    logger.setLevel(logging.CRITICAL)
    logger.propagate = False
