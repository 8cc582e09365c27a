"""Making the views of a run before it starts, and closing them when it has ended. How one is made: overlay.py, copy.py.

All writable roots of a profile get one, once: the canaries and every program of the run see the same. What the views
are is on the disk before anything of the run starts (record.py).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from sandbox.confinement import Root
from sandbox.confinement.given import open_given
from sandbox.confinement.profile import Limits, View
from sandbox.errors import SandboxError
from sandbox.views import overlay
from sandbox.views.copy import Allowance, copy, reserve
from sandbox.views.manifest import ManifestError, kind_of
from sandbox.views.overlay import NoOverlayError
from sandbox.views.record import RECORDS, VIEWS, ViewRecord, ViewRecords


@dataclass
class Views:
    """`roots`: those that were given, the writable ones with their views. `records`: what was written down. `copied`:
    why a folder's view is no overlay, as sentences for the log.

    Call `close` when the last process of the run has ended.
    """

    roots: tuple[Root, ...]
    records: tuple[ViewRecord, ...]
    copied: list[str]
    _mounted: list[Path]

    @property
    def skipped(self) -> tuple[str, ...]:
        """What the run does not see of its folders, as sentences."""
        return tuple(sentence for record in self.records for sentence in record.skipped)

    def close(self) -> None:
        """Unmount them; what the run did stays in the run's folder. Blocking, idempotent. Raises nothing."""
        while self._mounted:
            with contextlib.suppress(OSError):
                overlay.unmount(self._mounted.pop())


def make_views(roots: Sequence[Root], run_folder: Path, *, no_overlay: str, limits: Limits) -> Views:
    """Make the folder of all views in `run_folder`, and in it one view for each writable root. Blocking.

    `no_overlay`: why this process cannot mount (namespace.py); "" if it can. Where an overlay cannot be had, a copy
    serves. Raises SandboxError: 403 or 422 for a root that cannot be given to a run, 503 where the disk fails.
    """
    views = Views((), (), [], [])
    made: list[Root] = []
    records: list[ViewRecord] = []
    allowance = Allowance(reserve=reserve(run_folder, limits))
    try:
        (run_folder / VIEWS).mkdir(mode=0o700)
        for root in roots:
            if not root.writable:
                made.append(root)
                continue
            viewed, record = _make(root, len(records) + 1, run_folder, no_overlay, allowance, views)
            made.append(viewed)
            records.append(record)
        _write(run_folder / VIEWS, records)
    except BaseException as raised:
        views.close()
        if isinstance(raised, OSError | ManifestError):
            why = raised.strerror if isinstance(raised, OSError) and raised.strerror else str(raised)
            raise SandboxError(
                f"the run's view of its folders cannot be made: {why}",
                fix="make room on the disk that holds dispatch's own folder, then accept again",
            ) from raised
        raise
    views.roots, views.records = tuple(made), tuple(records)
    return views


def _make(
    root: Root, number: int, run_folder: Path, no_overlay: str, allowance: Allowance, views: Views
) -> tuple[Root, ViewRecord]:
    original = open_given(root.path)
    try:
        about = os.fstat(original)
        folder = run_folder / VIEWS / str(number)
        folder.mkdir(mode=0o700)
        record = ViewRecord(
            number=number,
            root=os.fsdecode(root.path),
            inside=str(root.inside),
            name=root.name or root.path.name,
            repository=root.repository,
            kind="overlay",
            device=about.st_dev,
            inode=about.st_ino,
            made_ns=folder.stat().st_ctime_ns,
        )
        if kind_of(about) == "folder":
            why = no_overlay
            if not why:
                try:
                    seen = overlay.mount(original, folder)
                    views._mounted.append(folder)
                    return replace(root, view=View(seen, folder / overlay.UPPER)), record
                except NoOverlayError as problem:
                    why = str(problem)
            views.copied.append(f"view {number} is a copy: {why}")
        seen, skipped = copy(original, folder, record.called, allowance)
        return replace(root, view=View(seen, seen)), msgspec.structs.replace(record, kind="copy", skipped=skipped)
    finally:
        os.close(original)


def _write(folder: Path, records: list[ViewRecord]) -> None:
    content = msgspec.json.encode(ViewRecords(views=records))
    descriptor = os.open(folder / RECORDS, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
