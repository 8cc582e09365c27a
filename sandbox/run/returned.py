"""What a run returns: the files in its out/ and the diff of the person's folders, within its budget of bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from sandbox import frames
from sandbox.run import diff
from sandbox.run.collect import collect_files
from sandbox.run.folder import RunFolder
from sandbox.run.snapshot import Change, Snapshot

CHANGES: Final = "changes.diff"
"""The name of the diff; a returned file of this name is renamed."""


@dataclass(frozen=True)
class ReturnedFiles:
    """`left_out`: (harmless name, reason) of files in out/ that were not taken. `offered`: bytes of all in it.

    `changed`: how many files of the person's folders changed; None where not everything was looked at.
    """

    files: list[frames.ReturnedFile] = field(default_factory=list)
    changes: frames.ReturnedFile | None = None
    changed: int | None = None
    left_out: tuple[tuple[str, str], ...] = ()
    offered: int = 0


def collect(run_folder: RunFolder, before: Snapshot | None, *, max_bytes: int) -> ReturnedFiles:
    """Take everything; call it when the run has ended. Blocking. Raises OSError where this machine's own disk fails."""
    collection = collect_files(
        run_folder.workspace, run_folder.collected, max_bytes=max_bytes, reserved=frozenset({CHANGES})
    )
    files = [
        frames.ReturnedFile(name=file.name, path=str(file.path), size=file.size, sha256=file.sha256)
        for file in collection.files
    ]
    left = max_bytes - sum(file.size for file in files)
    changes, changed = (None, None) if before is None else _diff(run_folder, before, left)
    return ReturnedFiles(files, changes, changed, collection.left_out, collection.offered)


def _diff(run_folder: RunFolder, before: Snapshot, room: int) -> tuple[frames.ReturnedFile | None, int | None]:
    """(the diff, None where nothing is to be returned; how many files changed, None where not all were looked at)."""
    limit = min(diff.MAX_DIFF, room)
    count = 0

    def counted() -> Iterator[Change]:
        nonlocal count
        for change in before.changes():
            count += 1
            yield change

    content = diff.unified_diff(counted(), whole=lambda: before.whole, limit=limit).encode("utf-8", "replace")
    changed = count if before.whole else None
    if not content or len(content) > room:
        return None, changed
    path = run_folder.collected / CHANGES
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return frames.ReturnedFile(name=CHANGES, path=str(path), size=len(content), sha256=digest), changed
