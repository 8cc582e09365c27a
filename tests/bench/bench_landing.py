"""1,000 files of 8 KB put into a person's folder and taken back, beside a plain copy of them that is synced.

A landing hashes and copies each, compares what it replaces before and after, and syncs contents, folders and its
journal; the baseline copies the same files into an empty folder, with one fsync for each.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from peer.landing import engine
from sandbox.changes.values import BLOBS, Base, Entry
from sandbox.views.record import ViewRecord
from tests.bench._table import Line, p50, show

FILES, SIZE, ROUNDS = 1_000, 8_000, 3
GOAL = 3.0


def make(top: Path, replaced: bool) -> tuple[Path, list[Entry], dict[int, ViewRecord]]:
    """Make a change set of new files, or of changed ones, and the folder that it is for."""
    root, changes = top / "project", top / "changes"
    (changes / BLOBS).mkdir(parents=True)
    root.mkdir()
    entries = []
    for number in range(FILES):
        path = f"src/{number % 40}/{number}.txt"
        content, base = os.urandom(SIZE), None
        digest = hashlib.sha256(content).hexdigest()
        (changes / BLOBS / digest).write_bytes(content)
        if replaced:
            old = os.urandom(SIZE)
            place = root / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(old)
            about = place.stat()
            base = Base(
                kind="file",
                mode=0o644,
                size=SIZE,
                sha256=hashlib.sha256(old).hexdigest(),
                device=about.st_dev,
                inode=about.st_ino,
                changed_ns=about.st_ctime_ns,
            )
        entries.append(
            Entry(
                number=number,
                view=1,
                path=path.encode(),
                change="changed" if replaced else "added",
                size=SIZE,
                sha256=digest,
                base=base,
            )
        )
    about = root.stat()
    view = ViewRecord(
        number=1, root=str(root), inside="/project", kind="overlay", device=about.st_dev, inode=about.st_ino, made_ns=0
    )
    os.sync()
    return changes, entries, {1: view}


def copy_plainly(changes: Path, entries: list[Entry], to: Path, *, synced: bool) -> None:
    for entry in entries:
        place = to / entry.path.decode()
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(changes / BLOBS / entry.sha256, place)
        if synced:
            with place.open("rb") as file:
                os.fsync(file.fileno())


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    assert not work()
    return time.perf_counter() - start


def main() -> None:
    taken: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for what, replaced in (("new", False), ("changed", True)):
            with tempfile.TemporaryDirectory(prefix="dispatch-bench-") as folder:
                top = Path(folder)
                changes, entries, views = make(top, replaced)
                journal = changes / "landing-1"

                def note(name: str, work: Callable[[], object]) -> None:
                    taken.setdefault(name, []).append(seconds(work))

                note("plain copy", lambda: copy_plainly(changes, entries, top / "copy", synced=True))  # noqa: B023
                note("not synced", lambda: copy_plainly(changes, entries, top / "quick", synced=False))  # noqa: B023
                note(f"dry run, {what}", lambda: engine.dry_run(changes, entries, views).refusals)  # noqa: B023
                note(f"apply, {what}", lambda: engine.apply(changes, entries, views, journal))  # noqa: B023
                note(f"undo, {what}", lambda: engine.undo(journal))  # noqa: B023
    base = p50(taken["plain copy"])
    lines = []
    for name, values in taken.items():
        ratio = p50(values) / base
        goal = f"<= {GOAL:g}x" if name.startswith("apply") else ""
        lines.append(
            Line(name, f"{p50(values) * 1e3:.0f} ms", ratio, "plain copy", goal, ratio <= GOAL if goal else None)
        )
    show(f"{FILES} files of {SIZE / 1e3:g} KB, {ROUNDS} times", lines)


if __name__ == "__main__":
    main()
