"""How many WebSocket frames some bytes hold: what wsproto and trio-websocket do not bound. Pure.

They bound the bytes of a message, but a message may have any number of empty fragments, each of which they keep; and
256 KiB of received bytes may be 40,000 frames, which they handle without a pause in which others have their turn.
"""

from __future__ import annotations

from peer.protocol.codec import Malformed

_CONTROL = 0x08
_FINAL = 0x80
_MASKED = 0x80
_LENGTH_BYTES = {126: 2, 127: 8}


class FrameCounter:
    """Follows the frames of one direction. `fragments`: the most frames of one message."""

    def __init__(self, *, fragments: int) -> None:
        self._most = fragments
        self._fragments = 0
        self._header = bytearray()  # of the frame that is being read, at most 14 bytes
        self._payload = 0  # bytes that are left of it

    def take(self, data: bytes, at_most: int) -> tuple[int, int]:
        """Read on in `data`, not beyond the frame that is the `at_most`-th to begin there.

        Returns how many bytes were read and how many frames began. Raises Malformed for too many fragments.
        """
        at, frames = 0, 0
        while at < len(data):
            if self._payload:
                step = min(self._payload, len(data) - at)
                self._payload -= step
            elif frames == at_most and not self._header:
                break
            else:
                step = min(self._missing(), len(data) - at)
                frames += not self._header
                self._header += data[at : at + step]
                if not self._missing():
                    self._begin()
            at += step
        return at, frames

    def _missing(self) -> int:
        """How many bytes of the header are missing, as far as can be told by now."""
        if len(self._header) < 2:
            return 2 - len(self._header)
        length = 2 + _LENGTH_BYTES.get(self._header[1] & 0x7F, 0) + (4 if self._header[1] & _MASKED else 0)
        return length - len(self._header)

    def _begin(self) -> None:
        first, second = self._header[0], self._header[1]
        more = _LENGTH_BYTES.get(second & 0x7F, 0)
        self._payload = int.from_bytes(self._header[2 : 2 + more], "big") if more else second & 0x7F
        self._header.clear()
        if not first & _CONTROL:
            self._fragments += 1
            if self._fragments > self._most:
                raise Malformed(f"a message has more than {self._most} frames")
            if first & _FINAL:
                self._fragments = 0
