"""How statements grow: which unknown keys are ignored, which refuse, and how much may be ignored. Pure.

The number of a map key says what a reader that does not know it must do. Keys 128 to 65,535 are *ignorable*: kept in
the signed bytes, covered by the signature, counted, and without effect. All others are *critical*, as the header
parameters that COSE's `crit` lists (RFC 9052 section 3.1): a reader that does not know one refuses the statement. A key
whose ignorance would permit, run or reveal more is critical in every statement; so is every restriction.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from peer.protocol import codec
from peer.protocol.codec import Malformed, Value
from peer.protocol.errors import TooLarge

FIRST_IGNORABLE, LAST_IGNORABLE = 128, 65_535
"""A range and not a bit of the number: every key that was assigned before there were ranges is critical, and whoever
reads a table sees at once which it is. What lies above is critical, so that neither kind runs out."""

MAX_IGNORED = 32
"""Different keys that one statement may have ignored, those of its nested records included."""
MAX_IGNORED_BYTES = 65_536
MAX_IGNORED_DEPTH = 4
"""Arrays and maps inside one another within one ignored value; codec.MAX_DEPTH bounds what is known and unknown."""

KeyPath: TypeAlias = tuple[int, ...]
"""Where an ignored key is: (200,) in the statement's own map, (41, 200) in a record that field 41 holds."""


class NotUnderstood(Malformed):
    """A type, a version or a critical key that this version does not know: well-formed, perhaps, for a later one.

    415 (RFC 9110 section 15.5.16) and not 501: nothing but an update of the refusing side helps, so the sender is to
    give up and say so, not to try again.
    """

    default_code = 415
    default_fix = "update dispatch on the machine that refused it"


def is_ignorable(key: object) -> bool:
    """Whether a reader that does not know this key of a map ignores it."""
    return type(key) is int and FIRST_IGNORABLE <= key <= LAST_IGNORABLE


def check_ignored(found: Iterable[tuple[KeyPath, Value]]) -> tuple[KeyPath, ...]:
    """Return the paths of ignored keys, each once, in order. Raises TooLarge where more is ignored than may be."""
    paths: set[KeyPath] = set()
    size = 0
    for path, value in found:
        paths.add(path)
        if len(paths) > MAX_IGNORED:
            raise TooLarge(f"more than {MAX_IGNORED} fields that this version does not know")
        if _deeper_than(value, MAX_IGNORED_DEPTH):
            raise TooLarge(f"a field that this version does not know is nested deeper than {MAX_IGNORED_DEPTH}")
        size += len(codec.encode(value))
        if size > MAX_IGNORED_BYTES:
            raise TooLarge(f"fields that this version does not know have more than {MAX_IGNORED_BYTES:,} bytes")
    return tuple(sorted(paths))


def _deeper_than(value: Value, most: int) -> bool:
    if not isinstance(value, list | dict):
        return False
    inside = value.values() if isinstance(value, dict) else value
    return most == 0 or any(_deeper_than(item, most - 1) for item in inside)
