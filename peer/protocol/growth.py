"""How statements grow: which unknown keys are ignored, which are refused, and how many may be ignored. Pure.

The number of a map key decides how a version that does not define it must treat it. Keys 128 to 65,535 are *ignorable*:
kept in the signed bytes, covered by the signature, counted, without effect. All others are *critical*, like the header
parameters in COSE's `crit` (RFC 9052 section 3.1): the statement is refused. A key must be critical, in every
statement, if ignoring it would permit, run or reveal more; so must every restriction.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from peer.protocol import codec
from peer.protocol.codec import Malformed, Value
from peer.protocol.errors import TooLarge

FIRST_IGNORABLE, LAST_IGNORABLE = 128, 65_535
"""A range rather than a bit of the number: all keys assigned before ranges existed are critical, and the kind of a key
is plain from its number. Numbers above the range are critical, so neither kind runs out."""

MAX_IGNORED = 32
"""Different ignored keys in one statement, those of nested records included."""
MAX_IGNORED_BYTES = 65_536
MAX_IGNORED_DEPTH = 4
"""Levels of nested arrays and maps within one ignored value; codec.MAX_DEPTH bounds the whole statement."""

KeyPath: TypeAlias = tuple[int, ...]
"""Where an ignored key is: (200,) in the statement's own map, (41, 200) in a record that field 41 holds."""


class NotUnderstood(Malformed):
    """A type, version or critical key that this version does not define; a later version may.

    415 (RFC 9110 section 15.5.16) and not 501: only an update of the refusing side helps, so the sender must report
    the refusal rather than retry.
    """

    default_code = 415
    usual_fix = "update dispatch on the machine that refused it"


def is_ignorable(key: object) -> bool:
    """Whether a version that does not define this map key ignores it."""
    return type(key) is int and FIRST_IGNORABLE <= key <= LAST_IGNORABLE


def check_ignored(found: Iterable[tuple[KeyPath, Value]]) -> tuple[KeyPath, ...]:
    """Return the paths of ignored keys, each once, in order. Raises TooLarge above MAX_IGNORED or MAX_IGNORED_DEPTH."""
    paths: set[KeyPath] = set()
    size = 0
    for path, value in found:
        paths.add(path)
        if len(paths) > MAX_IGNORED:
            raise TooLarge(
                f"more than {MAX_IGNORED} fields that this version does not know",
                fix="update dispatch on the machine that refused it",
            )
        if _deeper_than(value, MAX_IGNORED_DEPTH):
            raise TooLarge(
                f"a field that this version does not know is nested deeper than {MAX_IGNORED_DEPTH}",
                fix="update dispatch on the machine that refused it",
            )
        size += len(codec.encode(value))
        if size > MAX_IGNORED_BYTES:
            raise TooLarge(
                f"fields that this version does not know have more than {MAX_IGNORED_BYTES:,} bytes",
                fix="update dispatch on the machine that refused it",
            )
    return tuple(sorted(paths))


def _deeper_than(value: Value, most: int) -> bool:
    if not isinstance(value, list | dict):
        return False
    inside = value.values() if isinstance(value, dict) else value
    return most == 0 or any(_deeper_than(item, most - 1) for item in inside)
