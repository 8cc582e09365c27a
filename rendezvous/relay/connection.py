"""One WebSocket of a device: its messages, and how it ends. Which messages there are: control.py, pipes.py.

trio-websocket leaves some of it to others: a closing handshake waits for ever, and a message that is too large leaves
the stream open. So whoever wants a connection to end calls `end`, and serving.py closes what is left of it in time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NoReturn

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from peer.protocol.errors import DispatchError
from peer.protocol.relays import messages
from rendezvous.relay.handshakes import Handshake
from rendezvous.relay.limits import OUTBOUND_MESSAGES
from rendezvous.relay.streams import GuardedStream, TurnStream

LEFT: Final = 1000
STOPS: Final = 1001
NO_MESSAGE: Final = 1002
NO_BYTES: Final = 1003
NOT_PROVEN: Final = 4401
NOT_ALLOWED: Final = 4403
NO_TICKET: Final = 4404
TOO_LATE: Final = 4408
REPLACED: Final = 4409
TOO_MANY: Final = 4429
FULL: Final = 4503
"""Close codes: those of RFC 6455, and from 4000 on 4000 and what HTTP would have said."""


@dataclass(eq=False, slots=True)
class Connection:
    """A connection from its first byte on. `scope`: what serves it; `late`: how it ends by the deadline of that.

    `plain`: its socket. `client`: the IP address that it comes from, "" until that is known; trusted proxies say where
    from before them.
    """

    scope: trio.CancelScope
    handshake: Handshake
    plain: TurnStream
    ending: tuple[int, str] | None = None
    late: tuple[int, str] = (TOO_LATE, "too slow")
    socket: WebSocketConnection | None = None
    stream: GuardedStream | None = None
    client: str = ""

    def end(self, code: int, reason: str) -> None:
        """End it with a close code and one sentence. What it ended with first counts."""
        if self.ending is None:
            self.ending = (code, reason)
        self.scope.cancel()

    async def fail(self, code: int, reason: str) -> NoReturn:
        """End it from inside of what serves it."""
        self.end(code, reason)
        await trio.sleep_forever()

    async def receive(self) -> bytes:
        """Return the next message; end the connection where it is a text, or over."""
        assert self.socket is not None
        try:
            message = await self.socket.get_message()
        except ConnectionClosed:
            await self.fail(LEFT, "")
        if isinstance(message, str):
            await self.fail(NO_BYTES, "messages are binary")
        return message

    async def receive_message(self) -> messages.Message:
        """Return the next message of the protocol; end the connection where it is none."""
        raw = await self.receive()
        try:
            return messages.decode(raw)
        except DispatchError:
            await self.fail(NO_MESSAGE, "that is not a relay message")

    async def send(self, raw: bytes) -> None:
        """Send one message; end the connection where it is over."""
        assert self.socket is not None
        try:
            await self.socket.send_message(raw)
        except ConnectionClosed:
            await self.fail(LEFT, "")

    async def forward(self, frame: bytearray) -> bool:
        """Send a frame that was made elsewhere; return whether it is still there. How it ends is its own matter."""
        assert self.socket is not None and self.stream is not None
        if self.socket.closed:  # no frame comes after that of closing (RFC 6455 5.5.1)
            return False
        try:
            await self.stream.send_all(memoryview(frame))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        return True


class ControlConnection:
    """The control connection of a device, as others see it: they leave messages for it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._send, self.outbound = trio.open_memory_channel[bytes](OUTBOUND_MESSAGES)

    def tell(self, message: messages.OwnMessage) -> None:
        """Leave a message. A device that does not read those before is dropped."""
        try:
            self._send.send_nowait(messages.encode(message))
        except trio.WouldBlock:
            self.connection.end(TOO_MANY, "too many messages are waiting for this device")


@dataclass(eq=False, slots=True)
class PipeEnd:
    """One end of a pipe. `joined`: both ends are there; `told`: this one was told so, and may get bytes."""

    connection: Connection
    joined: trio.Event = field(default_factory=trio.Event)
    told: trio.Event = field(default_factory=trio.Event)
