"""Frames on a byte stream: an unsigned varint length, then that many bytes. Their content: codec.py. Pure.

The varint is LEB128 as in multiformats "unsigned-varint": seven bits per byte, least significant group first, shortest
form only. A length has at most four bytes (256 MiB); each reader sets its own, smaller limit.
"""

from __future__ import annotations

from peer.protocol.errors import NO_FIX, Invalid, TooLarge

MAX_VARINT_BYTES = 4


def encode_varint(number: int) -> bytes:
    """Return `number` (0 … 2^28 - 1) as a varint of one to four bytes. Raises TooLarge."""
    if not 0 <= number < 1 << 7 * MAX_VARINT_BYTES:
        raise TooLarge(f"{number} does not fit a frame length", fix=NO_FIX)
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def frame(payload: bytes) -> bytes:
    """Return `payload` as one frame. Raises TooLarge beyond 2^28 - 1 bytes."""
    return encode_varint(len(payload)) + payload


class Deframer:
    """Splits a byte stream into frames, whatever the sizes of the pieces, and returns raw bytes after a frame.

    Buffers what was fed and not yet taken. A length beyond the limit is refused as soon as it is parsed, before any of
    the frame's bytes arrive, so a caller that feeds only after `next_frame` returned None never buffers more than one
    frame and one piece.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def __len__(self) -> int:
        """The number of buffered bytes."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        self._buffer += data

    def next_frame(self, max_bytes: int) -> bytes | None:
        """Return the next frame's payload, or None if more bytes are needed.

        Raises TooLarge for a payload longer than `max_bytes`, Invalid for a varint that is too long or not minimal.
        """
        length = 0
        for index in range(MAX_VARINT_BYTES):
            if index >= len(self._buffer):
                return None
            byte = self._buffer[index]
            length |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                if byte == 0 and index > 0:
                    raise Invalid("a frame length is not in its shortest form", fix=NO_FIX)
                break
        else:
            raise Invalid(f"a frame length has more than {MAX_VARINT_BYTES} bytes", fix=NO_FIX)
        if length > max_bytes:
            raise TooLarge(f"a frame of {length} bytes is more than the {max_bytes} allowed", fix=NO_FIX)
        start = index + 1
        if len(self._buffer) < start + length:
            return None
        payload = bytes(memoryview(self._buffer)[start : start + length])
        del self._buffer[: start + length]
        return payload

    def take(self, max_bytes: int) -> bytes:
        """Return up to `max_bytes` buffered bytes as they are, without framing."""
        data = bytes(memoryview(self._buffer)[:max_bytes])
        del self._buffer[: len(data)]
        return data
