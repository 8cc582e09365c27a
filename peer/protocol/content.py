"""The content of a dispatch: one struct with each field's limit, wire key and labels, and the checks of the limits.

The programs, the statement, the store and the page all use it. Rules beyond size (names of files, addresses) are in
dispatches/payload.py; the encoding of a field follows from its type here (table.py). Lengths are in characters
(Unicode code points) unless a name contains BYTES. Pure.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Generic, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from peer.protocol.documents import Document
from peer.protocol.errors import Invalid, TooLarge

F = TypeVar("F")

MB: Final = 1024 * 1024
MAX_FILE_BYTES: Final = 5 * MB
MAX_FILE_NAME_BYTES: Final = 255
"""NAME_MAX of the file systems in common use."""
MIN_EXPIRES, MAX_EXPIRES, DEFAULT_EXPIRES = 60, 86_400, 3_600
"""Seconds that a dispatch may wait to be accepted."""
_LONGEST_LINE = 500


@dataclass(frozen=True, slots=True)
class FileRef:
    """A file that a statement refers to by digest: plain base name, size in bytes, SHA-256."""

    name: str
    size: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class About:
    """What a field has beside its type: `label` for errors, `key` on the wire, `heading` above it where it is shown.

    `feature` is the name under which a device's hello announces the field, "" for fields of the first version.
    """

    label: str
    key: int = 0
    heading: str = ""
    feature: str = ""


class Content(msgspec.Struct, Generic[F], frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Everything that the sender wrote and attached, verbatim. An optional field that was not given is empty.

    `F` is the type of a file: a path or an upload's id until it is read, then a `FileRef`. A `str` with a heading needs
    no further code to be shown, composed and passed to an agent. docs/architecture.md adds a field as an example.
    """

    task: Annotated[
        str, Meta(min_length=1, max_length=100_000, description="what is to be done, verbatim"), About("the task", 40)
    ]
    files: Annotated[tuple[F, ...], Meta(max_length=50), About("the list of files", 41)] = ()
    project: Annotated[
        str,
        Meta(max_length=200, description="what the project is called; the recipient's side finds the folder"),
        About("the project hint", 42, heading="Project, as the sender calls it"),
    ] = ""
    links: Annotated[
        tuple[Annotated[str, Meta(max_length=500), About("a link")], ...],
        Meta(max_length=10, description="reference URLs"),
        About("the list of links", 43),
    ] = ()
    deliverable: Annotated[
        str,
        Meta(max_length=2_000, description="what done looks like"),
        About("the deliverable", 44, heading="What is wanted back"),
    ] = ""
    background: Annotated[
        str,
        Meta(max_length=20_000, description="what a stranger must know to begin"),
        About("the background", 45, heading="Background"),
    ] = ""
    meta: Annotated[
        dict[
            Annotated[str, Meta(max_length=64), About("a key of the metadata")],
            Annotated[str, Meta(max_length=1_000), About("a value of the metadata")],
        ],
        Meta(max_length=32, description="pairs of text for the recipient to see"),
        About("the metadata", 46),
    ] = {}
    parent: Annotated[
        str, Meta(max_length=36, description="the dispatch that this one follows"), About("the parent's id", 47)
    ] = ""

    def values(self) -> Document:
        """Return the fields of Content by name, without those that a subclass adds."""
        return {name: getattr(self, name) for name in FIELDS}


@dataclass(frozen=True, slots=True)
class ContentField:
    """One field, read from its annotation. `hint` is the whole annotation; a required field has no default."""

    name: str
    hint: object
    about: About
    limit: int
    description: str
    required: bool
    default: object

    @property
    def long(self) -> bool:
        """Whether the field takes several lines rather than one."""
        return self.limit > _LONGEST_LINE


class Bounded(NamedTuple):
    """An annotated type taken apart: the bare type, the most characters, items or pairs, and its About."""

    kind: object
    most: int
    about: About
    description: str


def bounded(hint: object) -> Bounded:
    """Take an annotated type apart. Every annotation within `Content` has a Meta with its limit, and an About."""
    kind, meta, about = typing.get_args(hint)
    return Bounded(kind, meta.max_length, about, meta.description or "")


def _field(spec: msgspec.structs.FieldInfo, hint: object) -> ContentField:
    _, most, about, description = bounded(hint)
    default = spec.default if spec.default_factory is msgspec.NODEFAULT else spec.default_factory()
    return ContentField(spec.name, hint, about, most, description, spec.required, default)


_HINTS = typing.get_type_hints(Content, include_extras=True)
FIELDS: Final[dict[str, ContentField]] = {
    spec.name: _field(spec, _HINTS[spec.name]) for spec in msgspec.structs.fields(Content)
}
TEXTS: Final[tuple[ContentField, ...]] = tuple(field for field in FIELDS.values() if field.about.heading)
"""The optional texts, in order. All are shown, composed and passed to an agent by the same code."""
MAX_FILES: Final = FIELDS["files"].limit


def check_limits(values: Mapping[str, object]) -> None:
    """Raise TooLarge (413) for the first value above its field's limit, Invalid (422) for a lone surrogate.

    `values` may be untrusted JSON: a value of the wrong type is ignored here and refused where it is converted.
    """
    for field in FIELDS.values():
        _check(field.hint, values.get(field.name))


def check_text(what: str, text: str, limit: int) -> None:
    """Raise unless `text` is encodable and has at most `limit` characters; `what` names it in the error."""
    check_count(what, len(text), limit, "characters")
    check_unicode(what, text)


def check_unicode(what: str, text: str) -> None:
    """Raise Invalid for a lone surrogate (a file name that is not UTF-8, half an emoji in JSON): UTF-8 has none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Invalid(f"{what} is not valid Unicode text", fix="give it as UTF-8") from None


def check_count(what: str, actual: int, limit: int, unit: str) -> None:
    """Raise TooLarge, with the limit and the excess in the message, if `actual` is above `limit`."""
    if actual > limit:
        raise TooLarge(
            f"{what} is {actual:,} {unit}; the limit is {limit:,}: {actual - limit:,} too many",
            fix=f"keep it to {limit:,} {unit}",
        )


def check_expires(seconds: object) -> None:
    """Raise Invalid unless `seconds` is a whole number from 60 to 86,400."""
    allowed = f"give {MIN_EXPIRES} to {MAX_EXPIRES:,} seconds"
    if isinstance(seconds, bool) or not isinstance(seconds, int):
        raise Invalid("the expiry is not a whole number of seconds", fix=allowed)
    if not MIN_EXPIRES <= seconds <= MAX_EXPIRES:
        short = seconds < MIN_EXPIRES
        off = f"{MIN_EXPIRES - seconds:,} too few" if short else f"{seconds - MAX_EXPIRES:,} too many"
        raise Invalid(f"the expiry is {seconds:,} seconds: {off}", fix=allowed)


def _check(hint: object, value: object) -> None:
    kind, most, about, _ = bounded(hint)
    inside = typing.get_args(kind)
    match value:
        case str() if kind is str:
            check_text(about.label, value, most)
        case tuple() | list() if typing.get_origin(kind) is tuple:
            check_count(about.label, len(value), most, about.label.rpartition(" ")[2])
            if inside[0] is not F:
                for item in value:
                    _check(inside[0], item)
        case dict() if typing.get_origin(kind) is dict:
            check_count(about.label, len(value), most, "pairs")
            for pair in value.items():
                for bound, part in zip(inside, pair, strict=True):
                    _check(bound, part)
