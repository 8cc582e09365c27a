"""What is kept of dispatches that have ended, and which of it goes: the bounds, and the choice. Pure.

What goes of a dispatch are its events, the calls that were asked about and the bytes of its files: it is thinned. Its
signed dispatch, decision and result stay, with the names, sizes and digests of its files.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from peer.protocol.content import MAX_FILE_BYTES, MAX_FILES, MB

DAY_MS: Final = 86_400_000
FETCH_MS: Final = DAY_MS
"""How long the files that a run returned stay whatever their size, once the sender has its result: until they are
fetched, they may be nowhere else."""
CONTACT_BYTES: Final = 2 << 30
"""Bytes of events and files that are kept of one contact's dispatches, of those to them and of those from them each.
Beyond, nothing new is taken in, sent or recorded until some have ended and were thinned."""
CONTACT_THINNED_TO: Final = CONTACT_BYTES - MAX_FILES * MAX_FILE_BYTES
"""From here on the oldest ended ones of a contact are thinned, so that one dispatch of the largest size has room."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A dispatch that has ended and that nothing waits for. `closed`: when (ms); `size`: bytes kept of it."""

    dispatch_id: str
    closed: int
    size: int
    returned: bool
    """Received, with files that its sender may still fetch."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How long ended dispatches are kept whole (ms), and how many bytes of all of them together."""

    keep_ms: float
    keep_bytes: int


OF_A_CONTACT: Final = Rules(keep_ms=math.inf, keep_bytes=CONTACT_THINNED_TO)


def of_settings(*, days: int, megabytes: int) -> Rules:
    """Return the rules that this machine's person set."""
    return Rules(keep_ms=days * DAY_MS, keep_bytes=megabytes * MB)


def to_thin(oldest_first: Iterable[Ended], rules: Rules, *, total: int, now: int) -> Iterator[Ended]:
    """Yield what ended too long ago, then the oldest until no more than `keep_bytes` of the `total` are left.

    For its size nothing goes whose sender may still fetch files.
    """
    excess = total - rules.keep_bytes
    for one in oldest_first:
        old = one.closed + rules.keep_ms <= now
        if not old and excess <= 0:
            return
        if old or not one.returned or one.closed + FETCH_MS <= now:
            excess -= one.size
            yield one
