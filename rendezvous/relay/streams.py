"""What a connection is read from: its socket, in turns; a WebSocket's with bytes given back and frames bounded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from peer.protocol.codec import Malformed
from peer.protocol.relays.messages import MAX_PIECE
from peer.protocol.turns import Place, Turns
from rendezvous.relay.frames import FrameCounter
from rendezvous.relay.pieces import Pieces, Refused

FRAMES_AT_ONCE: Final = 64
"""Frames after which other connections have their turn, about a millisecond."""


class TurnStream(trio.abc.HalfCloseableStream):
    """A socket that waits for its turn after it was sent something or has ended, until its place is free."""

    def __init__(self, stream: trio.SocketStream, place: Place) -> None:
        self._stream = stream
        self.place = place

    @property
    def socket(self) -> trio.socket.SocketType:
        """The socket, as trio's SocketStream has it."""
        return self._stream.socket

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive as trio's streams do."""
        self.place.give_back()
        try:
            data = await self._stream.receive_some(max_bytes)
        except trio.BrokenResourceError:
            await take_turn(self.place)
            raise
        await take_turn(self.place)
        return data

    async def send_all(self, data: bytes | memoryview) -> None:
        """Send as trio's streams do."""
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait as trio's streams do."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """Send the end as trio's streams do."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close as trio's streams do."""
        await self._stream.aclose()


async def take_turn(place: Place) -> None:
    """Wait for a turn, if one is needed."""
    if not place.is_free:
        turn = trio.Event()
        place.ask(turn.set)
        await turn.wait()


class TurnListener(trio.abc.Listener[TurnStream]):
    """Accepts each socket in a turn, in which it then begins: whoever is accepted may end another one."""

    def __init__(self, listener: trio.SocketListener, turns: Turns) -> None:
        self._listener, self._turns = listener, turns

    async def accept(self) -> TurnStream:
        """Accept as trio's listeners do."""
        await trio.lowlevel.wait_readable(self._listener.socket.fileno())
        place = Place(self._turns)
        try:
            await take_turn(place)
            return TurnStream(await self._listener.accept(), place)
        except BaseException:
            place.free()
            raise

    async def aclose(self) -> None:
        """Close as trio's listeners do."""
        await self._listener.aclose()


class GuardedStream(trio.abc.Stream):
    """A stream whose client sends frames; `head` and `after` were read from it already, and are read once more.

    `first`: how many frames it may send before `allow` says how many a second. A client that sends more then is read
    later. One that sends more before, or a ping, or too many fragments, is as good as gone: BrokenResourceError. A ping
    is of no use before, and to answer some of each stranger would cost a fifth of all that strangers cost.
    """

    def __init__(self, stream: trio.abc.Stream, *, head: bytes, after: bytes, first: int, fragments: int) -> None:
        self._stream = stream
        self._head = head
        self._held = after
        self._frames = FrameCounter(fragments=fragments)
        self._pieces = Pieces(largest=MAX_PIECE, fragments=fragments)
        self._onward: Callable[[bytearray, int], Awaitable[None]] | None = None
        self._refuse: Callable[[int, str], object] | None = None
        self._sending = trio.Lock()
        self._rate = 0.0
        self._burst = float(first)
        self._left = float(first)
        self._since = trio.current_time()
        self.opened = trio.Event()
        """Set once the handshake is answered. What trio-websocket gets before it looks at only with what comes next."""
        self.heard = trio.current_time()
        """When the other end last sent something, on trio's clock."""

    def allow(self, *, per_second: float, burst: int) -> None:
        """Let this connection send as many frames from now on."""
        self._rate, self._burst, self._left, self._since = per_second, float(burst), float(burst), trio.current_time()

    def pass_on(
        self, onward: Callable[[bytearray, int], Awaitable[None]], refuse: Callable[[int, str], object]
    ) -> None:
        """Call `onward` with each frame of a piece and the size of its payload, in place of giving it to the reader.

        It is called in the task that reads, which reads on afterwards: so the reader's pace is the writer's. `refuse`:
        with a close code and its reason, for what has no place in a pipe; nothing is read on then.
        """
        self._onward, self._refuse = onward, refuse

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive as trio's streams do, but no more than a few frames."""
        if self._head:
            await trio.lowlevel.checkpoint()
            head, self._head = self._head, b""
            return head
        await self.opened.wait()
        while True:
            if not self._held:
                self._held = bytes(await self._stream.receive_some(max_bytes))
                if not self._held:
                    return b""
                self.heard = trio.current_time()
            await self._wait_for_turn()
            if data := await self._take(min(FRAMES_AT_ONCE, int(self._left))):
                return data

    async def _take(self, at_most: int) -> bytes:
        """Read some frames of what was received; return what is for whoever reads this stream."""
        if self._onward is None or not self._frames.between:
            try:
                # What was begun before there was a pipe ends as it began.
                size, frames = self._frames.take(self._held, at_most if self._onward is None else 0)
            except Malformed as error:
                raise trio.BrokenResourceError(error.message) from error
            if self._frames.pinged and not self._rate:
                raise trio.BrokenResourceError("a ping before the device proved its key")
            self._left -= frames
            data, self._held = self._held[:size], self._held[size:]
            return data
        try:
            taken = self._pieces.take(self._held, at_most)
        except Refused as refused:
            assert self._refuse is not None
            self._refuse(refused.code, refused.reason)
            await trio.sleep_forever()
        self._left -= taken.frames
        self._held = self._held[taken.size :]
        for piece, size in taken.pieces:
            await self._onward(piece, size)
        return bytes(taken.rest)

    async def _wait_for_turn(self) -> None:
        now = trio.current_time()
        self._left = min(self._burst, self._left + (now - self._since) * self._rate)
        self._since = now
        if self._left >= 1:
            return
        if not self._rate:
            raise trio.BrokenResourceError("too many frames before the device proved its key")
        await trio.sleep((1 - self._left) / self._rate)
        self._left, self._since = 1.0, trio.current_time()

    async def send_all(self, data: bytes | memoryview) -> None:
        """Send whole frames as trio's streams do, those of several tasks one after the other."""
        async with self._sending:
            await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait as trio's streams do."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close as trio's streams do."""
        await self._stream.aclose()
