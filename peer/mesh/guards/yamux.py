"""The Yamux connection: one reader, one writer, a keepalive with a deadline, bounds on what a peer can make us hold.

It replaces stock py-libp2p's Yamux, which (measured on 0.8.1)
- breaks the connection when a read or write is cancelled in the middle of a frame: here only one task writes, and
  callers queue whole frames;
- deadlocks when both ends' read loops wait to write: here the read loop never writes, it queues control frames;
- blocks forever after 256 cancelled opens: here opening a stream never waits;
- ignores unanswered pings, its own receive windows, and floods of new streams: all three end the connection here.

Wire format: hashicorp/yamux spec.md. One stream's state is in yamux_stream.py, the bounds are in yamux_limits.py;
yamux_muxer.py makes these connections.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio
from libp2p.abc import ISecureConn
from libp2p.connection_types import ConnectionType
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable, MuxedStreamError
from multiaddr import Multiaddr

from peer.mesh.guards.yamux_header import (
    HEADER_BYTES,
    MAX_STREAM_ID,
    Flag,
    Header,
    Kind,
    Reason,
    pack,
    unpack,
)
from peer.mesh.guards.yamux_limits import DeviceShare, YamuxLimits
from peer.mesh.guards.yamux_stream import SafeYamuxStream, YamuxSession

_SYN, _FIN, _RST = int(Flag.SYN), int(Flag.FIN), int(Flag.RST)
"""Looked at in every frame: an operation on a Flag is twenty times one on a number."""


class SafeYamux(YamuxSession):
    """A multiplexed connection with the interface that libp2p's swarm uses.

    `share` is common to all connections of a device; without one, the connection counts alone.
    """

    def __init__(
        self, secured: ISecureConn, peer_id: ID, *, limits: YamuxLimits, share: DeviceShare | None = None
    ) -> None:
        self.secured_conn = secured
        self.peer_id = peer_id
        self.limits = limits
        self.on_close: Callable[[], Awaitable[None]] | None = None  # the swarm's connection sets it
        self.event_started = trio.Event()
        self.event_closed = trio.Event()
        self.event_shutting_down = trio.Event()
        self.streams: dict[int, SafeYamuxStream] = {}
        self.round_trip = 0.001  # until the first ping is answered
        self._next_id = 1 if secured.is_initiator else 2
        self._share = share or DeviceShare(limits)
        self._backlog: deque[SafeYamuxStream] = deque()
        self._backlog_waiters = trio.lowlevel.ParkingLot()
        self._control: deque[bytes] = deque()
        self._data: deque[tuple[bytes, memoryview | bytes]] = deque()
        self._queued_data = 0
        self._sending: dict[SafeYamuxStream, None] = {}
        """Streams that have something to queue, in the order in which they have their turns."""
        self._writer_waits = trio.lowlevel.ParkingLot()
        self._closing = False
        self._scope = trio.CancelScope()
        self._last_received = trio.current_time()
        self.since = time.time_ns() // 1_000_000
        self._ping_number = 0
        self._ping_sent_at = -float("inf")
        self._ping_answered = True
        self._own_turn = secured.is_initiator
        """Whether the next ping is this side's. They take turns, so that both know how long one takes."""
        self._reads = 0
        self._proof: tuple[float, int] | None = None
        """Until when there has to be another read than so many, or the connection ends."""
        self._nap = trio.CancelScope()
        # The DATA frame being received: its stream (None if already dropped), bytes still to come, whether FIN follows.
        self._body: tuple[SafeYamuxStream | None, int, bool] = (None, 0, False)
        self._partial = b""

    # --- life

    async def start(self) -> None:
        """Run the connection until it ends. Never raises because of the peer: an exception would end the whole host."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    for loop in (self._read_loop, self._write_loop, self._keepalive):
                        nursery.start_soon(self._until_over, loop)
                    self.event_started.set()
        finally:
            await self._finish()
        if self.on_close is not None:
            await self.on_close()

    async def _until_over(self, loop: Callable[[], Awaitable[None]]) -> None:
        # The end of one loop ends the connection: a closed socket, a bad frame, a failed decryption.
        with suppress(Exception):
            await loop()
        self._scope.cancel()

    async def _finish(self) -> None:
        self.event_shutting_down.set()
        for stream in list(self.streams.values()):
            stream.break_off(drop=False)
            self.forget(stream)
        self._backlog.clear()
        self._backlog_waiters.unpark_all()
        # Suppressed: it is closed either way.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 2), suppress(Exception):
            await self.secured_conn.close()
        self.event_closed.set()

    async def close(self, reason: int = Reason.NORMAL) -> None:
        """Send GO_AWAY, give queued frames `close_grace` seconds, then end the connection. Idempotent."""
        if self.event_closed.is_set():
            return
        with trio.CancelScope(shield=True):
            if not self.event_started.is_set():
                await self._finish()
                return
            if not self._closing:
                self._data.append((pack(Kind.GO_AWAY, 0, 0, reason), b""))  # behind the data
                self._closing = True
                self._writer_waits.unpark_all()
                with trio.move_on_after(self.limits.close_grace):
                    await self.event_closed.wait()
                self._scope.cancel()
            await self.event_closed.wait()

    def abort(self) -> None:
        """End the connection at once, without GO_AWAY; `on_close` is called afterwards."""
        self._scope.cancel()

    @property
    def is_initiator(self) -> bool:
        """Whether this side dialled."""
        return bool(self.secured_conn.is_initiator)

    @property
    def is_established(self) -> bool:
        """Whether streams can be opened now."""
        return self.event_started.is_set() and not self.event_shutting_down.is_set() and not self._closing

    @property
    def is_closed(self) -> bool:
        """Whether everything is released."""
        return bool(self.event_closed.is_set())

    def get_transport_addresses(self) -> list[Multiaddr]:
        """Return the remote multiaddrs of the transport."""
        return self.secured_conn.get_transport_addresses()

    def get_connection_type(self) -> ConnectionType:
        """Return libp2p's ConnectionType: direct or relayed."""
        return self.secured_conn.get_connection_type()

    def get_remote_address(self) -> tuple[str, int] | None:
        """Return the peer's (IP address, port)."""
        address: tuple[str, int] | None = self.secured_conn.get_remote_address()
        return address

    # --- streams

    async def open_stream(self) -> SafeYamuxStream:
        """Open a stream. Waits for nothing, so a cancelled caller leaves nothing behind. Raises MuxedStreamError."""
        if not self.is_established:
            raise MuxedStreamError("the connection is closing")
        if self._share.outbound >= self.limits.outbound_streams or self._next_id > MAX_STREAM_ID:
            raise MuxedStreamError("too many streams are open to this peer")
        stream = SafeYamuxStream(self._next_id, self)
        self._next_id += 2
        self._share.outbound += 1
        self.streams[stream.stream_id] = stream
        self.queue_control(pack(Kind.WINDOW_UPDATE, Flag.SYN, stream.stream_id, 0))
        return stream

    async def accept_stream(self) -> SafeYamuxStream:
        """Return the next stream the peer opened. Raises MuxedConnUnavailable after the end of the connection."""
        await trio.lowlevel.checkpoint()
        while not self._backlog:
            if self.event_shutting_down.is_set():
                raise MuxedConnUnavailable("the connection is closed")
            await self._backlog_waiters.park()
        return self._backlog.popleft()

    def forget(self, stream: SafeYamuxStream) -> None:
        """Drop a stream that is over in both directions."""
        if self.streams.pop(stream.stream_id, None) is not None:
            if self._is_theirs(stream.stream_id):
                self._share.inbound -= 1
            else:
                self._share.outbound -= 1
            self._share.spare_window += stream.extra_window
        self._sending.pop(stream, None)

    def grow_window(self, size: int) -> int:
        """Return how much a window of `size` bytes may grow now: as much again, the rest of the budget, or nothing."""
        grown = max(0, min(size, self.limits.max_window - size, self._share.spare_window))
        self._share.spare_window -= grown
        return grown

    def _is_theirs(self, stream_id: int) -> bool:
        return stream_id % 2 != self._next_id % 2

    # --- writing

    @property
    def has_room(self) -> bool:
        """Whether another data frame may be queued."""
        return self._queued_data < self.limits.queued_data

    def queue_frames_of(self, stream: SafeYamuxStream) -> None:
        """Have a stream queue its frames, in turns with others, now and whenever the writer's queue has room.

        No task but the writer runs for that: one that writes much is woken when all of it is queued.
        """
        self._sending.setdefault(stream)
        self._give_turns()

    def _give_turns(self) -> None:
        while self._sending and self.has_room:
            stream = next(iter(self._sending))
            del self._sending[stream]
            stream.queue_frames()
            if stream.may_send:
                self._sending[stream] = None  # behind the others

    def queue_data(self, header: bytes, data: memoryview | bytes) -> None:
        """Queue one DATA frame, in the stream's turn."""
        self._data.append((header, data))
        self._queued_data += len(data)
        self._writer_waits.unpark_all()

    def queue_fin(self, stream_id: int) -> None:
        """Queue a FIN behind the data already queued, which it must not overtake."""
        self._data.append((pack(Kind.WINDOW_UPDATE, Flag.FIN, stream_id, 0), b""))
        self._writer_waits.unpark_all()

    def queue_control(self, frame: bytes) -> None:
        """Queue a frame that goes before data. A full queue means a flood: the connection ends."""
        if len(self._control) >= self.limits.control_frames:
            self._scope.cancel()
            return
        self._control.append(frame)
        self._writer_waits.unpark_all()

    async def _write_loop(self) -> None:
        with trio.CancelScope() as stalled:  # one for all: to make one for each batch takes several times as long
            while True:
                if not (self._control or self._data):
                    if self._closing:
                        return
                    await self._writer_waits.park()
                    continue
                batch, size = self._next_batch()
                stalled.deadline = trio.current_time() + self.limits.write_stall
                await self.secured_conn.write(batch)
                stalled.deadline = float("inf")
                if size:
                    # Only now: what the socket has not taken yet still stands before whatever is queued next.
                    self._queued_data -= size
                    self._give_turns()

    def _next_batch(self) -> tuple[bytes, int]:
        """Take all that is queued, control frames first; return it and the bytes of data in it.

        So statements go with the bulk before them, and the bulk in few writes: its frames are as many as `queued_data`.
        """
        parts: list[bytes | memoryview] = [*self._control]
        self._control.clear()
        size = 0
        for header, data in self._data:
            parts += (header, data)
            size += len(data)
        self._data.clear()
        return b"".join(parts), size

    # --- reading

    async def _read_loop(self) -> None:
        while True:
            data = await self.secured_conn.read()
            if not data:
                return
            self._last_received = trio.current_time()
            self._reads += 1
            if not self._received(data):
                return

    def _received(self, data: bytes) -> bool:
        """Process bytes off the wire; return False if the peer violated the protocol or sent GO_AWAY."""
        view = memoryview(self._partial + data if self._partial else data)
        while view.nbytes:
            stream, remaining, fin = self._body
            if remaining:
                piece = view[:remaining]
                remaining -= len(piece)
                self._body = (stream, remaining, fin)
                if stream is not None and not stream.received(piece):
                    return False
                if stream is not None and fin and not remaining:
                    stream.fin_received()
                view = view[len(piece) :]
            elif view.nbytes < HEADER_BYTES:
                break
            else:
                try:
                    header = unpack(view)
                except ValueError:
                    return False
                view = view[HEADER_BYTES:]
                if not self._received_header(header):
                    return False
        self._partial = bytes(view)
        return True

    def _received_header(self, header: Header) -> bool:
        if header.kind is Kind.PING:
            if header.flags & _SYN:
                self.queue_control(pack(Kind.PING, Flag.ACK, 0, header.length))
                self._own_turn = self._ping_answered or self.is_initiator  # where both asked at once, one goes on
            elif header.length == self._ping_number:
                self._ping_answered = True
                self.round_trip = max(0.001, trio.current_time() - self._ping_sent_at)
            return True
        if header.kind is Kind.GO_AWAY:
            return False
        if header.flags & _SYN and not self._received_syn(header.stream_id):
            return False
        stream = self.streams.get(header.stream_id)
        if header.kind is Kind.DATA:
            # A stream that we reset may still receive data in flight: its body is read and dropped.
            self._body = (stream, header.length, bool(header.flags & _FIN))
        elif stream is not None:
            stream.window_updated(header.length)
        if stream is not None and header.flags & _RST:
            stream.break_off(drop=True)
            self.forget(stream)
        elif stream is not None and header.flags & _FIN and not self._body[1]:
            stream.fin_received()
        return True

    def _received_syn(self, stream_id: int) -> bool:
        """Accept or reset a stream the peer opens; return False if its number violates the protocol."""
        if stream_id == 0 or not self._is_theirs(stream_id) or stream_id in self.streams:
            return False
        if self._share.inbound >= self.limits.inbound_streams or len(self._backlog) >= self.limits.inbound_streams:
            self.queue_control(pack(Kind.WINDOW_UPDATE, Flag.RST, stream_id, 0))
            return True
        stream = SafeYamuxStream(stream_id, self)
        self.streams[stream_id] = stream
        self._share.inbound += 1
        self.queue_control(pack(Kind.WINDOW_UPDATE, Flag.ACK, stream_id, 0))
        self._backlog.append(stream)
        self._backlog_waiters.unpark_all()
        return True

    # --- keepalive

    def prove(self, within: float) -> None:
        """End the connection unless the peer sends something within so many seconds, for which a ping asks."""
        until = trio.current_time() + within
        if self._proof is None or self._reads > self._proof[1]:
            self._proof = (until, self._reads)
        else:
            self._proof = (min(until, self._proof[0]), self._proof[1])
        self._ping()
        self._nap.cancel()

    def _ping(self) -> None:
        self._ping_number = (self._ping_number + 1) % (1 << 32)
        self._ping_sent_at = trio.current_time()
        self._ping_answered = self._own_turn = False
        self.queue_control(pack(Kind.PING, Flag.SYN, 0, self._ping_number))

    async def _keepalive(self) -> None:
        """Ask whether the peer is there once it was silent for long; return when it must be taken for gone."""
        self._ping()
        while True:
            if self._proof is not None and self._reads > self._proof[1]:
                self._proof = None
            ends = self._last_received + self.limits.dead_after
            if self._proof is not None:
                ends = min(ends, self._proof[0])
            now = trio.current_time()
            if now >= ends:
                return
            patience = self.limits.ping_every * (1.0 if self._own_turn else 1.5)
            due = max(self._last_received, self._ping_sent_at) + patience
            if now >= due:
                self._ping()
                continue
            await self._sleep_until(min(due, ends))

    async def _sleep_until(self, deadline: float) -> None:
        """Sleep until then, or until `_nap` is cancelled."""
        with trio.CancelScope(deadline=deadline) as self._nap:
            await trio.sleep_forever()
