"""To be replaced."""

from __future__ import annotations

from pathlib import Path

from sandbox.changes.values import Entry


def diff_of(entry: Entry, root: Path, folder: Path) -> str:
    raise NotImplementedError
