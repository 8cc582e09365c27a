"""What a run returns: the files in its out/, within its budget of bytes. What it changed elsewhere is in its views."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from sandbox import frames
from sandbox.run.collect import collect_files
from sandbox.run.folder import RunFolder

CHANGES: Final = "changes.diff"
"""The name of the patch that the node may add; a returned file of this name is renamed."""


@dataclass(frozen=True)
class ReturnedFiles:
    """`left_out`: (harmless name, reason) of files that are not returned. `offered`: bytes of all in out/."""

    files: list[frames.ReturnedFile] = field(default_factory=list)
    left_out: tuple[tuple[str, str], ...] = ()
    offered: int = 0


def collect(run_folder: RunFolder, *, max_bytes: int, attached: frozenset[str]) -> ReturnedFiles:
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
    return ReturnedFiles(files, collection.left_out, collection.offered)
