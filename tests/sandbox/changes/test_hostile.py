"""What a run may leave to make the reading of its changes fail, hang, or read elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.changes import bounds, change_set, descriptors
from sandbox.changes.bounds import Bounds
from sandbox.changes.freeze import Blobs
from sandbox.changes.values import ChangeSet
from tests.sandbox.changes.worlds import World


def read(world: World, limits: Bounds) -> ChangeSet:
    shutil.rmtree(world.destination, ignore_errors=True)
    world.destination.mkdir()
    with Blobs(world.destination / "blobs") as blobs:
        return change_set.change_set(
            world.run_folder, change_set.views_of(world.run_folder), blobs, world.tick(), limits
        )


def program(world: World) -> dict[str, object]:
    """Run the program as the node does."""
    done = subprocess.run(
        [sys.executable, "-m", "sandbox.changes", str(world.run_folder), str(world.destination)],
        cwd=Path(__file__).parents[3],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"},
        capture_output=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.count(b"\n") == 1
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_the_program_says_one_line(world: World) -> None:
    world.start()
    world.run("echo 1 > a.py; echo 2 > .env")
    found = program(world)
    assert {key: found[key] for key in ("entries", "marked", "conflicts", "bytes", "incomplete")} == {
        "entries": 2,
        "marked": 1,
        "conflicts": 0,
        "bytes": 4,
        "incomplete": [],
    }
    digest = subprocess.run(["sha256sum", world.destination / "changes.json"], capture_output=True, check=True)
    assert digest.stdout.decode().split()[0] == found["digest"]


def test_without_a_record_it_fails_with_a_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sandbox.changes", tmp_path, tmp_path / "to"],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1 and set(json.loads(done.stdout)) == {"code", "message", "fix"}


def test_depth_of_thousands(world: World) -> None:
    world.start()
    world.python(
        """
import os
for number in range(6000):
    os.mkdir("d"); open("f", "w").close() if number % 1000 == 0 else None; os.chdir("d")
"""
    )
    try:
        found = world.read()
    finally:
        subprocess.run(["rm", "-r", world.view], check=True)  # pytest's own clean-up is recursive
    # Three files, and the last folder that has a path.
    assert len(found.entries) == 4 and "nested too deeply" in found.incomplete[0]


def test_closed_folders_and_files_are_opened(world: World) -> None:
    (world.root / "kept").mkdir()
    (world.root / "kept/old.py").write_text("1\n")
    world.start()
    world.run(
        "mkdir -p a/b; echo 3 > a/b/c.py; chmod 000 a/b/c.py a/b a; rm kept/old.py; echo 2 > kept/new.py; "
        "chmod 000 kept; mkdir node_modules; mkdir node_modules/x; echo 1 > node_modules/x/y; chmod 000 node_modules; "
        "chmod 000 ."
    )
    found = world.entries()
    assert {path: entry.change for path, entry in found.items()} == {
        "a/b/c.py": "added",
        "kept/old.py": "deleted",
        "kept/new.py": "added",
        "node_modules": "folded",
    }
    assert world.blob(found["a/b/c.py"]) == b"3\n" and found["node_modules"].count == 1


def test_pipes_sockets_and_devices_are_never_opened(world: World) -> None:
    world.start()
    world.run("mkfifo pipe; mkfifo .git")
    with socket.socket(socket.AF_UNIX) as one:
        # As left in the view: a socket's path in it may be too long for bind.
        before = Path.cwd()
        os.chdir(world.view / ("upper" if world.kind == "overlay" else "copy"))
        try:
            one.bind("socket")
        finally:
            os.chdir(before)
    if os.geteuid() == 0:
        world.run("mknod null c 1 3; mknod disk b 8 0")
    found = world.entries()
    assert {"pipe", "socket", ".git"} <= set(found)
    assert all(entry.never and entry.change == "dropped" and not entry.sha256 for entry in found.values())


def test_a_forged_deletion_in_a_copy_deletes_nothing(copy: World) -> None:
    (copy.root / "a.py").write_text("1\n")
    copy.start()
    copy.run("mkdir b; echo 1 > b/c")
    if os.geteuid() == 0:
        copy.run("rm a.py; mknod a.py c 0 0")
    os.setxattr(copy.work / "b", "user.overlay.opaque", b"y")
    os.setxattr(copy.work / "b/c", "user.overlay.whiteout", b"y")
    found = copy.entries()
    assert found["b/c"].change == "added"
    if os.geteuid() == 0:
        assert (found["a.py"].change, found["a.py"].kind) == ("dropped", "other") and found["a.py"].never


def test_marks_that_a_run_sets_in_an_overlay_are_none(overlay: World) -> None:
    (overlay.root / "src").mkdir()
    (overlay.root / "src/a.py").write_text("1\n")
    overlay.start()
    overlay.python(
        """
import os
for name, value in (("opaque", b"y"), ("opaque", b"x"), ("whiteout", b"y"), ("redirect", b"/src"), ("origin", b"z")):
    for path in (".", "src"):
        try: os.setxattr(path, "user.overlay." + name, value)
        except OSError: pass
open("src/new.py", "w").close()
try: os.setxattr("src/new.py", "user.overlay.whiteout", b"y")
except OSError: pass
"""
    )
    assert set(overlay.entries()) == {"src/new.py"}


def test_the_kernels_second_form_of_a_deletion(overlay: World) -> None:
    for name in ("a.py", "b.py"):
        (overlay.root / name).write_text("1\n")
    overlay.start()
    upper = overlay.view / "upper"
    os.setxattr(upper, "user.overlay.opaque", b"x")
    for name in ("a.py", "b.py"):
        (upper / name).write_bytes(b"")
    os.setxattr(upper / "a.py", "user.overlay.whiteout", b"y")
    assert {path: entry.change for path, entry in overlay.entries().items()} == {"a.py": "deleted", "b.py": "changed"}


def test_what_is_too_large_is_named_and_not_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (world.root / "small.bin").write_bytes(b"1")
    world.start()
    world.run("truncate -s 5G huge.bin; truncate -s 5G small.bin; echo 1 > a.py")
    found = world.entries()
    assert [found[name].change for name in ("huge.bin", "small.bin", "a.py")] == ["unread", "unread", "added"]
    assert "100 MB" in found["huge.bin"].never and found["small.bin"].base is not None
    assert not found["huge.bin"].sha256


def test_contents_together_are_bounded(world: World) -> None:
    world.start()
    world.run("for n in 1 2 3 4; do head -c 400 /dev/zero > $n.txt; echo $n >> $n.txt; done")
    limits = Bounds()
    limits.kept = 1_000
    found = read(world, limits)
    assert sorted(entry.change for entry in found.entries) == ["added", "added", "unread", "unread"]
    assert all("kept of one run" in entry.never for entry in found.entries if entry.change == "unread")


def _few_bytes() -> Bounds:
    limits = Bounds()
    limits._paths = 50
    return limits


@pytest.mark.parametrize(
    "limits",
    [lambda: Bounds(entries=10), lambda: Bounds(names=10), lambda: Bounds(seconds=-1), _few_bytes],
)
def test_what_is_too_much_is_said(world: World, limits: Callable[[], Bounds]) -> None:
    world.start()
    world.run("for n in $(seq 30); do echo $n > $n.txt; done; mkdir node_modules; touch node_modules/$(seq -s_ 40)")
    found = read(world, limits())
    assert len(found.entries) <= 10 and len(found.incomplete) == 1


@pytest.mark.long
def test_a_quarter_million_entries(overlay: World) -> None:
    overlay.start()
    overlay.python("import os\nfor n in range(250_000): os.mknod(str(n))")
    found = program(overlay)
    assert found["entries"] == bounds.MAX_ENTRIES and len(found["incomplete"]) == 1  # type: ignore[arg-type]


def test_nothing_is_read_through_links(world: World) -> None:
    outside = world.folder / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret\n")
    world.start()
    world.run(
        f"ln -s {outside} a; ln -s {outside}/secret b; mkdir c; ln -s ../../../../../../etc/passwd c/d; ln -s / .git"
    )
    found = world.entries()
    assert all(entry.never for entry in found.values()) and len(found) == 4
    assert not list((world.destination / "blobs").iterdir())


def test_a_view_that_is_missing_is_said(world: World) -> None:
    world.start()
    shutil.rmtree(world.view)
    found = world.read()
    assert not found.entries and found.incomplete


@pytest.mark.parametrize("what", ["file", "link", "folder"])
def test_the_view_itself_replaced(world: World, what: str) -> None:
    (world.root / "a.py").write_text("1\n")
    world.start()
    at = world.view / ("upper" if world.kind == "overlay" else "copy")
    at.rename(world.folder / "gone")
    if what == "file":
        at.write_text("x")
    elif what == "link":
        at.symlink_to("/etc")
    found = world.read()
    assert not [entry for entry in found.entries if not entry.never]
    assert found.incomplete or found.entries


def test_reading_depends_on_the_changes_and_not_on_the_project(overlay: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in range(40):
        (overlay.root / f"d{folder}/inner").mkdir(parents=True)
        for number in range(20):
            (overlay.root / f"d{folder}/inner/{number}.py").write_text(f"{folder} {number}\n")
    overlay.start()
    overlay.run("echo 1 >> d3/inner/4.py; echo 2 > d5/new.py; rm d7/inner/1.py")
    listed: list[object] = []
    opened: list[object] = []
    scandir, reopened = os.scandir, descriptors.reopened

    def counted(path: int) -> object:
        listed.append(path)
        return scandir(path)

    def counted_open(pinned: int, *, ours: bool) -> int:
        opened.append(pinned)
        return reopened(pinned, ours=ours)

    monkeypatch.setattr(os, "scandir", counted)
    monkeypatch.setattr("sandbox.changes.comparing.reopened", counted_open)
    monkeypatch.setattr("sandbox.changes.original.reopened", counted_open)
    assert len(read(overlay, Bounds()).entries) == 3
    # The upper folders (the root, d3 and d7 with their inner ones, d5), and the folder of blobs.
    assert len(listed) <= 7 and len(opened) == 4
