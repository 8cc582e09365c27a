"""Strict deterministic CBOR: one value, one encoding (RFC 8949 4.2.1), everything else refused. Pure.

Only the data model that statements need: unsigned and negative 64-bit integers, byte and text strings, booleans, null,
arrays, and maps whose keys are all unsigned integers or all text. No floats, tags, undefined or indefinite lengths.
cbor2's canonical mode sorts map keys length-first; for keys of one kind that is the same as the bytewise order that
RFC 8949 asks for (a longer integer or string has a larger head), which is why the two kinds may not mix.
"""

from __future__ import annotations

from io import BytesIO
from typing import TypeAlias

import cbor2

from peer.protocol.errors import Invalid, TooLarge

Value: TypeAlias = (
    "int | bytes | str | bool | list[Value] | dict[int, Value] | dict[str, Value] | dict[int | str, Value] | None"
)

MAX_DEPTH = 16
MAX_BYTES = 1 << 20
"""1 MiB: the largest statement is a dispatch with a task of 100,000 and a background of 20,000 characters of four
bytes each, under 600 kB; what is larger travels as a blob."""

_UINT64 = (1 << 64) - 1


class Malformed(Invalid):
    """Bytes that are not one value in its one encoding."""

    default_fix = "the other side must update; nothing was stored"


def encode(value: object) -> bytes:
    """Return the deterministic encoding of `value`. Raises Malformed for what the data model does not have."""
    _check(value, MAX_DEPTH)
    return cbor2.dumps(value, canonical=True)


def decode(data: bytes, *, max_bytes: int = MAX_BYTES) -> Value:
    """Return the value that `data` encodes. Raises TooLarge above `max_bytes`, Malformed for any other encoding."""
    if len(data) > max_bytes:
        raise TooLarge(f"{len(data)} bytes of CBOR, at most {max_bytes} are read")
    source = BytesIO(data)
    try:
        # read_size=1 leaves what follows the first value unread, so that trailing bytes show in tell().
        value = cbor2.CBORDecoder(
            source, max_depth=MAX_DEPTH, allow_indefinite=False, allow_duplicate_keys=False, read_size=1
        ).decode()
    except (cbor2.CBORError, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise Malformed("that is not well-formed deterministic CBOR") from error
    if source.tell() != len(data):
        raise Malformed(f"{len(data) - source.tell()} bytes follow the end of the value")
    _check(value, MAX_DEPTH)
    if cbor2.dumps(value, canonical=True) != data:
        raise Malformed("that CBOR is not in its deterministic encoding")
    return value  # type: ignore[no-any-return]  # _check has just established the type


def _check(value: object, depth: int) -> None:
    if depth < 0:
        raise Malformed(f"nested deeper than {MAX_DEPTH}")
    match value:
        case None | bool() | bytes() | str():
            return
        case int():
            if not -_UINT64 - 1 <= value <= _UINT64:
                raise Malformed("an integer of more than 64 bits")
        case list() | tuple():
            for item in value:
                _check(item, depth - 1)
        case dict():
            kinds = {type(key) for key in value}
            if not (kinds <= {int} or kinds == {str}) or any(isinstance(key, int) and key < 0 for key in value):
                raise Malformed("map keys must be all unsigned integers or all text")
            for key, item in value.items():
                if isinstance(key, int) and key > _UINT64:
                    raise Malformed("an integer of more than 64 bits")
                _check(item, depth - 1)
        case _:
            raise Malformed(f"{type(value).__name__} is not part of the data model")
