"""How one side answers a statement of the other, and what each code does to it. Pure.

| code | means | the statement |
|---|---|---|
| 200 | taken in and in force | is done |
| 202 | taken in; its files are still to be fetched and verified | is done |
| 4xx | refused, and would be refused again | is done |
| 408, 425, 5xx | not now, for a reason that passes | is sent again |

429 is a verdict on this statement by its edge's limit, so it ends it: a flooded courier does not answer 429, it stops
reading. Codes that HTTP does not have in these classes are sent again: a newer peer may mean well.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from peer.protocol.errors import DispatchError


class Fate(enum.Enum):
    """What an answer does to its statement."""

    FINAL = "final"
    RETRY = "retry"


RETRIED = {
    408: "the other side ran out of time",
    425: "something that must come first is still on its way",
    500: "the other side failed, which says nothing about the statement",
    502: "something the other side needs failed",
    503: "the other side cannot now",
    504: "something the other side needs ran out of time",
}
"""Codes after which a statement is sent again (RFC 9110 15.5 and 15.6, RFC 8470 5.2)."""


def fate(code: int) -> Fate:
    """Return whether an answer with this code ends its statement or has it sent again."""
    if code in RETRIED or not (200 <= code < 300 or 400 <= code < 500):
        return Fate.RETRY
    return Fate.FINAL


@dataclass(frozen=True, slots=True)
class Answer:
    """What a side said to a statement: HTTP's meaning of `code`, a sentence for people, what helps."""

    code: int
    message: str = ""
    fix: str = ""

    @property
    def final(self) -> bool:
        """Whether the statement is done with: delivered, or refused for good."""
        return fate(self.code) is Fate.FINAL

    @property
    def taken(self) -> bool:
        """Whether the statement was taken in."""
        return 200 <= self.code < 300


def answer_of(error: DispatchError) -> Answer:
    """Return the answer that tells an error."""
    return Answer(error.code, error.message, error.fix)
