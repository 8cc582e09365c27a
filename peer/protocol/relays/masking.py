"""Masking the frames of a WebSocket (RFC 6455 5.3) in C, in place of wsproto's masking. Pure.

A pipe's bytes are masked by whoever sends them to the relay and unmasked there. wsproto does that in Python, in four
passes over every fourth byte, which was a fifth of all that a relayed transfer costs; pycryptodome, which libp2p
brings, has the one loop it takes. The key is still fresh and random for each frame: that is wsproto's part.
"""

from __future__ import annotations

from Crypto.Util.strxor import strxor
from wsproto import frame_protocol


class Masker:
    """The masking of one frame, whose payload comes in parts: as wsproto.frame_protocol.XorMaskerSimple."""

    def __init__(self, masking_key: bytes | bytearray) -> None:
        """`masking_key`: 4 bytes."""
        self._key = bytes(masking_key)

    def process(self, data: bytearray) -> bytearray:
        """Return the next part, masked or unmasked. In place: wsproto hands over copies of its own."""
        size = len(data)
        if size:
            key = self._key * (size // 4 + 1)
            strxor(data, memoryview(key)[:size], output=data)
            self._key = (self._key * 2)[size % 4 : size % 4 + 4]
        return data


def mask_in_c() -> None:
    """Have all of this process's WebSockets mask so. wsproto has no other place to say it."""
    frame_protocol.XorMaskerSimple = Masker  # type: ignore[misc, assignment]
