"""How one side answers a statement of the other, and which answers end it. Pure.

| code | means | the statement |
|---|---|---|
| 200 | taken in and in force | is done |
| 202 | taken in; its files are still to be fetched and verified | is done |
| 4xx | refused, and would be refused again | is done |
| 408, 425 | refused now, for a reason that passes by itself | is sent again |
| 5xx | this machine cannot now (disk full, stopping) | is sent again |
"""

from __future__ import annotations

from dataclasses import dataclass

from peer.protocol.errors import DispatchError

RETRIED = frozenset({408, 425})
"""Codes below 500 after which a statement is sent again (RFC 9110 15.5.9, RFC 8470 5.2)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A code of HTTP's meaning, a sentence for people, the fix. Empty texts when there is nothing to say."""

    code: int
    message: str = ""
    fix: str = ""

    @property
    def final(self) -> bool:
        """Whether the statement is done with: delivered or refused for good."""
        return self.code < 500 and self.code not in RETRIED

    @property
    def taken(self) -> bool:
        """Whether the statement was taken in."""
        return 200 <= self.code < 300


def answer_of(error: DispatchError) -> Answer:
    """Return the answer that tells an error."""
    return Answer(error.code, error.message[:500], error.fix[:500])
