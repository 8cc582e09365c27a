"""A client's frames as the frames that the other end of its pipe gets: unmasked, otherwise as they were. Pure.

A relay reads nothing of what it passes on, so gathering messages, as wsproto and trio-websocket do, would be wasted:
a sixth of what a relayed byte cost here, a third with TLS. What is no piece of a pipe (pings, a closing handshake) is
left to them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from wsproto.frame_protocol import CloseReason, Opcode

from peer.protocol.relays.masking import mask
from rendezvous.relay.frames import CONTROL, FINAL, MASKED, missing_of, payload_of

_RESERVED = 0x70


class Refused(Exception):
    """A frame that has no place in a pipe. `code`: the close code (RFC 6455 7.4.1)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(slots=True)
class Taken:
    """What was read of some bytes. `size`: how many; `frames`: how many began.

    `pieces`: whole frames for the other end, each with the size of its payload. `rest`: control frames as they came.
    """

    size: int = 0
    frames: int = 0
    pieces: list[tuple[bytearray, int]] = field(default_factory=list)
    rest: bytearray = field(default_factory=bytearray)


class Pieces:
    """Reads one direction of a pipe from where a frame begins.

    `largest`: the most bytes of one message, and so of one frame; `fragments`: the most frames of one message.
    """

    def __init__(self, *, largest: int, fragments: int) -> None:
        self._largest = largest
        self._most = fragments
        self._message = 0  # bytes of the message so far
        self._fragments = 0
        self._header = bytearray()  # of the frame that is being read, at most 14 bytes
        self._piece: bytearray | None = None  # that frame, if it is a piece: its own header, and the payload so far
        self._key = b""
        self._start = 0  # of its payload
        self._left = 0  # bytes of the payload that are still to come

    def take(self, data: bytes, at_most: int) -> Taken:
        """Read on in `data`, not beyond the frame that is the `at_most`-th to begin there. Raises Refused."""
        taken = Taken()
        view = memoryview(data)
        while taken.size < len(data):
            if not self._left:
                if taken.frames == at_most and not self._header:
                    break
                taken.frames += not self._header
                step = min(missing_of(self._header), len(data) - taken.size)
                self._header += view[taken.size : taken.size + step]
                taken.size += step
                if missing_of(self._header):
                    continue
                self._begin(taken)
            step = min(self._left, len(data) - taken.size)
            part = view[taken.size : taken.size + step]
            if self._piece is None:
                taken.rest += part
            else:
                at = len(self._piece) - self._left
                self._piece[at : at + step] = part
            self._left -= step
            taken.size += step
            if not self._left:
                self._end(taken)
        return taken

    def _begin(self, taken: Taken) -> None:
        """Decide what a frame is by its header."""
        first, size = self._header[0], payload_of(self._header)
        if first & _RESERVED or not self._header[1] & MASKED:
            raise Refused(CloseReason.PROTOCOL_ERROR, "that is no frame of a client")
        self._left = size
        if first & CONTROL:
            if size > 125 or not first & FINAL:
                raise Refused(CloseReason.PROTOCOL_ERROR, "a control frame is short, and one frame")
            taken.rest += self._header
        else:
            self._count(first, size)
            self._key = bytes(self._header[-4:])
            # A server's header is a client's without the mask (RFC 6455 5.1).
            own = bytes((first, self._header[1] & ~MASKED)) + self._header[2:-4]
            self._start = len(own)
            self._piece = bytearray(self._start + size)  # untouched memory, until that much has come
            self._piece[: self._start] = own
        self._header.clear()

    def _count(self, first: int, size: int) -> None:
        """Hold one data frame against what a message may be."""
        opcode = first & 0x0F
        if opcode == Opcode.TEXT:
            raise Refused(CloseReason.UNSUPPORTED_DATA, "messages are binary")
        if opcode != (Opcode.CONTINUATION if self._fragments else Opcode.BINARY):
            raise Refused(CloseReason.PROTOCOL_ERROR, "that frame does not follow the one before")
        self._fragments += 1
        self._message += size
        if self._message > self._largest:
            raise Refused(CloseReason.MESSAGE_TOO_BIG, f"a message has more than {self._largest} bytes")
        if self._fragments > self._most:
            raise Refused(CloseReason.PROTOCOL_ERROR, f"a message has more than {self._most} frames")
        if first & FINAL:
            self._message = self._fragments = 0

    def _end(self, taken: Taken) -> None:
        if self._piece is None:
            return
        payload = memoryview(self._piece)[self._start :]
        mask(payload, payload, self._key)
        taken.pieces.append((self._piece, len(payload)))
        self._piece = None
