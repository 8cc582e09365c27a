"""One Yamux stream: its two windows, its receive buffer and its ends. The connection that carries it is in yamux.py.

Unlike in stock py-libp2p, a writer waits for the peer's window without limit (stock resets the stream after five
seconds), a peer that sends more than its window ends the connection (stock only logs), and what was received is one
buffer, so that frames of two bytes cost no more than the bytes in them. Cancelling a read or a write cannot corrupt the
connection, because no method here writes to it directly.
"""

from __future__ import annotations

from abc import abstractmethod

import trio
from libp2p.abc import IMuxedConn, IMuxedStream
from libp2p.stream_muxer.exceptions import MuxedStreamEOF, MuxedStreamError, MuxedStreamReset

from peer.mesh.guards.yamux_buffer import ReceivedBytes
from peer.mesh.guards.yamux_header import INITIAL_WINDOW, MAX_FRAME_PAYLOAD, Flag, Kind, pack


class YamuxSession(IMuxedConn):
    """What a stream needs of its connection; SafeYamux in yamux.py implements it."""

    round_trip: float
    """Seconds, from the last answered ping; a millisecond before the first."""

    @property
    @abstractmethod
    def has_room(self) -> bool:
        """Whether another data frame may be queued."""

    @abstractmethod
    def queue_frames_of(self, stream: SafeYamuxStream) -> None:
        """Have a stream queue its frames, in turns with others, now and whenever the writer's queue has room."""

    @abstractmethod
    def queue_data(self, header: bytes, data: memoryview | bytes) -> None:
        """Queue one DATA frame, in the stream's turn."""

    @abstractmethod
    def queue_fin(self, stream_id: int) -> None:
        """Queue the end of a stream behind its data."""

    @abstractmethod
    def queue_control(self, frame: bytes) -> None:
        """Queue a frame that goes before data. A full queue means a flood: the connection ends."""

    @abstractmethod
    def forget(self, stream: SafeYamuxStream) -> None:
        """Drop a stream that is over in both directions."""

    @abstractmethod
    def grow_window(self, size: int) -> int:
        """Return how much a window of `size` bytes may grow now: as much again, the rest of the budget, or nothing."""

    @abstractmethod
    def get_remote_address(self) -> tuple[str, int] | None:
        """Return the peer's (IP address, port)."""


class SafeYamuxStream(IMuxedStream):
    """A stream with the interface that libp2p's swarm uses. Made by a YamuxSession only.

    `read` and `write` raise MuxedStreamReset when either side reset it or the connection is gone, `read` raises
    MuxedStreamEOF after the peer's FIN.
    """

    def __init__(self, stream_id: int, session: YamuxSession) -> None:
        self.stream_id = stream_id
        self.muxed_conn = session
        self._session = session
        self._send_window = INITIAL_WINDOW
        self._receive_window = INITIAL_WINDOW
        self._receive_allowance = INITIAL_WINDOW
        self._consumed = 0
        self._granted_at = trio.current_time()
        self._buffer = ReceivedBytes()
        self._unsent = memoryview(b"")
        """What `write` was given and is not queued yet."""
        self._wanted = 1
        """Bytes that have to be buffered before a reader is woken."""
        self._fin_sent = False
        self._fin_received = False
        self._broken = False
        self._released = False
        self._readers = trio.lowlevel.ParkingLot()
        self._writers = trio.lowlevel.ParkingLot()

    # --- what the application calls

    async def read(self, n: int | None = None) -> bytes:
        """Return between one and `n` bytes (all that is buffered if `n` is None or negative), waiting for the first."""
        return await self._read(n, at_least=1)

    async def read_much(self, n: int) -> bytes:
        """Return `n` bytes in one piece, or fewer: half of the window, or what came before the peer's end.

        Bulk is read in a few large pieces by that, however small those are in which it comes. Waiting for more than
        half of the window could last for ever: so much is read before the peer is given window again.
        """
        return await self._read(n, at_least=min(n, self._receive_window // 2))

    async def _read(self, n: int | None, *, at_least: int) -> bytes:
        await trio.lowlevel.checkpoint_if_cancelled()
        parked = False
        self._wanted = at_least
        try:
            while len(self._buffer) < at_least and not (self._broken or self._fin_received):
                await self._readers.park()
                parked = True
        finally:
            self._wanted = 1
        if not self._buffer:
            if self._broken:
                raise MuxedStreamReset("the stream was reset or its connection is gone")
            raise MuxedStreamEOF("the peer finished")
        data = self._buffer.take(len(self._buffer) if n is None or n < 0 else n)
        self._credit(len(data))
        if not parked:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return data

    def take_buffered(self, n: int) -> bytes:
        """Return up to `n` bytes of what is buffered, without waiting: what came before a read was cancelled."""
        return self._buffer.take(n)

    async def write(self, data: bytes) -> None:
        """Hand `data` to the connection's writer, as fast as the peer's window and the writer's queue allow."""
        await trio.lowlevel.checkpoint()
        self._unsent = memoryview(data)
        try:
            while self._unsent.nbytes:
                if self._broken:
                    raise MuxedStreamReset("the stream was reset or its connection is gone")
                if self._fin_sent:
                    raise MuxedStreamError("the stream is closed for writing")
                self._session.queue_frames_of(self)
                if self._unsent.nbytes:
                    # Until all of it is queued or the stream is over: room and window come without this task.
                    await self._writers.park()
        finally:
            self._unsent = memoryview(b"")

    async def close(self) -> None:
        """Finish writing (FIN); reading goes on. Idempotent."""
        if not (self._fin_sent or self._broken):
            self._fin_sent = True
            self._session.queue_fin(self.stream_id)
            self._writers.unpark_all()
            self._settle()
        await trio.lowlevel.checkpoint()

    async def reset(self) -> None:
        """End both directions at once and drop what is buffered. Idempotent, and never waits for the peer."""
        if not (self._broken or (self._fin_sent and self._fin_received)):
            self._session.queue_control(pack(Kind.WINDOW_UPDATE, Flag.RST, self.stream_id, 0))
        self.break_off(drop=True)
        self._session.forget(self)
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def release(self) -> None:
        """Finish writing, drop what was not read, and reset the stream if the peer sends more. Idempotent.

        For a stream whose handler has returned. No reset at once, because the peer would drop what it has not read yet.
        """
        self._released = True
        self._buffer.clear()
        await self.close()

    def set_deadline(self, ttl: int) -> None:
        """Deadlines are trio's cancel scopes, around each call."""
        raise NotImplementedError

    def get_remote_address(self) -> tuple[str, int] | None:
        """Return the peer's (IP address, port)."""
        return self._session.get_remote_address()

    async def __aenter__(self) -> SafeYamuxStream:
        return self

    # --- what the connection calls; nothing here waits

    @property
    def may_send(self) -> bool:
        """Whether `write` has a frame left that the peer's window allows."""
        return bool(self._unsent.nbytes and self._send_window) and not (self._broken or self._fin_sent)

    def queue_frames(self) -> None:
        """Queue frames of what `write` was given, as many as window and room allow; wake it when none are left."""
        while self.may_send and self._session.has_room:
            size = min(self._unsent.nbytes, self._send_window, MAX_FRAME_PAYLOAD)
            self._send_window -= size
            self._session.queue_data(pack(Kind.DATA, 0, self.stream_id, size), self._unsent[:size])
            self._unsent = self._unsent[size:]
        if not self._unsent.nbytes:
            self._writers.unpark_all()

    @property
    def buffered(self) -> int:
        """Bytes received and not yet read."""
        return len(self._buffer)

    @property
    def extra_window(self) -> int:
        """Bytes of receive window beyond the initial one; they count against the connection's budget."""
        return self._receive_window - INITIAL_WINDOW

    def received(self, data: memoryview) -> bool:
        """Buffer data from the peer. Returns False if the peer sent more than it was granted, or after its FIN."""
        self._receive_allowance -= len(data)
        if self._receive_allowance < 0 or self._fin_received:
            return False
        if self._released and data and not self._broken:
            self._session.queue_control(pack(Kind.WINDOW_UPDATE, Flag.RST, self.stream_id, 0))
            self.break_off(drop=True)
            self._session.forget(self)
        if not self._broken and data:
            self._buffer.append(data)
            if len(self._buffer) >= self._wanted:
                self._readers.unpark_all()
        return True

    def window_updated(self, delta: int) -> None:
        """Grow the send window by `delta` bytes, as the peer allows."""
        self._send_window = min(self._send_window + delta, 0xFFFF_FFFF)
        if self._unsent.nbytes:
            self._session.queue_frames_of(self)

    def fin_received(self) -> None:
        """Handle the peer's FIN."""
        self._fin_received = True
        self._readers.unpark_all()
        self._settle()

    def break_off(self, *, drop: bool) -> None:
        """End both directions after a reset or the loss of the connection. `drop`: discard what is buffered."""
        self._broken = True
        if drop:
            self._buffer.clear()
        self._readers.unpark_all()
        self._writers.unpark_all()

    # --- internal

    def _credit(self, size: int) -> None:
        """Give the peer window for what was read, in halves of the window; a fast reader's window doubles.

        As in go-yamux, it doubles if half a window was read within four round trips: then the window was the limit,
        not the path.
        """
        self._consumed += size
        if self._fin_received or self._broken or self._consumed < self._receive_window // 2:
            return
        delta = self._consumed
        now = trio.current_time()
        if now - self._granted_at < 4 * self._session.round_trip:
            grown = self._session.grow_window(self._receive_window)
            self._receive_window += grown
            delta += grown
        self._granted_at = now
        self._consumed = 0
        self._receive_allowance += delta
        self._session.queue_control(pack(Kind.WINDOW_UPDATE, 0, self.stream_id, delta))

    def _settle(self) -> None:
        if self._fin_sent and self._fin_received:
            self._session.forget(self)
