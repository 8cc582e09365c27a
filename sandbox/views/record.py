"""The views of one run as they are written down before anything runs, so that they can be read whatever ends it.

In the run's folder:
    views/views.json    `ViewRecords`, written and synced before the first process of the run starts
    views/N/            the view with that number: `upper`, `work` and `merged` of an overlay, or `copy` and `manifest`
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import msgspec

VIEWS: Final = "views"
"""The folder of all views in a run's folder."""
RECORDS: Final = "views.json"


class ViewRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One view.

    `root`: the person's folder (or file) on this machine, `device` and `inode` what it was; `inside`: where the run
    sees it, `name`: what it is called in what leaves this machine (of older records "", which name no path in
    `inside`). `kind`: how the view is made. `made_ns`: the time of change of a file that was made just before the view,
    in nanoseconds since 1970: what changed later in the original was changed meanwhile. `skipped`: what a copy left
    out, as sentences; those paths are in no change set.
    """

    number: int
    root: str
    inside: str
    name: str = ""
    repository: str = ""
    """The project whose repository's own folder it is, such as a worktree's main `.git`; "" for any other."""
    kind: Literal["overlay", "copy"]
    device: int
    inode: int
    made_ns: int
    skipped: list[str] = []

    @property
    def called(self) -> str:
        """The name by which the sender knows it."""
        return self.name or self.inside.strip("/")

    def folder(self, run_folder: Path) -> Path:
        """Return where the view lies in the run's folder."""
        return run_folder / VIEWS / str(self.number)


class ViewRecords(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All views of one run."""

    views: list[ViewRecord]
