"""What a person gives a dispatch: its one struct, with each field's limit, wire key and words, and the limits' errors.

Programs, the statement, stores and pages all use it. What a value must be beyond its size (names of files, addresses)
is in dispatches/payload.py; how a field travels follows from its type here (statements.py). Lengths are counted in
characters (Unicode code points) unless a name says bytes. Pure.
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
"""NAME_MAX of every file system that a run may happen on."""
MIN_EXPIRES, MAX_EXPIRES, DEFAULT_EXPIRES = 60, 86_400, 3_600
"""Seconds that a dispatch may wait to be accepted."""
_LONGEST_LINE = 500


@dataclass(frozen=True, slots=True)
class FileRef:
    """A file that a statement carries by digest: plain base name, size in bytes, SHA-256."""

    name: str
    size: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class About:
    """A field beside its type: `label` names it in errors, `key` on the wire, `heading` stands above it for people.

    `feature` is the name by which a device says that it understands the field, "" for those of the first version.
    """

    label: str
    key: int = 0
    heading: str = ""
    feature: str = ""


class Content(msgspec.Struct, Generic[F], frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Everything that the sender's person wrote and attached, verbatim. An optional field that was not given is empty.

    `F` stands for a file: a path or an upload's id until it is read, then a `FileRef`. A `str` with a heading is shown
    wherever a dispatch is shown, written and handed to an agent, with nothing to add there. docs/architecture.md adds
    a field as an example.
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
        """Return the fields of a Content by name, also of a struct that has more."""
        return {name: getattr(self, name) for name in FIELDS}


@dataclass(frozen=True, slots=True)
class ContentField:
    """One field as its annotation says it. `hint` is the whole annotation; a required field has no default."""

    name: str
    hint: object
    about: About
    limit: int
    description: str
    required: bool
    default: object

    @property
    def long(self) -> bool:
        """Whether it is prose of several lines rather than one line."""
        return self.limit > _LONGEST_LINE


class Bounded(NamedTuple):
    """A type of a field, or of what a field holds: the most characters, items or pairs, and its words."""

    kind: object
    most: int
    about: About
    description: str


def bounded(hint: object) -> Bounded:
    """Take an annotated type apart. Each within `Content` has a Meta with its limit, and an About."""
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
"""The optional texts for people to read, in order: what is shown, asked for and attached in one way."""
MAX_FILES: Final = FIELDS["files"].limit


def check_limits(values: Mapping[str, object]) -> None:
    """Raise TooLarge (413) for the first value that passes a limit of its field, Invalid (422) for half a character.

    `values` may be a stranger's JSON: a value of another type than its field's is left to whoever converts it.
    """
    for field in FIELDS.values():
        _check(field.hint, values.get(field.name))


def check_text(what: str, text: str, limit: int) -> None:
    """`text` must be encodable and at most `limit` characters; `what` names it in the error."""
    check_count(what, len(text), limit, "characters")
    check_unicode(what, text)


def check_unicode(what: str, text: str) -> None:
    """Raise Invalid for a lone surrogate (of a file name that is not UTF-8, half an emoji of JSON): it has no bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Invalid(f"{what} is not valid Unicode text", fix="give it as UTF-8") from None


def check_count(what: str, actual: int, limit: int, unit: str) -> None:
    """Raise TooLarge, which says the limit and by how much it is passed."""
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
