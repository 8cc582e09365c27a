"""Acknowledgements of statements, and the one table of what each code means for the statement. Pure.

| code | meaning | the statement |
|---|---|---|
| 200 | accepted and in force | is done |
| 202 | accepted; its files are still to be fetched and verified | is done |
| 4xx | refused, and would be refused again | is done |
| 408, 425, 5xx | refused for a temporary reason | is sent again |

429 is final: an edge's rate limit refused this one statement. A flooded courier sends no 429; it stops reading. After
a code outside these classes the statement is sent again, because a newer version may use one for a temporary reason.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from peer.protocol.errors import DispatchError


class Disposition(enum.Enum):
    """What an acknowledgement means for its statement: it is done, or it is sent again."""

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


def disposition(code: int) -> Disposition:
    """Return whether a statement is done or sent again after an acknowledgement with this code."""
    if code in RETRIED or not (200 <= code < 300 or 400 <= code < 500):
        return Disposition.RETRY
    return Disposition.FINAL


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The reply to one statement: a code as in HTTP, a sentence for people, and the fix ("" if there is none)."""

    code: int
    message: str = ""
    fix: str = ""

    @property
    def final(self) -> bool:
        """Whether the statement is done: delivered, or refused for good."""
        return disposition(self.code) is Disposition.FINAL

    @property
    def taken(self) -> bool:
        """Whether the statement was accepted (2xx)."""
        return 200 <= self.code < 300


def acknowledgement_of(error: DispatchError) -> Acknowledgement:
    """Return the acknowledgement that carries an error."""
    return Acknowledgement(error.code, error.message, error.fix)
