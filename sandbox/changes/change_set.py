"""Makes the change set of one run: reads its views, finds renames, sets marks, and puts the entries in order."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from sandbox.changes import links
from sandbox.changes.bounds import Bounds, Exhausted
from sandbox.changes.comparing import Comparison
from sandbox.changes.copy_reader import CopyReader
from sandbox.changes.descriptors import FOLDER, PIN, let_in
from sandbox.changes.draft import Draft
from sandbox.changes.freeze import Blobs
from sandbox.changes.ignored import VersionControl
from sandbox.changes.marks import Tracked, marks
from sandbox.changes.original import ByManifest, ByTime, Original
from sandbox.changes.overlay_reader import OverlayReader
from sandbox.changes.repository import read_repository
from sandbox.changes.values import ChangeSet, Entry
from sandbox.views.manifest import ManifestError, read
from sandbox.views.record import RECORDS, VIEWS, ViewRecord, ViewRecords

_MAX_RECORDS: Final = 10_000_000
CLOCK: Final = "this machine's clock was set back since the view was made, so later changes cannot be detected"
UNASKED: Final = "version control cannot be asked about a name like this"


def views_of(run_folder: Path) -> list[ViewRecord]:
    """The views of a run, as they were written down before it. Raises OSError, msgspec.DecodeError, ValueError."""
    with (run_folder / VIEWS / RECORDS).open("rb") as file:
        content = file.read(_MAX_RECORDS + 1)
    if len(content) > _MAX_RECORDS:
        raise ValueError("the record of the views is too large")
    return msgspec.json.decode(content, type=ViewRecords).views


def change_set(run_folder: Path, views: list[ViewRecord], blobs: Blobs, now_ns: int, bounds: Bounds) -> ChangeSet:
    """Read the views of a run whose last process has died. `now_ns`: the time of change of a file made just now.

    What cannot be read is an entry or a sentence of the result. Raises OSError only where this machine's disk fails.
    """
    entries: list[Entry] = []
    for record in views:
        try:
            drafts = _drafts(run_folder, record, blobs, now_ns, bounds)
        except (OSError, RecursionError, MemoryError) as error:
            bounds.say(f"the view of {record.called} could not be read ({type(error).__name__})")
            continue
        entries += [_entry(draft, len(entries) + at, record.number) for at, draft in enumerate(drafts)]
    return ChangeSet(views=views, entries=entries, incomplete=bounds.incomplete)


def _drafts(run_folder: Path, record: ViewRecord, blobs: Blobs, now_ns: int, bounds: Bounds) -> list[Draft]:
    is_file = False
    with Original(record, bounds) as original:
        if original.descriptor is not None:
            is_file = not stat.S_ISDIR(os.fstat(original.descriptor).st_mode)
        control = VersionControl(Path(record.root), is_file=is_file)
        if now_ns < record.made_ns and record.kind == "overlay":
            original.conflict = original.conflict or CLOCK
        folder = os.open(record.folder(run_folder), FOLDER)
        found: list[Draft] = []
        try:
            _read(folder, record, run_folder, original, blobs, bounds, control.ignores_folder, found)
        except Exhausted as problem:
            bounds.say(f"{record.called}: {problem}")
        finally:
            os.close(folder)
        drafts = ordered(with_renames(found))
        _mark(drafts, record, original, control, bounds, is_file)
        return drafts


def _read(
    folder: int,
    record: ViewRecord,
    run_folder: Path,
    original: Original,
    blobs: Blobs,
    bounds: Bounds,
    ignored: Callable[[bytes], bool],
    found: list[Draft],
) -> None:
    """Read one view's folder into `found`. Raises Exhausted, with what was found until then; OSError."""
    if record.kind == "overlay":
        comparison = Comparison(original, ByTime(record.made_ns), blobs, bounds, ignored)
        comparison.drafts = found
        let_in(folder, "upper")
        if record.repository:
            read_repository(folder, "upper", comparison, {})
            return
        OverlayReader(comparison).read(os.open("upper", FOLDER, dir_fd=folder))
        return
    try:
        copied = {one.path: one for one in read(record.folder(run_folder) / "manifest")}
    except ManifestError as problem:
        bounds.say(f"{record.called}: cannot tell what the run was given ({problem})")
        return
    comparison = Comparison(original, ByManifest(copied), blobs, bounds, ignored)
    comparison.drafts = found
    if record.repository:
        read_repository(folder, "copy", comparison, copied)
        return
    reader = CopyReader(comparison, copied)
    pinned = os.open("copy", PIN, dir_fd=folder)
    try:
        is_file = not stat.S_ISDIR(os.fstat(pinned).st_mode)
        whole = copied.get(b"")
        if whole is None or (whole.kind == "file") != is_file:
            bounds.say(f"{record.called}: the run's copy is no longer what it was")
            return
        if is_file:
            reader.read_file(pinned)
            return
    finally:
        os.close(pinned)
    let_in(folder, "copy")
    reader.read(os.open("copy", FOLDER, dir_fd=folder))


def with_renames(drafts: list[Draft]) -> list[Draft]:
    """Make one entry of a deleted and an added file of the same content, where no other has it."""
    gone = [one for one in drafts if one.change == "deleted" and one.base is not None and one.base.sha256]
    new = [one for one in drafts if one.change == "added" and one.kind == "file" and one.size]
    before = Counter(one.base.sha256 for one in gone if one.base is not None)
    after = Counter(one.sha256 for one in new)
    added = {one.sha256: one for one in new}
    taken: set[int] = set()
    for old in gone:
        assert old.base is not None
        sha256 = old.base.sha256
        if before[sha256] != 1 or after[sha256] != 1:
            continue
        renamed = added[sha256]
        if renamed.executable != bool(old.base.mode & stat.S_IXUSR):
            continue
        renamed.change, renamed.renamed_from = "renamed", old.path
        renamed.conflict = renamed.conflict or old.conflict
        renamed.plain = renamed.plain and old.plain
        renamed.repository, renamed.nested = renamed.repository or old.repository, renamed.nested or old.nested
        renamed.askable = renamed.askable and old.askable
        renamed.notes += old.notes
        if old.base.mode & (stat.S_IXGRP | stat.S_IXOTH):
            renamed.notes.append("what it replaces is executable")
        taken.add(id(old))
    return [one for one in drafts if id(one) not in taken]


def ordered(drafts: Iterable[Draft]) -> list[Draft]:
    """By path, what takes a folder away after all that lies in it; without new folders that other entries make."""
    early: list[Draft] = []
    late: list[Draft] = []
    for draft in drafts:
        over = draft.base is not None and draft.base.kind == "folder" and draft.change in ("deleted", "changed")
        (late if over else early).append(draft)
    early.sort(key=_key)
    # A folder in place of a file, or a new one, is one entry where nothing in it is one; else the file is only deleted.
    kept: list[Draft] = []
    for at, draft in enumerate(early):
        following = early[at + 1].path if at + 1 < len(early) else b""
        if draft.kind == "folder" and following.startswith(draft.path + b"/"):
            if draft.change == "changed" and draft.base is not None:
                draft.change, draft.kind = "deleted", draft.base.kind
                kept.append(draft)
            elif draft.change != "added":
                kept.append(draft)
            continue
        kept.append(draft)
    staying = _above(one.path for one in kept if one.change in ("dropped", "folded", "unread"))
    late = [one for one in late if one.path not in staying or one.change != "deleted"]
    for one in late:
        if one.path in staying:
            one.never = one.never or "the folder that it replaces holds files that are not deleted"
    late.sort(key=_key, reverse=True)
    return kept + late


def _key(draft: Draft) -> bytes:
    return draft.path.replace(b"/", b"\0")


def _above(paths: Iterable[bytes]) -> set[bytes]:
    above: set[bytes] = set()
    for path in paths:
        at = path.rfind(b"/")
        while at >= 0 and path[:at] not in above:
            above.add(path[:at])
            at = path.rfind(b"/", 0, at)
    return above


def _mark(
    drafts: list[Draft], record: ViewRecord, original: Original, control: VersionControl, bounds: Bounds, is_file: bool
) -> None:
    asked = {path for one in drafts if one.askable and not one.nested for path in (one.path, one.renamed_from)}
    if not is_file:
        asked.discard(b"")
    ignored = control.ignored(sorted(asked))
    tracked = Tracked(frozenset(ignored), control.problem)
    after = _After(drafts, original, bounds)
    name = os.fsencode(Path(record.root).name) if is_file else b""
    for draft in drafts:
        if not control.askable(draft.path) or not control.askable(draft.renamed_from):
            draft.notes.append(UNASKED)
        if draft.kind == "link" and draft.change in ("added", "changed"):
            with suppress(Exhausted):
                if links.leads_out(draft.path, draft.target, after.link_at):
                    draft.never = links.OUTSIDE
                draft.marks = marks(draft, tracked, name=name)
                continue
            draft.never = "its target could not be checked"
        draft.marks = marks(draft, tracked, name=name)


class _After:
    """The links of the original's tree once all entries are put in place."""

    def __init__(self, drafts: list[Draft], original: Original, bounds: Bounds) -> None:
        self._changed = {one.path: one for one in drafts if one.change not in ("unread", "dropped", "folded")}
        self._gone = {one.renamed_from for one in drafts if one.renamed_from}
        self._original = original
        self._bounds = bounds

    def link_at(self, path: bytes) -> bytes | None:
        self._bounds.tick()
        if (draft := self._changed.get(path)) is not None:
            return draft.target if draft.kind == "link" and draft.change != "deleted" else None
        return None if path in self._gone else self._original.link_at(path)


def _entry(draft: Draft, number: int, view: int) -> Entry:
    return Entry(
        number=number,
        view=view,
        path=draft.path,
        change=draft.change,
        kind=draft.kind,
        executable=draft.executable,
        size=draft.size,
        sha256=draft.sha256,
        target=draft.target,
        base=draft.base,
        renamed_from=draft.renamed_from,
        count=draft.count,
        marks=draft.marks,
        conflict=draft.conflict,
        never=draft.never,
    )
