"""The payload of a statement: a dataclass as a map with the keys of table.py, and back. Classes: statements.py. Pure.

A field named `content` has no key of its own: its fields are members of the same map (content.py). A field that holds
its default is omitted from the map. Decoding is strict: missing keys, unknown critical keys, wrong forms, a default
that is present and bytes that are not the deterministic encoding are refused. Unknown ignorable keys (growth.py) are
returned by path and have no effect.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from peer.protocol import codec, content, growth
from peer.protocol.codec import Malformed
from peer.protocol.content import Content
from peer.protocol.documents import Document
from peer.protocol.errors import NO_FIX, Invalid
from peer.protocol.fields import Field
from peer.protocol.growth import KeyPath, NotUnderstood
from peer.protocol.table import FIELDS

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
Versions = Mapping[str, Mapping[int, type[T]]]
"""Type → version → class."""


class Part(NamedTuple):
    """A member of a statement type's map: its name in FIELDS, and its default if it is optional."""

    name: str
    required: bool
    default: object = None


def parts_of(kind: type[DataclassInstance]) -> tuple[Part, ...]:
    """Return the members of a type in the order of its class, with the fields of Content in place of `content`."""
    return _parts_of(cast(Hashable, kind))


@cache
def _parts_of(kind: Any) -> tuple[Part, ...]:
    parts: list[Part] = []
    for spec in dataclasses.fields(kind):
        if spec.name == "content":
            parts += (Part(field.name, field.required, field.default) for field in content.FIELDS.values())
        elif spec.default_factory is not dataclasses.MISSING:
            parts.append(Part(spec.name, False, spec.default_factory()))
        else:
            required = spec.default is dataclasses.MISSING
            parts.append(Part(spec.name, required, None if required else spec.default))
    return tuple(parts)


def values_of(statement: DataclassInstance) -> Document:
    """Return a statement's values by the names in FIELDS. Raises Invalid for a content that is no `Content`."""
    values = {spec.name: getattr(statement, spec.name) for spec in dataclasses.fields(statement)}
    if "content" in values:
        held = values.pop("content")
        if not isinstance(held, Content):
            raise Invalid("content: must be a Content", fix=NO_FIX)
        values |= held.values()
    return values


def gathered(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by the names in FIELDS as keyword arguments of a type: content fields become one `Content`."""
    inside = {name: value for name, value in values.items() if name in content.FIELDS}
    outside = {name: value for name, value in values.items() if name not in content.FIELDS}
    return outside | {"content": Content(**inside)}


def encode(statement: DataclassInstance, head: Mapping[str, object]) -> bytes:
    """Return the deterministic CBOR of a statement; `head` is its type and version. Raises Invalid, TooLarge."""
    payload: dict[int, Any] = {FIELDS[name].key: FIELDS[name].form.pack(value) for name, value in head.items()}
    values = values_of(statement)
    for part in parts_of(type(statement)):
        value = values[part.name]
        if part.required or value != part.default:
            field = FIELDS[part.name]
            try:
                payload[field.key] = field.form.pack(value)
            except Invalid as error:
                # This side made the mistake, so the fix of Malformed ("the other side must update") would mislead.
                raise Invalid(f"{part.name}: {error.message}", fix=NO_FIX) from error
    return codec.encode(payload)


def decode(payload: bytes, versions: Versions[T]) -> tuple[T, tuple[KeyPath, ...]]:
    """Return the payload as an instance of the class of its type and version, and the paths of the ignored keys.

    Raises TooLarge, Malformed; NotUnderstood for an unknown type, version or critical key.
    """
    decoded = codec.decode(payload)
    if not isinstance(decoded, dict):
        raise Malformed("the payload of a statement must be a map")
    unclaimed: dict[Any, Any] = dict(decoded)
    name, kind = _kind_of(unclaimed, versions)
    values: dict[str, Any] = {}
    ignored: list[tuple[KeyPath, codec.Value]] = []
    for part in parts_of(kind):
        field = FIELDS[part.name]
        if field.key in unclaimed:
            given = unclaimed.pop(field.key)
            values[part.name] = _unpack(part.name, field, given)
            if not part.required and values[part.name] == part.default:
                raise Malformed(f"{part.name} must be left out when it is empty")
            ignored += [((field.key, *path), value) for path, value in field.form.ignored(given)]
        elif part.required:
            raise Malformed(f"{part.name} is missing")
    for key, value in unclaimed.items():
        if not growth.is_ignorable(key):
            raise NotUnderstood(f"a {name} has no field of key {key!r:.40} that this version knows")
        ignored.append(((key,), value))
    if any(spec.name == "content" for spec in dataclasses.fields(kind)):
        values = gathered(values)
    return kind(**values), growth.check_ignored(ignored)


def _kind_of(unclaimed: dict[Any, Any], known: Versions[T]) -> tuple[str, type[T]]:
    """Remove type and version from a payload's map; return the type and its class. Raises Malformed, NotUnderstood."""
    said = []
    for name in ("type", "version"):
        field = FIELDS[name]
        if field.key not in unclaimed:
            raise Malformed(f"{name} is missing")
        said.append(_unpack(name, field, unclaimed.pop(field.key)))
    type_name, version = said
    versions = known.get(type_name)
    if versions is None:
        raise NotUnderstood(f"this version knows no statement of type {type_name!r}")
    if version not in versions:
        raise NotUnderstood(f"this version reads a {type_name} up to version {max(versions)}, not {version}")
    return type_name, versions[version]


def _unpack(name: str, field: Field, value: object) -> Any:
    try:
        return field.form.unpack(value)
    except NotUnderstood as error:
        raise NotUnderstood(f"{name}: {error.message}") from error
    except Invalid as error:
        raise Malformed(f"{name}: {error.message}") from error
