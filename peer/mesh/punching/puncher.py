"""One attempt at a direct path through NATs: agreed over the relay, dialled at one instant, proven as every connection.

TCP's simultaneous open (RFC 9293, 3.5; RFC 5128, 3.4) makes one connection of two dials, with no listener. So who
proposes is the initiator of what begins on it, wherever it was dialled first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias, TypeVar

import structlog
import trio
from libp2p.io.trio import TrioTCPStream
from multiaddr import Multiaddr

from peer.mesh.dialing import DialBudget
from peer.mesh.guards.swarm import GuardedSwarm
from peer.mesh.punching import endpoints
from peer.mesh.punching.endpoints import Held
from peer.mesh.streams import Stream
from peer.protocol import punching
from peer.protocol.errors import NO_FIX, DispatchError, Invalid, Unavailable
from peer.protocol.punching import Endpoint, Go, Message, Offer, Ready
from sandbox.network.addresses import own_addresses

M = TypeVar("M", Offer, Ready, Go)
Use: TypeAlias = Callable[[TrioTCPStream, Endpoint], Awaitable[bool]]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class PunchLimits:
    """Times in seconds."""

    message: float = 10.0
    """For a message to come: the other device first asks a relay where it is."""
    round_trip: float = 4.0
    """A pipe that is slower agrees on no instant."""
    dial: float = 5.0
    """For all dials of an attempt, of which the other device's are as many as this one's."""
    per_minute: int = 6
    """Attempts that one contact may propose. PathKeeper makes three in the first half minute, then fewer and fewer."""
    at_once: int = 8
    """Attempts of others under way."""


class Puncher:
    """Attempts at direct paths to peers that are connected through a relay. Enter `running` before anything else.

    `hold()`: ports of this device for one attempt. `open_stream(peer_id, protocol)` and `party(peer_id)`: as
    MeshHost's. Nobody else than a peer whose connection was admitted has a stream, so none can propose an attempt.
    """

    def __init__(
        self,
        swarm: GuardedSwarm,
        *,
        own_id: str,
        open_stream: Callable[[str, str], Awaitable[Stream]],
        party: Callable[[str], str],
        hold: Callable[[], AbstractAsyncContextManager[Held]],
        own_addresses: Callable[[], frozenset[IPv4Address | IPv6Address]] = own_addresses,
        limits: PunchLimits | None = None,
    ) -> None:
        self._swarm, self._own_id = swarm, own_id
        self._open_stream, self._party, self._hold = open_stream, party, hold
        self._own_addresses = own_addresses
        self._limits = limits or PunchLimits()
        self._budget = DialBudget(self._limits.per_minute)
        self._under_way: set[str] = set()
        """Peers whose proposals are being answered."""
        self._nursery: trio.Nursery | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve connections that come of attempts of others while the block runs."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                yield
            finally:
                self._nursery = None
                nursery.cancel_scope.cancel()

    async def punch(self, peer_id: str) -> None:
        """Propose one attempt to a peer, and see it through. Raises Unavailable where no direct path comes of it.

        Of two devices the one with the lower peer id (as text) proposes; the other one waits for that.
        """
        none = Unavailable(f"there is no direct path to device {peer_id[-8:]}", fix=NO_FIX)
        if self._own_id > peer_id or not self._relayed_alone(peer_id):
            raise none
        stream = await self._open_stream(peer_id, punching.PROTOCOL)
        try:
            async with self._hold() as held:
                if not held.endpoints:
                    raise none
                await self._send(stream, Offer(held.endpoints))
                theirs = await self._dialable(await self._expect(stream, Offer, self._limits.message), held)
                if not theirs:
                    raise none
                await self._send(stream, Ready())
                await self._expect(stream, Go, self._limits.round_trip)
                await self._dial(held, theirs, partial(self._begin, peer_id))
        finally:
            await stream.reset()
        if not self._swarm.is_direct(peer_id):
            raise none
        log.info("punch.direct")

    async def answer(self, stream: Stream) -> None:
        """Answer a peer's proposal: the handler of the protocol's streams."""
        peer_id = stream.peer_id
        if (
            not self._relayed_alone(peer_id)
            or peer_id in self._under_way
            or len(self._under_way) >= self._limits.at_once
            or not self._budget.take(self._party(peer_id), trio.current_time())
        ):
            return  # which ends the stream
        self._under_way.add(peer_id)
        try:
            await self._answer(stream)
        except DispatchError as error:
            log.debug("punch.not_agreed", code=error.code)
        finally:
            self._under_way.discard(peer_id)

    async def _answer(self, stream: Stream) -> None:
        offer = await self._expect(stream, Offer, self._limits.message)
        async with self._hold() as held:
            theirs = await self._dialable(offer, held)
            await self._send(stream, Offer(held.endpoints if theirs else ()))
            if not theirs:
                return
            sent = trio.current_time()
            await self._expect(stream, Ready, self._limits.round_trip)
            round_trip = trio.current_time() - sent
            await self._send(stream, Go())
            await trio.sleep(round_trip / 2)
            await self._dial(held, theirs, partial(self._serve, stream.peer_id))

    # --- inside

    def _relayed_alone(self, peer_id: str) -> bool:
        return bool(self._swarm.live(peer_id)) and not self._swarm.is_direct(peer_id)

    async def _send(self, stream: Stream, message: Message) -> None:
        await stream.send(punching.pack(message), deadline=self._limits.message)

    async def _expect(self, stream: Stream, kind: type[M], within: float) -> M:
        message = punching.unpack(await stream.receive(max_bytes=punching.MAX_MESSAGE, deadline=within))
        if not isinstance(message, kind):
            raise Invalid("that message comes at another time", fix=NO_FIX)
        return message

    async def _dialable(self, offer: Offer, held: Held) -> list[Endpoint]:
        own = await trio.to_thread.run_sync(self._own_addresses)
        return endpoints.dialable(offer.endpoints, held.endpoints, own)

    async def _dial(self, held: Held, theirs: Sequence[Endpoint], use: Use) -> None:
        """Dial all of a peer's endpoints; `use` what answers, until it returns True for one."""

        async def dial(endpoint: Endpoint) -> None:
            try:
                with trio.fail_after(self._limits.dial):
                    stream = TrioTCPStream(await held.dial(endpoint))
            except (OSError, trio.TooSlowError):
                return
            try:
                if await use(stream, endpoint):
                    nursery.cancel_scope.cancel()
            except BaseException:
                await trio.aclose_forcefully(stream.stream)
                raise

        async with trio.open_nursery() as nursery:
            for endpoint in theirs:
                nursery.start_soon(dial, endpoint)

    async def _begin(self, peer_id: str, stream: TrioTCPStream, _endpoint: Endpoint) -> bool:
        try:
            await self._swarm.upgrade_expected(stream, peer_id)
        except Exception as error:  # one of two dials, and whoever was there
            log.debug("handshake.failed", error=type(error).__name__)
            await trio.aclose_forcefully(stream.stream)
            return False
        return True

    async def _serve(self, peer_id: str, stream: TrioTCPStream, endpoint: Endpoint) -> bool:
        """Have the connection served for as long as it lasts, beyond this attempt."""
        address = Multiaddr(f"/ip{endpoint.address.version}/{endpoint.address}/tcp/{endpoint.port}")
        if self._nursery is None:
            await trio.aclose_forcefully(stream.stream)
        else:
            self._nursery.start_soon(self._serve_until_closed, peer_id, stream, address)
        return False

    async def _serve_until_closed(self, peer_id: str, stream: TrioTCPStream, address: Multiaddr) -> None:
        try:
            await self._swarm.serve_expected(stream, peer_id, address)
        finally:
            await trio.aclose_forcefully(stream.stream)
