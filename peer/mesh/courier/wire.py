"""The courier's frames, between typed values and CBOR. Pure; when a frame may come is in sender.py and receiver.py.

Frames are CBOR maps inside varint-length frames (peer/protocol/frames.py). Key 0 is the kind of the frame:

    statement        {0: 0, 1: seq, 2: bytes}
    acknowledgement  {0: 1, 1: seq, 2: code, 3: message, 4: fix}
    hello            {0: 2, 1: bytes}

Statements and hellos are opaque bytes here. `seq` counts the statements of a stream from 0; it pairs an acknowledgement
with its statement and means nothing after the stream has ended.

Room to grow: a frame of a higher kind is ignored, MAX_UNKNOWN times on a stream. In a frame of a kind listed here, keys
from FIRST_IGNORED_KEY on are ignored; any other key that is not listed makes the frame invalid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias, TypeGuard

from peer.protocol import codec
from peer.protocol.acknowledgements import Acknowledgement
from peer.protocol.codec import Malformed
from peer.protocol.errors import TooLarge
from peer.protocol.frames import frame

COURIER: Final = "/dispatch/courier/1"

MAX_STATEMENT: Final = codec.MAX_BYTES
MAX_FRAME: Final = MAX_STATEMENT + 1024
"""Bytes of a frame from the opener of a stream: a statement, 18 bytes of map around it, and room for ignored keys."""
MAX_REPLY: Final = 10 * 1024
"""Bytes of a frame from the other side: two texts of MAX_TEXT characters of four bytes, and room for ignored keys."""
MAX_TEXT: Final = 1000
"""Characters kept of the message and of the fix of an acknowledgement."""
MAX_HELLO: Final = 4096
"""Bytes of the content of a hello."""
MAX_UNKNOWN: Final = 64
"""Frames of unknown kinds that are ignored on one stream in one direction. One more ends the stream: a newer peer sends
a few, and an endless series would be a flood."""
FIRST_IGNORED_KEY: Final = 16

_KIND = 0
_STATEMENT, _ACKNOWLEDGEMENT, _HELLO = 0, 1, 2
_SEQ, _RAW, _CODE, _MESSAGE, _FIX = 1, 2, 2, 3, 4
_HELLO_RAW = 1


@dataclass(frozen=True, slots=True)
class StatementFrame:
    """One signed statement."""

    seq: int
    raw: bytes

    def __repr__(self) -> str:
        return f"StatementFrame({self.seq}, {len(self.raw)} bytes)"


@dataclass(frozen=True, slots=True)
class AcknowledgementFrame:
    """The reply to the statement with this `seq`."""

    seq: int
    acknowledgement: Acknowledgement

    def __repr__(self) -> str:
        return f"AcknowledgementFrame({self.seq}, {self.acknowledgement.code})"


@dataclass(frozen=True, slots=True)
class HelloFrame:
    """A device's hello, the first frame on a stream: 1 to MAX_HELLO bytes."""

    raw: bytes

    def __repr__(self) -> str:
        return f"HelloFrame({len(self.raw)} bytes)"


@dataclass(frozen=True, slots=True)
class UnknownFrame:
    """A frame of a kind that this version does not know. Only received, never sent."""

    kind: int


Frame: TypeAlias = StatementFrame | AcknowledgementFrame | HelloFrame | UnknownFrame
OwnFrame: TypeAlias = StatementFrame | AcknowledgementFrame | HelloFrame


def encode(content: OwnFrame) -> bytes:
    """Return the bytes of a frame, length included; the texts of an acknowledgement are cut to MAX_TEXT characters.

    Raises TooLarge for a statement or hello above its bound, Invalid for an empty hello.
    """
    value: dict[int, codec.Value]
    match content:
        case StatementFrame(seq, raw):
            _check_size("a statement", raw, MAX_STATEMENT)
            value = {_KIND: _STATEMENT, _SEQ: seq, _RAW: raw}
        case AcknowledgementFrame(seq, reply):
            value = {_KIND: _ACKNOWLEDGEMENT, _SEQ: seq, _CODE: reply.code}
            value |= {_MESSAGE: reply.message[:MAX_TEXT], _FIX: reply.fix[:MAX_TEXT]}
        case HelloFrame(raw):
            _check_hello(raw)
            value = {_KIND: _HELLO, _HELLO_RAW: raw}
    return frame(codec.encode(value, max_bytes=MAX_FRAME))


def decode(value: codec.Value) -> Frame:
    """Parse a CBOR value as a frame. Raises Invalid, TooLarge."""
    kind = _kind(value)
    if kind > _HELLO:
        return UnknownFrame(kind)
    _check_keys(kind, value)
    match kind, value:
        case 0, {1: seq, 2: bytes(raw)} if _unsigned(seq):
            _check_size("a statement", raw, MAX_STATEMENT)
            return StatementFrame(seq, raw)
        case 1, {1: seq, 2: code, 3: str(message), 4: str(fix)} if _unsigned(seq) and _status(code):
            return AcknowledgementFrame(seq, Acknowledgement(code, message[:MAX_TEXT], fix[:MAX_TEXT]))
        case 2, {1: bytes(raw)}:
            _check_hello(raw)
            return HelloFrame(raw)
    raise Malformed(f"a courier frame of kind {kind} lacks a field, or has one of another type")


_KEYS: Final = {
    _STATEMENT: (_KIND, _SEQ, _RAW),
    _ACKNOWLEDGEMENT: (_KIND, _SEQ, _CODE, _MESSAGE, _FIX),
    _HELLO: (_KIND, _HELLO_RAW),
}


def _kind(value: codec.Value) -> int:
    match value:
        case {0: kind} if _unsigned(kind):
            return kind
    raise Malformed("a courier frame is a map with a kind")


def _check_keys(kind: int, value: codec.Value) -> None:
    """Refuse a key that is neither listed nor to be ignored."""
    assert isinstance(value, dict)
    if len(value) > len(_KEYS[kind]):
        for key in value:
            if key not in _KEYS[kind] and (not isinstance(key, int) or key < FIRST_IGNORED_KEY):
                raise Malformed(f"a courier frame of kind {kind} has no key {key}")


def _unsigned(value: object) -> TypeGuard[int]:
    # `type is`, not isinstance: True is an int to Python and a different value on the wire.
    return type(value) is int and value >= 0


def _status(value: object) -> TypeGuard[int]:
    return type(value) is int and 100 <= value <= 599


def _check_size(what: str, raw: bytes, most: int) -> None:
    if len(raw) > most:
        raise TooLarge(f"{what} of {len(raw)} bytes; at most {most} travel", fix="send less")


def _check_hello(raw: bytes) -> None:
    if not raw:
        raise Malformed("an empty hello")
    _check_size("a hello", raw, MAX_HELLO)
