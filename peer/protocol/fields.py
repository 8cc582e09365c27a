"""The forms of fields on the wire: how a value is packed, unpacked and bounded. The fields themselves: table.py. Pure.

A `Form` converts a Python value to its CBOR value and back and checks its bounds; `cddl` renders it for
docs/protocol.md. Error messages begin with `must be`: payloads.py puts the field's name before them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from peer.protocol import names
from peer.protocol.codec import Malformed, Value
from peer.protocol.growth import KeyPath, NotUnderstood, is_ignorable

IGNORABLE = "* ignorable => any"
"""The CDDL of the ignorable members that any map may have (growth.py)."""


@dataclass(frozen=True, slots=True)
class Form:
    """The encoding of one kind of value: `cddl` describes it (RFC 8610), `pack` and `unpack` convert and raise Invalid.

    `ignored` yields (path, value) for each unknown ignorable key in the records of a value that was unpacked.
    """

    cddl: str
    pack: Callable[[Any], Any]
    unpack: Callable[[Any], Any]
    ignored: Callable[[Any], Iterable[tuple[KeyPath, Value]]] = lambda _value: ()


@dataclass(frozen=True, slots=True)
class Field:
    """A field's map key and its form."""

    key: int
    form: Form


def _checked(cddl: str, required: str, kind: type, accepts: Callable[[Any], bool]) -> Form:
    def same(value: Any) -> Any:
        # `type is`, not isinstance: True is an int to Python and a different value on the wire.
        if type(value) is not kind or not accepts(value):
            raise Malformed(f"must be {required}")
        return value

    return Form(cddl, same, same)


def text(most: int) -> Form:
    """Text of at most `most` characters (Unicode code points)."""
    return _checked(f"text-{most}", f"text of at most {most:,} characters", str, lambda value: len(value) <= most)


def number(most: int = (1 << 53) - 1, *, least: int = 0) -> Form:
    """A whole number from `least` up to `most`; 2^53-1 so that JSON carries it exactly."""
    return _checked(f"{least}..{most}", f"a whole number up to {most:,}", int, lambda value: least <= value <= most)


def blob(least: int, most: int) -> Form:
    """A byte string of `least` to `most` bytes."""
    size, range_text = (f"{least}", f"{least:,}") if least == most else (f"({least}..{most})", f"{least:,} to {most:,}")
    return _checked(f"bstr .size {size}", f"{range_text} bytes", bytes, lambda value: least <= len(value) <= most)


def one_of(*allowed: str) -> Form:
    """One of these texts."""
    cddl = " / ".join(f'"{word}"' for word in allowed)
    return _checked(cddl, f"one of {', '.join(allowed)}", str, lambda value: value in allowed)


def _converted(cddl: str, required: str, wire: type, pack: Callable[[Any], Any], unpack: Callable[[Any], Any]) -> Form:
    def out(value: Any) -> Any:
        if type(value) is not str:
            raise Malformed(f"must be {required}")
        return pack(value)

    def back(value: Any) -> Any:
        if type(value) is not wire:
            raise Malformed(f"must be {required}")
        return unpack(value)

    return Form(cddl, out, back)


def _canonical_user(value: str) -> str:
    if names.user_id(value) != value:
        raise Malformed("must be an e-mail address in lower case")
    return value


USER = _converted("user-id", "an e-mail address", str, _canonical_user, _canonical_user)
DEVICE = _converted(
    "peer-id", "a peer id", bytes, names.peer_id_bytes, lambda raw: names.peer_id_text(_is_peer_id(raw))
)
ID = _converted("uuid", "an id", bytes, names.uuid_bytes, names.uuid_text)
DIGEST = dataclasses.replace(blob(32, 32), cddl="digest")
KEY = blob(32, 32)
LAST_TIME = 253_402_300_799_999
"""The end of the year 9999 in ms since the epoch: the last time that RFC 3339 can express. A later one could be stored
but not shown."""
TIME = number(LAST_TIME)


def _is_peer_id(raw: bytes) -> bytes:
    names.key_of_peer_id(raw)
    return raw


def array(form: Form, most: int) -> Form:
    """An array of at most `most` of another form; a tuple in Python."""

    def pack(value: Any) -> list[Any]:
        if type(value) is not tuple or len(value) > most:
            raise Malformed(f"must be a list of at most {most} values")
        return [form.pack(item) for item in value]

    def unpack(value: Any) -> tuple[Any, ...]:
        if type(value) is not list or len(value) > most:
            raise Malformed(f"must be a list of at most {most} values")
        return tuple(form.unpack(item) for item in value)

    def ignored(value: list[object]) -> Iterator[tuple[KeyPath, Value]]:
        return (found for item in value for found in form.ignored(item))

    return Form(f"[0*{most} {form.cddl}]", pack, unpack, ignored)


def mapping(most: int, key: Form, value: Form) -> Form:
    """A map of at most `most` pairs of these two forms; a dict in Python."""

    def both(pairs: Any, *, packing: bool) -> dict[Any, Any]:
        if type(pairs) is not dict or len(pairs) > most:
            raise Malformed(f"must be a map of at most {most} pairs")
        if packing:
            return {key.pack(k): value.pack(v) for k, v in pairs.items()}
        return {key.unpack(k): value.unpack(v) for k, v in pairs.items()}

    return Form(
        f"{{ 0*{most} {key.cddl} => {value.cddl} }}",
        lambda pairs: both(pairs, packing=True),
        lambda pairs: both(pairs, packing=False),
    )


def record(kind: type, table: Mapping[str, Field]) -> Form:
    """A map with integer keys: all of the table's, and possibly ignorable ones; a dataclass in Python."""
    known = {field.key for field in table.values()}

    def pack(value: Any) -> dict[int, Any]:
        if type(value) is not kind:
            raise Malformed(f"must be a {kind.__name__}")
        return {field.key: field.form.pack(getattr(value, name)) for name, field in table.items()}

    def unpack(value: Any) -> Any:
        if type(value) is not dict or not known <= value.keys():
            raise Malformed(f"must be a {kind.__name__} with its {len(table)} fields")
        for key in value.keys() - known:
            if not is_ignorable(key):
                raise NotUnderstood(f"a {kind.__name__} has no field of key {key!r:.40} that this version knows")
        return kind(**{name: field.form.unpack(value[field.key]) for name, field in table.items()})

    def ignored(value: dict[int, Value]) -> Iterator[tuple[KeyPath, Value]]:
        return (((key,), value[key]) for key in value.keys() - known)

    inside = ", ".join(f"{field.key}: {field.form.cddl}" for field in table.values())
    return Form(f"{{ {inside}, {IGNORABLE} }}", pack, unpack, ignored)
