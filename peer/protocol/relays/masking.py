"""Masking the frames of a WebSocket (RFC 6455 5.3) in C, in place of wsproto's masking. Pure.

A pipe's bytes are masked by whoever sends them to the relay and unmasked there. wsproto does that in Python, in four
passes over every fourth byte, which was a fifth of all that a relayed transfer costs; pycryptodome, which libp2p
brings, has the one loop it takes. The key is fresh and random for each frame, as wsproto's.

A large frame is made here whole, too: wsproto copies its bytes five times, this once. On the wire nothing differs.
"""

from __future__ import annotations

import os
from typing import Final

from Crypto.Util.strxor import strxor
from wsproto import frame_protocol
from wsproto.frame_protocol import FrameProtocol, Opcode

LARGE: Final = 1 << 16
"""Bytes from which on a frame is made here: then its length has eight bytes."""


class Masker:
    """The masking of one frame, whose payload comes in parts: as wsproto.frame_protocol.XorMaskerSimple."""

    def __init__(self, masking_key: bytes | bytearray) -> None:
        """`masking_key`: 4 bytes."""
        self._key = bytes(masking_key)

    def process(self, data: bytearray) -> bytearray:
        """Return the next part, masked or unmasked. In place: wsproto hands over copies of its own."""
        mask(data, memoryview(data), self._key)
        size = len(data)
        self._key = (self._key * 2)[size % 4 : size % 4 + 4]
        return data


def mask(data: bytes | bytearray | memoryview, into: memoryview, key: bytes) -> None:
    """Mask or unmask `data` with a key of 4 bytes, into memory of the same size, which may be its own."""
    if data:
        strxor(data, memoryview(key * (len(data) // 4 + 1))[: len(data)], output=into)


_serialized_by_wsproto = FrameProtocol._serialize_frame


def serialized(protocol: FrameProtocol, opcode: Opcode, payload: bytes = b"", fin: bool = True) -> bytes | bytearray:
    """Return a frame, as FrameProtocol._serialize_frame does."""
    size = len(payload)
    if size < LARGE or protocol.extensions:
        return _serialized_by_wsproto(protocol, opcode, payload, fin)
    header = bytes((fin << 7 | opcode, protocol.client << 7 | 127)) + size.to_bytes(8, "big")
    if not protocol.client:
        return b"".join((header, payload))
    key = os.urandom(4)
    start = len(header) + len(key)
    frame = bytearray(start + size)
    frame[:start] = header + key
    mask(payload, memoryview(frame)[start:], key)
    return frame


def mask_in_c() -> None:
    """Have all of this process's WebSockets mask so. wsproto has no other place to say it."""
    frame_protocol.XorMaskerSimple = Masker  # type: ignore[misc, assignment]
    FrameProtocol._serialize_frame = serialized  # type: ignore[method-assign, assignment]
