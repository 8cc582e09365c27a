"""What a run gives back: the files in its out/ and the diff of the person's folders, within its budget of bytes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from sandbox import changes, frames
from sandbox.confinement import Snapshot, collect_files
from sandbox.rundir import RunDir

CHANGES: Final = "changes.diff"
"""The name of the diff; a file of the run's own of this name gets another."""


@dataclass(frozen=True)
class Returned:
    """``left_out``: (harmless name, reason) of files in out/ that were not taken. ``offered``: bytes of all there
    were.
    """

    files: list[frames.ReturnedFile] = field(default_factory=list)
    changes: frames.ReturnedFile | None = None
    left_out: tuple[tuple[str, str], ...] = ()
    offered: int = 0


def collect(run_dir: RunDir, before: Snapshot | None, *, max_bytes: int) -> Returned:
    """Take everything, when the run is dead. Blocking. Raises OSError where this machine's own disk fails."""
    collection = collect_files(run_dir.workspace, run_dir.collected, max_bytes=max_bytes, reserved=frozenset({CHANGES}))
    files = [
        frames.ReturnedFile(name=file.name, path=str(file.path), size=file.size, sha256=file.sha256)
        for file in collection.files
    ]
    left = max_bytes - sum(file.size for file in files)
    diff = None if before is None else _diff(run_dir, before, left)
    return Returned(files, diff, collection.left_out, collection.offered)


def _diff(run_dir: RunDir, before: Snapshot, room: int) -> frames.ReturnedFile | None:
    limit = min(changes.MAX_DIFF, room)
    content = changes.diff(before.changes(), whole=lambda: before.whole, limit=limit).encode("utf-8", "replace")
    if not content or len(content) > room:
        return None
    path = run_dir.collected / CHANGES
    path.write_bytes(content)
    return frames.ReturnedFile(
        name=CHANGES, path=str(path), size=len(content), sha256=hashlib.sha256(content).hexdigest()
    )
