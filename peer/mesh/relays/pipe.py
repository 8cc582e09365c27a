"""A joined pipe as the byte stream that libp2p's handshake begins on."""

from __future__ import annotations

import trio
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError
from trio_websocket import ConnectionClosed, WebSocketConnection

from peer.mesh.relays import websocket
from peer.protocol.relays.messages import MAX_PIECE


class Pipe(ReadWriteCloser):
    """One end of a pipe: what is written comes out at the other, in order. One reader and one writer at a time.

    `peer_id`: the device that has to be at the other end; Noise proves whether it is. `origin`: the relay's.
    """

    def __init__(self, connection: WebSocketConnection, peer_id: str, origin: str) -> None:
        self._connection = connection
        self.peer_id = peer_id
        self.origin = origin
        self._rest: bytes | memoryview = b""
        self.over = trio.Event()
        """Set once it is closed here."""

    async def read(self, n: int | None = None) -> bytes:
        """Return up to `n` bytes, waiting for the first; b"" at the end of the pipe."""
        while not self._rest:
            try:
                message = await self._connection.get_message()
            except ConnectionClosed:
                return b""
            if not isinstance(message, bytes):
                await self.close()
                return b""
            self._rest = message
        rest, self._rest = self._rest, b""
        if n is not None and n < len(rest):
            rest = memoryview(rest)
            rest, self._rest = rest[:n], rest[n:]
        return bytes(rest)  # no copy of a whole message

    async def write(self, data: bytes) -> None:
        """Send bytes, as fast as relay and other end take them. Raises ConnectionClosedError."""
        try:
            for start in range(0, len(data), MAX_PIECE):
                await self._connection.send_message(data[start : start + MAX_PIECE])  # no copy of a whole one
        except ConnectionClosed as error:
            raise ConnectionClosedError("the pipe has ended", transport="relay") from error

    async def close(self) -> None:
        """End the pipe at both ends. Idempotent."""
        try:
            await websocket.close(self._connection)
        finally:
            self.over.set()

    def get_remote_address(self) -> tuple[str, int] | None:
        """Return None: where the other end is, the relay alone knows."""
        return None
