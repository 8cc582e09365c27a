"""The courier's two frames. Pure: no streams, no time; what each code means is in peer/protocol/acknowledgements.py.

A statement is opaque bytes here. Frames are CBOR maps inside varint-length frames (peer/protocol/frames.py):
statement {0: 0, 1: seq, 2: bytes}, answer {0: 1, 1: seq, 2: code, 3: message, 4: fix}. `seq` counts from 0 on each
stream; it pairs answers with statements and means nothing afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

from peer.protocol import codec
from peer.protocol.acknowledgements import Acknowledgement
from peer.protocol.errors import Invalid

COURIER = "/dispatch/courier/1"

MAX_STATEMENT = codec.MAX_BYTES
MAX_FRAME = MAX_STATEMENT + 32
"""A statement and the map around it (at most 1 + 2 + 1 + 9 + 1 + 5 bytes)."""

MAX_TEXT = 1000
"""Characters kept of an answer's message and of its fix."""
MAX_ANSWER = 10 * 1024

_KIND, _SEQ, _BODY, _MESSAGE, _FIX = 0, 1, 2, 3, 4
_STATEMENT, _ANSWER = 0, 1


@dataclass(frozen=True)
class Parcel:
    """One statement in the outbox. Parcels with the same `ordering_key` are never in flight together."""

    key: str
    ordering_key: str | None
    priority: bool
    raw: bytes


def statement_frame(seq: int, raw: bytes) -> dict[int, codec.Value]:
    """Return the statement frame as a value."""
    return {_KIND: _STATEMENT, _SEQ: seq, _BODY: raw}


def answer_frame(seq: int, answer: Acknowledgement) -> dict[int, codec.Value]:
    """Return the answer frame as a value, its texts cut to MAX_TEXT characters."""
    return {
        _KIND: _ANSWER,
        _SEQ: seq,
        _BODY: answer.code,
        _MESSAGE: answer.message[:MAX_TEXT],
        _FIX: answer.fix[:MAX_TEXT],
    }


def read_statement(value: codec.Value) -> tuple[int, bytes]:
    """Return (seq, statement) of a statement frame. Raises Invalid."""
    match value:
        case {0: 0, 1: int(seq), 2: bytes(raw), **rest} if not rest and seq >= 0:
            return seq, raw
    raise Invalid("that is not a statement frame")


def read_answer(value: codec.Value) -> tuple[int, Acknowledgement]:
    """Return (seq, answer) of an answer frame. Raises Invalid."""
    match value:
        case {0: 1, 1: int(seq), 2: int(code), 3: str(message), 4: str(fix), **rest} if not rest and seq >= 0:
            return seq, Acknowledgement(code, message[:MAX_TEXT], fix[:MAX_TEXT])
    raise Invalid("that is not an answer frame")
