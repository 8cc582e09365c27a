"""What a result says of a run that the machine which ran it has counted itself, whatever the agent claims. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

COUNTS: Final = ("calls_allowed", "calls_denied", "files_changed")
"""What the machine that ran it counted, by its gate and its own look at the folders; members of a result's `usage`."""


def counts_text(counts: Mapping[str, object]) -> str:
    """Return the counts of a result in words: `2 calls allowed, 1 denied; 0 files changed`. "" where there are none."""
    if "calls_allowed" not in counts:
        return ""
    allowed, denied, changed = (counts.get(name) for name in COUNTS)
    files = "changed files were not counted"
    if changed is not None:
        files = f"{changed} file{'' if changed == 1 else 's'} changed"
    return f"{allowed} call{'' if allowed == 1 else 's'} allowed, {denied} denied; {files}"
