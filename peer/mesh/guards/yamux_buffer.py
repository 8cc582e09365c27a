"""Bytes that were received on a stream and not yet read: at most one copy of each, and no more memory than they have.

One growing buffer would be copied whenever it grows, and its memory asked of the system again after each read.
"""

from __future__ import annotations

from collections import deque

LARGE = 32 * 1024
"""Bytes of a piece that is kept as it came; smaller ones are put together."""


class ReceivedBytes:
    """Bytes in the order in which they came.

    A view is kept only where it is nearly all of the message that it keeps in memory. So what a peer makes us hold is
    at most a sixteenth more than what it was allowed to send, however it cuts its frames.
    """

    def __init__(self) -> None:
        self._pieces: deque[memoryview | bytearray] = deque()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def append(self, data: memoryview) -> None:
        """Add what is in a view of one message."""
        size = data.nbytes
        self._size += size
        if size >= LARGE and size * 16 >= len(data.obj) * 15:  # type: ignore[arg-type]  # bytes: a decrypted message
            self._pieces.append(data)
        elif self._pieces and isinstance(last := self._pieces[-1], bytearray) and len(last) < LARGE:
            last += data
        else:
            self._pieces.append(bytearray(data))

    def take(self, n: int) -> bytes:
        """Remove the first `n` bytes, or all if there are fewer, and return them."""
        if n >= self._size:
            taken = b"".join(self._pieces)
            self.clear()
            return taken
        parts: list[memoryview | bytearray] = []
        left = n
        while left:
            piece = self._pieces.popleft()
            if len(piece) > left:
                self._pieces.appendleft(bytearray(piece[left:]))
                piece = piece[:left]
            parts.append(piece)
            left -= len(piece)
        self._size -= n
        return b"".join(parts)

    def clear(self) -> None:
        """Drop all of it."""
        self._pieces.clear()
        self._size = 0
