"""The courier: brings every statement of the durable outbox to its peer, and hands in what peers bring.

One long-lived stream per peer and direction of opening: the opener sends statements, the other side answers each with
its code. Sending to one peer is courier_line.py, the wire courier_wire.py; what statements mean is the node's.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

import structlog
import trio

from peer.mesh.courier_line import Addresses, CourierLimits, Line, Outbox
from peer.mesh.courier_wire import COURIER, MAX_FRAME, Parcel, answer_frame, read_statement
from peer.mesh.host import MeshHost
from peer.mesh.streams import Stream
from peer.protocol.acknowledgements import Acknowledgement
from peer.protocol.errors import DispatchError

__all__ = ["Courier", "CourierLimits", "Outbox", "Parcel"]

log = structlog.get_logger(__name__)

Receive = Callable[[str, bytes], Awaitable[Acknowledgement]]


class Courier:
    """Statements out of `outbox` to peers, statements from peers into `receive`.

    `receive(peer_id, raw)` verifies and stores one statement and returns the answer; it is called for one statement of
    a peer at a time, in the order they were sent, and must give the same answer to the same bytes again. Refusals are
    returned: if it raises, the peer is told 500 and sends again later. `addresses(peer_id)` returns the multiaddrs to
    try, [] if none is known.
    """

    def __init__(
        self,
        host: MeshHost,
        *,
        outbox: Outbox,
        receive: Receive,
        addresses: Addresses,
        limits: CourierLimits | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._host = host
        self._outbox = outbox
        self._receive = receive
        self._addresses = addresses
        self._limits = limits or CourierLimits()
        self._jitter = jitter
        self._dial_slots = trio.CapacityLimiter(self._limits.dials)
        self._lines: dict[str, Line] = {}
        self._nursery: trio.Nursery | None = None
        self._receiving: dict[str, trio.CancelScope] = {}
        self._receive_locks: dict[str, trio.Lock] = {}
        host.handle(COURIER, self._serve)
        host.on_connected(self._showed_up)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send while the block runs. The host must be running around it; the host alone already receives."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for line in self._lines.values():
                nursery.start_soon(line.run)
            try:
                yield
            finally:
                self._nursery = None
                nursery.cancel_scope.cancel()

    def wake(self, peer_id: str) -> None:
        """Say that the outbox got something for the peer, or that there is news of where it is."""
        self._line(peer_id).wake()

    def greet(self, peer_ids: Iterable[str]) -> None:
        """Connect to each peer once, so that what waits on either side goes without anybody's help."""
        for peer_id in peer_ids:
            self._line(peer_id).greet()

    # --- sending

    def _showed_up(self, peer_id: str) -> None:
        self._line(peer_id).showed_up()

    def _line(self, peer_id: str) -> Line:
        # Never forgotten while we run: there are as many as admitted peers, each an idle task.
        line = self._lines.get(peer_id)
        if line is None:
            line = self._lines[peer_id] = Line(
                peer_id,
                host=self._host,
                outbox=self._outbox,
                addresses=self._addresses,
                limits=self._limits,
                dial_slots=self._dial_slots,
                jitter=self._jitter,
            )
            if self._nursery is not None:
                self._nursery.start_soon(line.run)
        return line

    # --- receiving

    async def _serve(self, stream: Stream) -> None:
        """Take statements off one inbound stream. A peer's newest stream ends its older one, which is half dead."""
        older = self._receiving.get(stream.peer_id)
        if older is not None:
            older.cancel()
        with trio.CancelScope() as scope:
            self._receiving[stream.peer_id] = scope
            try:
                while True:
                    seq, raw = read_statement(await stream.receive(max_bytes=MAX_FRAME))
                    answer = await self._take(stream.peer_id, raw)
                    await stream.send(answer_frame(seq, answer), deadline=self._limits.send)
            except DispatchError as error:
                log.debug("courier.inbound_ended", peer=stream.peer_id, error=type(error).__name__)
            finally:
                if self._receiving.get(stream.peer_id) is scope:
                    del self._receiving[stream.peer_id]
        await stream.reset()

    async def _take(self, peer_id: str, raw: bytes) -> Acknowledgement:
        """Have the node receive one statement. Not interrupted when the stream ends: storing has effects after it."""
        lock = self._receive_locks.setdefault(peer_id, trio.Lock())
        async with lock:
            with trio.CancelScope(shield=True):
                try:
                    with trio.fail_after(self._limits.receive):
                        return await self._receive(peer_id, raw)
                except Exception as error:
                    log.error("courier.receive_failed", peer=peer_id, bytes=len(raw), error=type(error).__name__)
                    code = 503 if isinstance(error, trio.TooSlowError) else 500
                    return Acknowledgement(code, "the other side could not store it", "it is sent again by itself")
