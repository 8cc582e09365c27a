"""The arguments of tools: typed, checked, and described by the JSON Schema that a host gets.

One class for each tool is the source of both schema and check, so the two cannot differ. The SDK's low-level server
checks no arguments, so every call is checked here.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import TypeVar

import msgspec

from peer.dispatches.text import line
from peer.protocol.documents import Document
from peer.protocol.errors import NO_FIX, Invalid

A = TypeVar("A", bound="Arguments")
JsonSchema = Document


class Arguments(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The arguments of one tool. A field that is None or empty was not given."""

    @classmethod
    def refuse(cls, given: Mapping[str, object]) -> None:
        """Raise the error of values that msgspec refused, where a tool has a clearer one than the generic message."""


def schema(kind: type[Arguments]) -> JsonSchema:
    """Return the JSON Schema (2020-12) of a tool's arguments: an object without further properties."""
    (_,), definitions = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    described: JsonSchema = dict(definitions.pop(kind.__name__))
    described.pop("title", None)
    described.pop("description", None)
    if definitions:
        described["$defs"] = definitions
    for about in described["properties"].values():
        if about.get("default", ...) in (None, "", (), [], {}):
            del about["default"]
            _without_null(about)
    return described


_LIMITS = ("maxLength", "minLength", "maxItems", "maxProperties", "minimum", "maximum", "pattern", "format")


def listed(kind: type[Arguments], *, known: Collection[str] = ()) -> JsonSchema:
    """Return the schema as `tools/list` has it: every session pays for it, so limits are left to `read`, which names
    them where they matter, and a list is written as a text with commas where it may be one.

    `known`: arguments that another tool describes, so that only their types stand here.
    """
    short = schema(kind)
    short.pop("additionalProperties", None)  # an unknown one is refused with a better word than a host's
    for name, about in short["properties"].items():
        _shorten(about)
        if name in known:
            short["properties"][name] = {"type": about.get("type", "string")}
    for about in short.get("$defs", {}).values():
        _shorten(about)
    return short


def _shorten(about: JsonSchema) -> None:
    for limit in _LIMITS:
        about.pop(limit, None)
    if {"type": "string"} in (short := [{"type": each.get("type")} for each in about.get("anyOf", [])]):
        about |= {"type": "string"} if {"type": "array"} in short else {}
        if "type" in about:
            del about["anyOf"]
    for inner in ("items", "additionalProperties", "propertyNames"):
        if isinstance(about.get(inner), dict):
            _shorten(about[inner])
            if inner == "propertyNames":
                del about[inner]


def _without_null(about: JsonSchema) -> None:
    """Remove `null` from a property's types: a host leaves an argument out, and needs no second way to say so."""
    choices = [choice for choice in about.get("anyOf", []) if choice != {"type": "null"}]
    if len(choices) == 1:
        del about["anyOf"]
        about.update(choices[0])
    elif choices:
        about["anyOf"] = choices


def read(kind: type[A], given: Mapping[str, object] | None, tool: str) -> A:
    """Return a tool's arguments, checked.

    Raises Invalid, which names the wrong one and what is allowed, and TooLarge for what a dispatch may not hold.
    """
    values = given or {}
    names = kind.__struct_fields__
    for name in values:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
            meant = f"; did you mean `{near[0]}`?" if near else ""
            raise Invalid(
                f"{tool} has no argument `{line(name, limit=60)}`{meant}", fix=f"its arguments are {', '.join(names)}"
            )
    missing = [spec.name for spec in msgspec.structs.fields(kind) if spec.required and spec.name not in values]
    if missing:
        raise Invalid(f"{tool} needs {' and '.join(f'`{name}`' for name in missing)}", fix=_allowed(kind, missing[0]))
    try:
        return msgspec.convert({name: value for name, value in values.items() if value is not None}, kind)
    except msgspec.ValidationError as error:
        kind.refuse(values)
        text, _, at = str(error).partition(" - at `$.")
        name = at.rstrip("`").split(".")[0].split("[")[0]
        if name not in names:
            raise Invalid(f"invalid arguments for {tool}: {line(str(error), limit=200)}", fix=NO_FIX) from error
        raise Invalid(f"`{name}` is invalid: {line(text, limit=200)}", fix=_allowed(kind, name)) from error


def require(arguments: Arguments, action: str, *needed: str) -> None:
    """Raise Invalid unless an action has the arguments it needs."""
    for name in needed:
        if getattr(arguments, name) is None:
            raise Invalid(f"{action} needs `{name}`", fix=_allowed(type(arguments), name))


def refuse_others(arguments: Arguments, action: str, *allowed: str) -> None:
    """Raise Invalid for an argument without meaning for an action: the caller expects an effect that it has not."""
    for name in type(arguments).__struct_fields__:
        if getattr(arguments, name) is not None and name not in allowed:
            also = ", ".join(allowed)
            raise Invalid(f"`{name}` cannot be used with {action}", fix=f"{action} takes {also or 'no more arguments'}")


def _allowed(kind: type[Arguments], name: str) -> str:
    about = schema(kind)["properties"][name]
    description = str(about.get("description", ""))
    choices = about.get("enum")
    if choices:
        return f"`{name}` is one of {', '.join(map(str, choices))}"
    return f"`{name}`: {description}" if description else f"see the schema of `{name}`"
