"""To be replaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from sandbox.changes.values import Entry
from sandbox.views.record import ViewRecord


class Refusal(NamedTuple):
    """An entry, and why it cannot be put in place."""

    number: int
    reason: str


def dry_run(folder: Path, chosen: Sequence[Entry], views: Mapping[int, ViewRecord]) -> list[Refusal]:
    raise NotImplementedError


def apply(folder: Path, chosen: Sequence[Entry], views: Mapping[int, ViewRecord], journal: Path) -> list[Refusal]:
    raise NotImplementedError


def resume(journal: Path) -> Literal["applied", "nothing"]:
    raise NotImplementedError


def undo(journal: Path) -> list[Refusal]:
    raise NotImplementedError
