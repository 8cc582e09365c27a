"""What a proof of a confinement found, as values: each attempt to break out and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["blocked", "open", "untestable", "permitted", "missing"]
"""`blocked` inside though it succeeds outside; `open`: it succeeded inside; `untestable`: it fails outside too;
`permitted`: it must succeed inside, and did; `missing`: it must, and did not.
"""


@dataclass(frozen=True, slots=True)
class Canary:
    """One attempt."""

    name: str
    outcome: Outcome
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CanaryReport:
    """`ok`: whether runs may use the profile. `unproven`: attempts that should have succeeded outside, and did not.

    `tier` and `mechanisms` name what confines the run; `seconds` is how long the proof took.
    """

    canaries: tuple[Canary, ...]
    unproven: tuple[str, ...]
    seconds: float
    tier: str
    mechanisms: tuple[str, ...]

    @property
    def failed(self) -> tuple[str, ...]:
        return tuple(canary.name for canary in self.canaries if canary.outcome in ("open", "missing")) + self.unproven

    @property
    def ok(self) -> bool:
        return not self.failed
