"""What a copied view will leave out is what the copy then leaves out, and is told within bounds."""

from __future__ import annotations

import itertools
import os
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from sandbox.views import copy as copies
from sandbox.views import foretold, overlay
from sandbox.views.copy import Allowance, copy
from sandbox.views.foretold import left_out

WHY = "no namespace of its own: Operation not permitted"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "src").mkdir(parents=True)
    (folder / "src/app.py").write_text("x = 1\n")
    (folder / "link").symlink_to("src")
    return folder


def told(folder: Path, **given: object) -> list[str]:
    return left_out(folder, folder.parent, no_overlay=str(given.pop("no_overlay", WHY)), **given)  # type: ignore[arg-type]


def test_nothing_is_told_where_nothing_is_left_out(project: Path) -> None:
    assert told(project) == [] == told(project, no_overlay="")
    assert told(project / "src/app.py") == [] == told(project / "missing")


def test_what_is_told_is_what_the_copy_leaves_out(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "MAX_DEPTH", 3)
    (project / "a/b/c").mkdir(parents=True)
    os.mkfifo(project / "src/pipe")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(project / "sock"))
    with (project / "disk.img").open("wb") as file:
        file.truncate(copies.MAX_BYTES + 1)
    (sentence,) = told(project)
    assert sentence.startswith(f"not all of the folder is there, because it is copied ({WHY}): ")
    for part in (
        "a/b/c (nested too deeply for a copy)",
        "src/pipe (neither a file, a folder nor a link)",
        "sock (neither a file, a folder nor a link)",
        "disk.img (too large for a copy)",
    ):
        assert part in sentence
    (project.parent / "view").mkdir()
    original = os.open(project, os.O_PATH)
    _, skipped = copy(original, project.parent / "view", "", Allowance(reserve=0))
    os.close(original)
    assert len(skipped) == sentence.count(" (") - 1 and all(each.partition(": ")[0] in sentence for each in skipped)


def test_too_many_files_and_too_little_room(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        (project / f"src/{number}").write_bytes(b"x" * 1_000)
    monkeypatch.setattr(foretold, "Allowance", lambda reserve: Allowance(reserve=reserve, entries=5))
    (sentence,) = told(project)
    assert "too many files for a copy" in sentence
    room = os.statvfs(project)
    free = room.f_bavail * room.f_frsize
    monkeypatch.setattr(foretold, "Allowance", lambda reserve: Allowance(reserve=free + (1 << 30)))
    (sentence,) = told(project)
    assert "the disk has not enough room for a copy" in sentence and "and 16 more" in sentence


def test_a_folder_that_takes_too_long_is_not_looked_at_whole(project: Path) -> None:
    ticks = itertools.count()
    (sentence,) = told(project, seconds=2.0, clock=lambda: float(next(ticks)))
    assert sentence.endswith("and it is too large to look at all of it now")


def test_an_overlay_leaves_nothing_out_unless_something_is_in_its_way(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(project / "pipe")
    monkeypatch.setattr(overlay, "_LOCAL", {})
    (sentence,) = told(project, no_overlay="")
    assert "it is on a file system that is not this machine's own" in sentence and "pipe" in sentence
    monkeypatch.undo()
    monkeypatch.setattr(overlay, "hindrance", lambda _: "")
    assert told(project, no_overlay="") == []


def test_nothing_is_made_and_nothing_stays_open(project: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir())), sorted(project.rglob("*"))
    os.mkfifo(project.parent / "pipe")
    told(project)
    assert (len(list(Path("/proc/self/fd").iterdir())), sorted(project.rglob("*"))) == before
    assert sorted(each.name for each in project.parent.iterdir()) == ["pipe", "project"]


def test_what_is_copied_first_takes_room_from_the_next(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        (project / name).write_bytes(b"x" * 1_000)
    monkeypatch.setattr(foretold, "Allowance", lambda reserve: Allowance(reserve=0))
    monkeypatch.setattr(os, "fstatvfs", lambda _: SimpleNamespace(f_bavail=1_500, f_frsize=1))
    (sentence,) = told(project)
    assert sentence.endswith(": two (the disk has not enough room for a copy)")
