"""How many WebSocket frames (RFC 6455 5.2) some bytes hold: what wsproto and trio-websocket do not bound. Pure.

They bound the bytes of a message, but a message may have any number of empty fragments, each of which they keep; and
256 KiB of received bytes may be 40,000 frames, which they handle without a pause in which others have their turn.
"""

from __future__ import annotations

from typing import Final

from peer.protocol.codec import Malformed

CONTROL: Final = 0x08
PING: Final = 0x09
PONG: Final = 0x0A
FINAL: Final = 0x80
MASKED: Final = 0x80
_LENGTH_BYTES: Final = {126: 2, 127: 8}


def missing_of(header: bytearray) -> int:
    """Return how many bytes of a frame's header are missing, as far as can be told by now."""
    if len(header) < 2:
        return 2 - len(header)
    length = 2 + _LENGTH_BYTES.get(header[1] & 0x7F, 0) + (4 if header[1] & MASKED else 0)
    return length - len(header)


def payload_of(header: bytearray) -> int:
    """Return how many bytes of payload follow a whole header."""
    more = _LENGTH_BYTES.get(header[1] & 0x7F, 0)
    return int.from_bytes(header[2 : 2 + more], "big") if more else header[1] & 0x7F


class FrameCounter:
    """Follows the frames of one direction. `fragments`: the most frames of one message."""

    def __init__(self, *, fragments: int) -> None:
        self._most = fragments
        self._fragments = 0
        self._header = bytearray()  # of the frame that is being read, at most 14 bytes
        self._payload = 0  # bytes that are left of it
        self.pinged = False
        """Whether there was a ping or a pong."""

    @property
    def between(self) -> bool:
        """Whether all that was begun has ended, so that a frame's header comes next."""
        return not self._header and not self._payload

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
                step = min(missing_of(self._header), len(data) - at)
                frames += not self._header
                self._header += data[at : at + step]
                if not missing_of(self._header):
                    self._begin()
            at += step
        return at, frames

    def _begin(self) -> None:
        first = self._header[0]
        self._payload = payload_of(self._header)
        self._header.clear()
        self.pinged = self.pinged or first & 0x0F in (PING, PONG)
        if not first & CONTROL:
            self._fragments += 1
            if self._fragments > self._most:
                raise Malformed(f"a message has more than {self._most} frames")
            if first & FINAL:
                self._fragments = 0
