"""Landings where the disk is full, read-only or another one, and for an ordinary user."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.landing.killing import killed
from tests.landing.world import World, many_changes, wanted_of_many
from tests.mounting import disk, fuse
from tests.sandbox.test_ordinary_user import again_as_ordinary_user


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=755", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.root
def test_a_full_disk(tmp_path: Path, small: Path) -> None:
    world = World(tmp_path, root=small / "project")
    many_changes(world)
    world.add("first", os.urandom(50_000))
    large = world.add("large", os.urandom(400_000))
    assert world.is_refused_whole(large.number) == ["the disk is full"]
    before = world.look()
    world.entries.remove(large)
    assert world.apply() == []
    assert world.undo() == []
    assert world.look() == before


@pytest.mark.root
def test_a_full_disk_under_the_journal(tmp_path: Path, small: Path) -> None:
    world = World(tmp_path, journal=small / "journal")
    world.put("large", os.urandom(400_000))
    world.change("large")
    assert world.is_refused_whole() == ["the disk is full"]


@pytest.mark.root
def test_a_full_disk_when_it_is_taken_back(tmp_path: Path, small: Path) -> None:
    world = World(tmp_path, root=small / "project")
    world.put("large", os.urandom(150_000))
    world.put("little", b"before")
    world.change("large", b"after")
    world.change("little", b"after")
    before = world.look()
    assert world.apply() == []
    filler = world.put("filler", os.urandom(150_000))
    assert [(each.number, each.reason) for each in world.undo()] == [(0, "the disk is full")]
    assert (world.root / "little").read_bytes() == b"before"
    filler.unlink()
    assert world.undo() == []
    assert world.look() == before


@pytest.mark.root
def test_a_read_only_file_system(tmp_path: Path, small: Path) -> None:
    world = World(tmp_path, root=small / "project")
    many_changes(world)
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    assert set(world.is_refused_whole()) == {"its file system is read-only"}
    subprocess.run(["mount", "-o", "remount,rw", small], check=True)
    before = world.look()
    assert world.apply() == []
    assert world.look() == wanted_of_many(before)


@pytest.mark.root
def test_a_file_system_that_is_away_after_a_crash(tmp_path: Path, small: Path) -> None:
    (tmp_path / "project").mkdir()
    place = str(tmp_path / "project")
    there, away = ["mount", "--bind", str(small), place], ["umount", place]
    subprocess.run(there, check=True)
    try:
        world = World(tmp_path)
        many_changes(world)
        before = world.look()
        assert killed(70, world.apply)
        assert world.look() != before
    finally:
        subprocess.run(away, check=True)
    with pytest.raises(OSError, match="another folder"):
        world.resume()
    subprocess.run(there, check=True)
    try:
        assert world.resume() == "nothing"
        assert world.look() == before
    finally:
        subprocess.run(away, check=True)


@pytest.mark.root
@pytest.mark.parametrize("kind", ["btrfs", "xfs"])
def test_another_kind_of_disk(kind: str) -> None:
    with disk(kind) as top:
        world = World(top)
        many_changes(world)
        before = world.look()
        assert world.apply() == []
        assert world.look() == wanted_of_many(before)
        assert world.undo() == []
        assert world.look() == before


@pytest.mark.root
def test_fuse_gets_nothing(tmp_path: Path) -> None:
    """Its renames are in one step only where the program behind it offers that; this one does not."""
    (tmp_path / "behind").mkdir()
    (tmp_path / "project").mkdir()
    with fuse(tmp_path / "behind", tmp_path / "project"):
        world = World(tmp_path)
        world.put("changed")
        world.change("changed")
        world.put("other")
        assert ["cannot put a file in place in one step" in each for each in world.is_refused_whole()] == [True]
        world.add("added")
        before = world.look()
        assert world.apply() != []
        assert world.look() == before


@pytest.mark.root
def test_another_file_system_inside_the_folder(tmp_path: Path, small: Path) -> None:
    """What is put in place is staged in its own folder, and former contents are copied to the journal."""
    world = World(tmp_path, root=tmp_path)
    world.put("small/file", b"before")
    world.change("small/file", b"after")
    world.add("small/new/file")
    before = (small / "file").stat().st_ino
    assert world.apply() == []
    assert (small / "new/file").read_bytes() == b"new"
    assert world.undo() == []
    assert [path.name for path in small.iterdir()] == ["file"]
    assert (small / "file").read_bytes() == b"before" and (small / "file").stat().st_ino != before


@pytest.mark.root
def test_roots_work_belongs_to_the_folders_owner(tmp_path: Path) -> None:
    world = World(tmp_path)
    many_changes(world)
    subprocess.run(["chown", "-R", "1234:1234", world.root], check=True)
    assert world.apply() == []
    owners = {(path.lstat().st_uid, path.lstat().st_gid) for path in world.root.rglob("*")}
    assert owners == {(1234, 1234)}


def test_a_folder_without_permission(tmp_path: Path) -> None:
    if not os.geteuid():
        return  # root may write everywhere; for an ordinary user tests/sandbox/test_ordinary_user.py runs this
    world = World(tmp_path)
    world.put("sub/file")
    world.change("sub/file")
    world.delete("sub/file")
    world.add("sub/new")
    (world.root / "sub").chmod(0o555)
    assert set(world.is_refused_whole()) == {"you have no permission to change its folder"}
    (world.root / "sub").chmod(0o755)
    (world.root / "sub/file").chmod(0)
    world.entries = world.entries[:1]
    assert len(world.apply()) == 1


@pytest.mark.long
def test_everything_holds_for_an_ordinary_user() -> None:
    """`make test` repeats a part: tests/sandbox/test_ordinary_user.py."""
    again_as_ordinary_user(
        "tests/landing/test_landing.py",
        "tests/landing/test_model.py",
        "tests/landing/test_crashes.py::test_killed_at_every_step_of_a_landing[the same file system]",
    )
