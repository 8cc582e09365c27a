"""Strict deterministic CBOR: one encoding per value (RFC 8949 4.2.1), everything else is refused. Pure.

Only the data model that statements need: unsigned and negative 64-bit integers, byte and text strings, booleans, null,
arrays, and maps whose keys are all unsigned integers or all text. No floats, tags, undefined or indefinite lengths.

`_Scanner` walks the heads of an encoding and refuses each of these with its own error before cbor2 builds any object:
cbor2 alone would compile a stranger's regular expression (tag 35) or compute their decimal fraction (tag 4). `_items`
refuses the same in what is encoded here, so nothing is sent that the receiver would refuse.

cbor2's canonical mode sorts map keys length-first; for keys of one kind that is the same as the bytewise order that
RFC 8949 asks for (a longer integer or string has a larger head), which is why the two kinds may not mix.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NoReturn, TypeAlias

import cbor2

from peer.protocol.errors import Invalid, TooLarge, WithUsualFix

Value: TypeAlias = (
    "int | bytes | str | bool | list[Value] | dict[int, Value] | dict[str, Value] | dict[int | str, Value] | None"
)

MAX_DEPTH = 16
"""Levels of nested arrays and maps; a statement needs 3."""

MAX_BYTES = 1 << 20
"""1 MiB. The largest statement, a dispatch with every field full of four-byte characters, has about 700 kB; larger
content is sent as blobs."""

MAX_ITEMS = 16_384
"""Values in one encoding, keys included: about 20 ms of scanning. The largest statement has a few hundred."""

_UINT64 = (1 << 64) - 1
_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_SIMPLE_VALUES = (20, 21, 22)  # false, true, null
_ATOMS = (bytes, str, bool, type(None))


class Malformed(WithUsualFix, Invalid):
    """The bytes are not one value in its deterministic encoding, or the value does not have the required form."""

    usual_fix = "the other side must update; nothing was stored"


class Truncated(Malformed):
    """The bytes end before the value does, or a length is larger than what follows."""


class TrailingBytes(Malformed):
    """More bytes follow the value."""


class NotDeterministic(Malformed):
    """Well-formed CBOR, but not the deterministic encoding: longer than needed, of indefinite length or unsorted."""


class DuplicateKey(Malformed):
    """A map has a key twice."""


class OutsideModel(Malformed):
    """CBOR outside our data model: floats, tags, undefined, other simple values, map keys of other types."""


class TooDeep(Malformed):
    """Arrays and maps nested deeper than MAX_DEPTH."""


class BadText(Malformed):
    """A text string that is not UTF-8."""


def encode(value: object, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the deterministic encoding of `value`; a tuple is an array.

    Raises Malformed for what the data model does not have, TooLarge above `max_bytes` or MAX_ITEMS.
    """
    _items(value, MAX_DEPTH)
    try:
        data = cbor2.dumps(value, canonical=True)
    except UnicodeEncodeError as error:
        raise BadText("a text string holds half of a surrogate pair") from error
    if len(data) > max_bytes:
        raise TooLarge(f"{len(data)} bytes of CBOR, at most {max_bytes} travel", fix="send less in one dispatch")
    return data


def decode(data: bytes, *, max_bytes: int = MAX_BYTES) -> Value:
    """Return the value that `data` encodes.

    Raises TooLarge above `max_bytes` or MAX_ITEMS, and a subclass of Malformed for any other encoding.
    """
    if len(data) > max_bytes:
        raise TooLarge(f"{len(data)} bytes of CBOR, at most {max_bytes} are read", fix="send less in one dispatch")
    _Scanner(data).whole()
    value = cbor2.loads(data)
    # Redundant with the scanner, on purpose: a difference between the scanner and cbor2 must not go unnoticed.
    if cbor2.dumps(value, canonical=True) != data:
        raise NotDeterministic("that CBOR is not in its deterministic encoding")
    return value  # type: ignore[no-any-return]  # the scan has just established the type


class _Scanner:
    """One pass over an encoding. State: the position and the number of items seen."""

    __slots__ = ("_at", "_data", "_items")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._items = 0

    def whole(self) -> None:
        """Raise a Malformed unless the bytes are exactly one value."""
        self._value(MAX_DEPTH)
        if self._at != len(self._data):
            raise TrailingBytes(f"{len(self._data) - self._at} bytes follow the end of the value")

    def _value(self, depth: int) -> None:
        major, argument = self._head()
        if major in (_BYTES, _TEXT):
            self._string(major, argument)
        elif major in (_ARRAY, _MAP):
            if depth == 0:
                raise TooDeep(f"nested deeper than {MAX_DEPTH}")
            # Every item takes at least one byte, so an impossible count is refused before the loop.
            if argument * (major - _ARRAY + 1) > len(self._data) - self._at:
                raise Truncated("an array or map claims more items than there are bytes")
            if major == _ARRAY:
                for _ in range(argument):
                    self._value(depth - 1)
            else:
                self._map(argument, depth - 1)

    def _map(self, count: int, depth: int) -> None:
        before, kind = b"", None
        for _ in range(count):
            start = self._at
            major, argument = self._head()
            if major not in (_UNSIGNED, _TEXT):
                raise OutsideModel("a map key is neither an unsigned integer nor text")
            if kind not in (None, major):
                raise OutsideModel("a map mixes integer keys and text keys")
            if major == _TEXT:
                self._string(major, argument)
            key, kind = self._data[start : self._at], major
            if key == before:
                raise DuplicateKey("a map names a key twice")
            if key < before:
                raise NotDeterministic("map keys are not in bytewise order")
            before = key
            self._value(depth)

    def _string(self, major: int, length: int) -> None:
        if length > len(self._data) - self._at:
            raise Truncated("a string claims more bytes than there are")
        start, self._at = self._at, self._at + length
        if major == _TEXT:
            try:
                self._data[start : self._at].decode("utf-8")
            except UnicodeDecodeError as error:
                raise BadText("a text string is not UTF-8") from error

    def _head(self) -> tuple[int, int]:
        """Read one head: the major type and its argument, in the shortest form (RFC 8949 3)."""
        self._items += 1
        if self._items > MAX_ITEMS:
            raise TooLarge(f"more than {MAX_ITEMS} items of CBOR", fix="send less in one dispatch")
        if self._at >= len(self._data):
            raise Truncated("the bytes end before the value does")
        major, info = self._data[self._at] >> 5, self._data[self._at] & 31
        self._at += 1
        if major == _TAG or (major == _SIMPLE and info not in _SIMPLE_VALUES):
            _refuse(major, info)
        if info < 24:
            return major, info
        if info > 27:
            if info == 31 and major in (_BYTES, _TEXT, _ARRAY, _MAP):
                raise NotDeterministic("a length is indefinite")
            raise Malformed("that is not CBOR: a head with reserved bits")
        size = 1 << (info - 24)
        if size > len(self._data) - self._at:
            raise Truncated("the bytes end inside the head of a value")
        argument = int.from_bytes(self._data[self._at : self._at + size], "big")
        self._at += size
        if argument < (24 if size == 1 else 1 << (4 * size)):
            raise NotDeterministic("an integer or a length takes more bytes than it needs")
        return major, argument


def _refuse(major: int, info: int) -> NoReturn:
    if major == _TAG and info < 28:
        raise OutsideModel("a tag is not part of the data model")
    if major == _SIMPLE and info in (25, 26, 27):
        raise OutsideModel("a float is not part of the data model")
    if major == _SIMPLE and info == 23:
        raise OutsideModel("undefined is not part of the data model")
    if major == _SIMPLE and info < 25:
        raise OutsideModel("a simple value other than false, true and null is not part of the data model")
    if major == _SIMPLE and info == 31:
        raise Malformed("that is not CBOR: a break outside of an indefinite length")
    raise Malformed("that is not CBOR: a head with reserved bits")


def _items(value: object, depth: int) -> int:
    """Return how many items a value is, with keys. Raises for values outside the model before cbor2 sees them: its
    encoder overflows the stack on deep nesting."""
    if isinstance(value, _ATOMS):
        return 1
    if isinstance(value, int):
        if not -_UINT64 - 1 <= value <= _UINT64:
            raise OutsideModel("an integer of more than 64 bits is not part of the data model")
        return 1
    if not isinstance(value, list | tuple | dict):
        raise OutsideModel(f"a {type(value).__name__} is not part of the data model")
    if depth == 0:
        raise TooDeep(f"nested deeper than {MAX_DEPTH}")
    items = 1
    if isinstance(value, dict):
        _check_keys(value.keys())
        items += len(value)
    for item in value.values() if isinstance(value, dict) else value:
        items += _items(item, depth - 1)
        if items > MAX_ITEMS:
            raise TooLarge(f"more than {MAX_ITEMS} items of CBOR", fix="send less in one dispatch")
    return items


def _check_keys(keys: Collection[object]) -> None:
    texts = 0
    for key in keys:
        if isinstance(key, str):
            texts += 1
        elif not isinstance(key, int) or key is True or key is False or key < 0:
            raise OutsideModel("a map key is neither an unsigned integer nor text")
        elif key > _UINT64:
            raise OutsideModel("an integer of more than 64 bits is not part of the data model")
    if texts not in (0, len(keys)):
        raise OutsideModel("a map mixes integer keys and text keys")
