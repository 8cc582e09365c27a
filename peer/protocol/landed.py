"""How much of what a run changed is in place: the one word for it, and the line that people read. Pure.

- `all`: everything that can be put in place is, and there is something.
- `part`: something is in place and something is not, whether that waits or was thrown away.
- `waiting`: nothing is in place, and something waits to be decided about.
- `none`: nothing is in place and nothing waits: it was thrown away, or nothing of it can be put in place.

What can be put in place leaves out what never is (a repository's own files, folders that tools fill), and has what is
in conflict with an edit of the person's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from peer.protocol.errors import NO_FIX, Invalid
from peer.protocol.outcomes import Landed

if TYPE_CHECKING:  # lists of dispatches need the words alone, at once
    from peer.protocol.statements import LandingReport

_WORDS: Final[dict[Landed, str]] = {
    "all": "all applied",
    "part": "some applied, not all",
    "waiting": "none applied yet",
    "none": "none applied",
}


def landed(*, in_place: int, in_all: int, waits: int) -> Landed:
    """Return the word. `in_all`: how many changes can be put in place, of which `in_place` are and `waits` wait."""
    if not in_place:
        return "waiting" if waits else "none"
    return "all" if in_place >= in_all else "part"


def check(report: LandingReport) -> None:
    """Raise Invalid unless a report's numbers agree with its word, or it has none."""
    word, in_place, in_all = report.landed, report.in_place, report.in_all
    if not report.change_set:
        agrees = in_place == in_all == 0
    elif in_place:
        agrees = in_place <= in_all and word == ("all" if in_place == in_all else "part")
    else:
        agrees = word == "none" or (word == "waiting" and in_all > 0)
    if not agrees:
        raise Invalid(f"{in_place} of {in_all} changes in place is not `{word}`", fix=NO_FIX)


def in_words(word: Landed, *, in_place: int | None, in_all: int | None) -> str:
    """Return it as people read it, after `changes: `. The numbers are None where only the word was told."""
    if in_all and in_place:
        return f"{in_place:,} of {in_all:,} applied"
    if in_all and word == "waiting":
        return f"none of {in_all:,} applied yet"
    return _WORDS[word]
