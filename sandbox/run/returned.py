"""What a run returns: the files in its out/ and the diff of the person's folders, within its budget of bytes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from sandbox import frames
from sandbox.run import diff
from sandbox.run.collect import collect_files
from sandbox.run.folder import RunFolder
from sandbox.run.snapshot import Snapshot

CHANGES: Final = "changes.diff"
"""The name of the diff; a returned file of this name is renamed."""


@dataclass(frozen=True)
class ReturnedFiles:
    """`left_out`: (harmless name, reason) of files that are not returned. `not_seen`: what was not looked at for
    changes. `offered`: bytes of all in out/.
    """

    files: list[frames.ReturnedFile] = field(default_factory=list)
    changes: frames.ReturnedFile | None = None
    left_out: tuple[tuple[str, str], ...] = ()
    not_seen: tuple[str, ...] = ()
    offered: int = 0


def collect(
    run_folder: RunFolder, before: Snapshot | None, *, max_bytes: int, attached: frozenset[str]
) -> ReturnedFiles:
    """Take everything; call it when the run has ended. `attached`: names of the files that came along. Blocking.

    Raises OSError where this machine's own disk fails.
    """
    collection = collect_files(
        run_folder.workspace,
        run_folder.collected,
        max_bytes=max_bytes,
        reserved=frozenset({CHANGES}),
        attached=attached,
    )
    files = [
        frames.ReturnedFile(name=file.name, path=str(file.path), size=file.size, sha256=file.sha256)
        for file in collection.files
    ]
    left = max_bytes - sum(file.size for file in files)
    if before is None:
        return ReturnedFiles(files, None, collection.left_out, offered=collection.offered)
    content = _diff(before, left)
    changes, left_out = None, collection.left_out
    if len(content) > left:
        left_out = ((CHANGES, "no room is left in the run's budget"), *left_out)
    elif content:
        changes = _kept(run_folder, content)
    return ReturnedFiles(files, changes, left_out, before.not_seen, collection.offered)


def _diff(before: Snapshot, room: int) -> bytes:
    limit = min(diff.MAX_DIFF, room)
    return diff.unified_diff(before.changes(), whole=lambda: before.whole, limit=limit).encode("utf-8", "replace")


def _kept(run_folder: RunFolder, content: bytes) -> frames.ReturnedFile:
    path = run_folder.collected / CHANGES
    path.write_bytes(content)
    return frames.ReturnedFile(
        name=CHANGES, path=str(path), size=len(content), sha256=hashlib.sha256(content).hexdigest()
    )
