"""Adds to a change set what a run committed: one entry for each repository of the person's in its views.

Finding, packing and checking them is `sandbox.commits`, a program of its own; here its answer becomes entries.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from sandbox.changes.bounds import MAX_FILE, Bounds
from sandbox.changes.comparing import METADATA_NEVER
from sandbox.changes.descriptors import digest
from sandbox.changes.freeze import Blobs
from sandbox.changes.original import Original
from sandbox.changes.values import HEADS, Base, ChangeSet, Entry
from sandbox.commits.values import Answer, Found, Request, Wanted
from sandbox.views.record import ViewRecord

MARK: Final = "commits are code, which git and other tools check out and run"
CUT: Final = "they are too long to be shown in full"
REST: Final = f"{METADATA_NEVER} (index, hooks, settings, tags, stashes, …); the run's commits are listed by themselves"
_TOO_LARGE: Final = "all the changes together are larger than what is kept of one run"
_SECONDS: Final = 300.0
"""For the program: more than its own bounds let it take."""
_WORK: Final = ".commits"
_GIT: Final = b".git"
_ROOT: Final = Path(__file__).resolve().parents[2]


def with_commits(changes: ChangeSet, run_folder: Path, destination: Path, blobs: Blobs, bounds: Bounds) -> ChangeSet:
    """Return the change set with an entry for each repository in which the run made commits that can be kept.

    Why they cannot be kept is said at what is dropped of the repository. Raises OSError only where this machine fails.
    """
    views = {view.number: view for view in changes.views}
    bases: dict[tuple[int, bytes], Base] = {}
    for entry in changes.entries:
        whole = bool(views[entry.view].repository) and not entry.path
        if entry.change != "dropped" or entry.kind != "folder" or not (whole or entry.path.rpartition(b"/")[2] == _GIT):
            continue
        if (base := _base(views[entry.view], entry.path, bounds)) is not None:
            bases[entry.view, entry.path] = base
    if not bases:
        return changes
    work = destination / _WORK
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(mode=0o700)
    entries = list(changes.entries)
    places = {(each.view, each.path): at for at, each in enumerate(entries) if each.change == "dropped"}
    try:
        for found in _ask(views, bases, run_folder, work):
            key = found.view, found.path
            problem, never = found.problem, METADATA_NEVER
            if found.branches and not problem:
                if (work / found.pack).stat().st_size + (work / found.text).stat().st_size > bounds.kept:
                    problem = _TOO_LARGE
                else:
                    entries.append(_entry(found, len(entries), bases[key], work, blobs, bounds))
                    never = REST
            if problem:
                never = f"{METADATA_NEVER}; the run's commits are not kept: {problem}"
            entries[places[key]] = msgspec.structs.replace(entries[places[key]], never=never)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return msgspec.structs.replace(changes, entries=entries)


def _base(record: ViewRecord, path: bytes, bounds: Bounds) -> Base | None:
    """The original's repository; None where there is none, or none that is reached without a link."""
    with Original(record, bounds) as original, suppress(OSError):
        folder = None if original.conflict else original.folder(path)
        if folder is not None:
            try:
                about = os.fstat(folder)
            finally:
                os.close(folder)
            return Base(
                kind="folder",
                mode=stat.S_IMODE(about.st_mode),
                device=about.st_dev,
                inode=about.st_ino,
                changed_ns=about.st_ctime_ns,
            )
    return None


def _ask(
    views: dict[int, ViewRecord], bases: dict[tuple[int, bytes], Base], run_folder: Path, work: Path
) -> list[Found]:
    """What the program found; for a program that fails, a problem of each repository."""
    wanted = [
        Wanted(view=record, paths=[path for view, path in bases if view == number])
        for number, record in views.items()
        if any(view == number for view, _ in bases)
    ]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "sandbox.commits", str(run_folder), str(work)],
            input=msgspec.json.encode(Request(wanted=wanted)),
            cwd=_ROOT,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"},
            stdout=subprocess.PIPE,
            timeout=_SECONDS,
            check=True,
        )
        return msgspec.json.decode(done.stdout, type=Answer).found
    except (OSError, subprocess.SubprocessError, msgspec.MsgspecError) as error:
        why = f"the program that packs them failed ({type(error).__name__})"
        return [Found(view=view, path=path, problem=why) for view, path in bases]


def _entry(found: Found, number: int, base: Base, work: Path, blobs: Blobs, bounds: Bounds) -> Entry:
    pack, size = _kept(work / found.pack, blobs, bounds)
    text, _ = _kept(work / found.text, blobs, bounds)
    return Entry(
        number=number,
        view=found.view,
        path=found.path + HEADS,
        change="commits",
        kind="folder",
        size=size,
        sha256=pack,
        base=base,
        count=found.count,
        branches=found.branches,
        text=text,
        marks=[MARK, *([CUT] if found.cut else [])],
    )


def _kept(path: Path, blobs: Blobs, bounds: Bounds) -> tuple[str, int]:
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        read = digest(file, MAX_FILE, lambda: None)
        blobs.keep(file, read.sha256)
    finally:
        os.close(file)
    bounds.kept -= read.size
    return read.sha256, read.size
