"""What is put in place, what is refused and stays as it was, and what is taken back."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from peer.landing import engine, placing, planning, syscalls, tree
from peer.landing.engine import Forecast
from peer.landing.journal import Root
from sandbox.changes.values import BLOBS
from tests.landing.killing import killed
from tests.landing.world import World, look, many_changes, wanted_of_many


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_everything_is_put_in_place_and_taken_back(world: World) -> None:
    many_changes(world)
    before = world.look()
    assert world.dry_run().refusals == []
    assert world.look() == before
    assert world.apply() == []
    assert world.look() == wanted_of_many(before)
    assert world.resume() == "applied"
    assert world.undo() == []
    assert world.look() == before
    assert world.undo() == []
    assert world.look() == before


def test_what_was_taken_back_can_be_put_in_place_again(world: World, tmp_path: Path) -> None:
    many_changes(world)
    before = world.look()
    for number in range(3):
        world.journal = tmp_path / f"journal-{number}"
        assert world.apply() == []
        assert world.look() == wanted_of_many(before)
        assert world.undo() == []
        assert world.look() == before


def test_one_refusal_and_nothing_is_put_in_place(world: World) -> None:
    many_changes(world)
    world.put("late.txt")
    late = world.change("late.txt")
    world.put("late.txt", b"newer")
    assert world.is_refused_whole(late.number) == [tree.CHANGED]
    assert world.dry_run().refusals == [planning.Refusal(late.number, tree.CHANGED)]


def test_the_rest_can_be_put_in_place_after_a_landing_that_was_taken_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    many_changes(world)
    before = world.look()
    renamed = syscalls.rename
    left = 12

    def failing(*arguments: Any) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise OSError(errno.EIO, "Input/output error")
        renamed(*arguments)

    monkeypatch.setattr(placing, "rename", failing)
    (refused,) = world.apply()
    assert "Input/output error" in refused.reason
    assert world.look() == before
    assert not world.journal.exists()
    assert world.apply() == []
    assert world.look() == wanted_of_many(before)


CONTENT = b"a newer edit"


@pytest.mark.parametrize("change", ["changed", "deleted", "mode", "renamed"])
@pytest.mark.parametrize("edit", ["in place", "replaced", "gone", "folder", "link", "pipe", "executable", "open"])
def test_a_newer_edit_stays(world: World, change: str, edit: str) -> None:
    file = world.put("a/file.txt", b"before")
    if change == "changed":
        world.change("a/file.txt", b"after")
    elif change == "deleted":
        world.delete("a/file.txt")
    elif change == "mode":
        world.set_mode("a/file.txt", executable=True)
    else:
        world.rename("a/file.txt", "b/file.txt", b"before")
    opened = None
    if edit == "in place":
        file.write_bytes(b"edited")  # of the same length
    elif edit == "executable":
        file.chmod(0o755)
    elif edit == "open":
        opened = file.open("ab")
    else:
        file.unlink()
    if edit == "replaced":
        file.write_bytes(CONTENT)
    elif edit == "folder":
        file.mkdir()
    elif edit == "link":
        file.symlink_to("other")
    elif edit == "pipe":
        os.mkfifo(file)
    reasons = {"gone": tree.GONE, "open": "another program is writing to it"}
    assert world.is_refused_whole() == [reasons.get(edit, tree.CHANGED)]
    if opened is not None:
        opened.close()


def test_the_same_content_written_again_is_no_edit(world: World) -> None:
    file = world.put("file.txt", b"before")
    world.change("file.txt", b"after")
    file.unlink()
    file.write_bytes(b"before")
    assert world.apply() == []
    assert file.read_bytes() == b"after"


@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling"])
def test_nothing_new_is_put_over_something(world: World, kind: str) -> None:
    world.add("new.txt")
    place = world.root / "new.txt"
    if kind == "file":
        place.write_bytes(CONTENT)
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to("." if kind == "link" else "nowhere")
    assert [each.reason for each in world.dry_run().refusals] == [tree.OCCUPIED]
    assert world.is_refused_whole() == [tree.OCCUPIED]


def test_a_link_on_the_way_is_not_followed(world: World, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    world.put("inside/file.txt", b"before")
    (outside / "file.txt").write_bytes(b"before")
    world.change("inside/file.txt")
    world.add("inside/new.txt")
    world.add("inside/deeper/new.txt")
    (world.root / "inside").rename(world.root / "aside")
    (world.root / "inside").symlink_to(outside)
    assert world.is_refused_whole() == [tree.LINK] * 3
    assert look(outside) == {"file.txt": ("file", 0o644, b"before")}


def test_a_folder_that_became_a_file(world: World) -> None:
    world.put("sub/file.txt")
    world.change("sub/file.txt")
    world.add("sub/new.txt")
    (world.root / "sub/file.txt").unlink()
    (world.root / "sub").rmdir()
    world.put("sub")
    assert set(world.is_refused_whole()) == {"a file is where it needs a folder"}


def test_another_root(world: World) -> None:
    world.add("new.txt")
    world.root.rename(world.root.with_name("moved"))
    assert world.apply()[0].reason == "the folder that was granted is no longer there"
    world.root.mkdir()
    assert world.is_refused_whole() == ["another folder is now where the granted one was"]


def test_paths_that_lead_elsewhere(world: World) -> None:
    for path in (b"../out", b"a/../../out", b"/etc/out", b"a//b", b"./a", b"a/.", b"a/", b"a\0b", b"..", b"\0"):
        world.add(path, base=None)
    assert set(world.is_refused_whole()) == {"its path is not a valid file path"}
    assert not (world.root.parent / "out").exists()


def test_names_that_no_file_can_have(world: World) -> None:
    world.add("x" * 256, base=None)
    assert world.is_refused_whole() == ["its name is too long for this file system"]


def test_names_that_are_not_text_and_long_paths(world: World) -> None:
    world.add(b"\xff\xfe\n")
    world.add("/".join(["a" * 200] * 30), base=None)
    assert world.apply() == []
    assert sum(len(folders) + len(files) for _, folders, files, _ in os.fwalk(world.root)) == 31
    assert world.undo() == []
    assert world.look() == {}


@pytest.mark.parametrize(
    ("about", "reason"),
    [
        ({"never": "a repository's own file"}, "a repository's own file"),
        ({"conflict": "it changed meanwhile"}, "it changed meanwhile"),
        ({"change": "folded"}, "its content was not kept, so it cannot be applied"),
        ({"change": "dropped"}, "its content was not kept, so it cannot be applied"),
        ({"change": "unread"}, "its content was not kept, so it cannot be applied"),
        ({"kind": "other"}, "it is neither a file nor a folder nor a link"),
        ({"sha256": ""}, "its content was not kept, so it cannot be applied"),
        ({"sha256": "../" + "a" * 61}, "its content was not kept, so it cannot be applied"),
        ({"sha256": "0" * 64}, "its content is missing from what was kept of the run"),
        ({"size": 99}, "its content was altered after it was kept"),
        ({"view": 7}, "it is not in a granted folder"),
        ({"kind": "link", "target": b"/etc/passwd"}, "it is a link that leads out of the folder"),
        ({"kind": "link", "target": b"../../x"}, "it is a link that leads out of the folder"),
        ({"change": "changed"}, tree.GONE),
        ({"change": "deleted"}, tree.GONE),
        ({"change": "mode"}, tree.CHANGED),
    ],
)
def test_entries_that_cannot_be_put_in_place(world: World, about: dict[str, Any], reason: str) -> None:
    good = world.add("good.txt")
    bad = msgspec.structs.replace(world.add("a/bad.txt"), **about)
    world.entries = [good, bad]
    assert world.is_refused_whole(bad.number) == [reason]
    assert world.dry_run().refusals == [planning.Refusal(bad.number, reason)]


def test_a_kept_content_that_was_altered(world: World) -> None:
    world.add("first.txt", b"first")
    entry = world.add("deep/second.txt", b"12345")
    (world.folder / BLOBS / entry.sha256).write_bytes(b"54321")
    assert world.is_refused_whole(entry.number) == ["its content was altered after it was kept"]
    (world.folder / BLOBS / entry.sha256).unlink()
    (world.folder / BLOBS / entry.sha256).symlink_to("/etc/passwd")
    assert world.is_refused_whole(entry.number) == ["its content was altered after it was kept"]


def test_two_entries_at_one_place(world: World) -> None:
    world.add("a", b"one")
    second = world.add("a", b"two")
    third = world.add("a/b")
    assert set(world.is_refused_whole(second.number, third.number)) == {
        "another chosen entry is at the same place",
        "another chosen entry is where it needs a folder",
    }


def test_a_folder_that_holds_more_than_what_was_chosen(world: World) -> None:
    world.put("pack/one")
    world.put("pack/two")
    world.delete("pack/one")
    folder = world.delete("pack")
    assert world.is_refused_whole(folder.number) == ["the folder contains something that was not chosen with it"]


def test_something_put_into_a_folder_at_the_moment_it_goes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    many_changes(world)
    renamed = syscalls.rename

    def busy(from_folder: int, from_name: bytes, to_folder: int, to_name: bytes, flags: int) -> None:
        if from_name == b"pack":
            world.put("pack/late", CONTENT)
        renamed(from_folder, from_name, to_folder, to_name, flags)

    before = world.look()
    monkeypatch.setattr(placing, "rename", busy)
    (refused,) = world.apply()
    assert refused.reason == "it is not empty"
    assert world.look() == before | {"pack/late": ("file", 0o644, CONTENT)}


@pytest.fixture
def usual_umask() -> Iterator[None]:
    former = os.umask(0o022)
    yield
    os.umask(former)


@pytest.mark.usefixtures("usual_umask")
def test_permissions(world: World) -> None:
    world.root.chmod(0o755)
    world.put("plain", mode=0o600)
    world.put("tool", mode=0o750)
    world.put("suid", mode=0o4755)
    world.put("private/x")
    (world.root / "private").chmod(0o700)
    world.change("plain", executable=True)
    world.change("tool", executable=False)
    world.change("suid")
    world.add("new")
    world.add("new.sh", executable=True)
    world.add("private/deep/new")
    assert world.apply() == []
    modes = {key: about[1] for key, about in world.look().items() if about[0] == "file"}
    assert modes == {
        "plain": 0o700,
        "tool": 0o640,
        "suid": 0o755,
        "new": 0o644,
        "new.sh": 0o755,
        "private/x": 0o644,
        "private/deep/new": 0o600,
    }
    assert (world.root / "private/deep").stat().st_mode & 0o777 == 0o700


def test_a_read_only_file(world: World) -> None:
    world.put("locked", mode=0o444)
    world.change("locked")
    assert world.is_refused_whole() == ["it is read-only: make it writable first"]
    (world.root / "locked").chmod(0o644)
    assert world.apply() == []


def test_attributes_of_a_changed_file_stay(world: World) -> None:
    file = world.put("file")
    try:
        os.setxattr(file, "user.note", b"mine")
    except OSError:
        pytest.skip("this file system has no attributes of users")
    world.change("file")
    assert world.apply() == []
    assert os.getxattr(file, "user.note") == b"mine"


def test_other_names_of_a_file_keep_the_former_content(world: World, tmp_path: Path) -> None:
    file = world.put("file", b"before")
    (tmp_path / "other").hardlink_to(file)
    world.change("file", b"after")
    assert world.apply() == []
    assert (file.read_bytes(), (tmp_path / "other").read_bytes()) == (b"after", b"before")


def granted_file(world: World) -> Path:
    file = world.put("granted.txt", b"before")
    world.put("beside.txt")
    world.views = {1: world.view(1, file, file.stat())}
    return file


def test_a_granted_file_itself(world: World) -> None:
    file = granted_file(world)
    before = world.look()
    world.note("changed", b"", base=world.base("granted.txt"), sha256=world.blob(b"after"), size=5)
    assert world.apply() == []
    assert world.look() == before | {"granted.txt": ("file", 0o644, b"after")}
    assert world.undo() == []
    assert world.look() == before
    file.write_bytes(b"newer!")
    world.journal = world.folder / "landing-2"
    assert world.is_refused_whole() == [tree.CHANGED]


def test_a_granted_file_is_all_of_its_view(world: World) -> None:
    granted_file(world)
    world.note("changed", b"", base=world.base("granted.txt"), sha256=world.blob(b"after"), size=5)
    other = world.change("beside.txt")
    assert world.is_refused_whole(other.number) == ["only a single file was granted, and this is not it"]


def test_a_granted_file_that_goes(world: World) -> None:
    granted_file(world)
    before = world.look()
    world.note("deleted", b"", base=world.base("granted.txt"))
    assert world.apply() == []
    assert "granted.txt" not in world.look()
    assert world.undo() == []
    assert world.look() == before


def test_two_views(world: World, tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.mkdir()
    world.views[2] = world.view(2, second, second.stat())
    world.views[3] = world.view(3, second, second.stat())  # the same folder once more
    world.add("one")
    world.add("two", view=2)
    world.add("three", view=3)
    assert world.apply() == []
    assert set(look(second)) == {"two", "three"}
    assert world.undo() == []
    assert not world.look() and not look(second)


def test_one_landing_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add("new.txt")
    monkeypatch.setattr(tree, "LOCK_SECONDS", 0.2)
    with subprocess.Popen(["flock", str(world.root), "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None and other.stdout is not None
        other.stdin.write(b"x")
        other.stdin.flush()
        assert other.stdout.read(1) == b"x"  # it has the lock
        assert world.is_refused_whole() == ["other changes are being applied there: try again in a moment"]
        assert world.dry_run().refusals == []
        other.stdin.close()
        other.wait()
    assert world.apply() == []


def test_two_names_that_are_one_without_case(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add("Readme")
    second = world.add("README")
    third = world.add("new/\u00e9")
    fourth = world.add("new/e\u0301")
    monkeypatch.setattr(tree, "folds_case", lambda _: True)
    assert set(world.is_refused_whole(second.number, fourth.number)) == {
        "another chosen entry has a name that differs only in upper and lower case"
    }
    monkeypatch.undo()
    assert third.number
    assert world.apply() == []
    assert len(world.look()) == 5


def test_a_file_found_under_other_letters(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    file = world.put("Readme")
    world.change("README", base=world.base("Readme"))
    status = tree.status

    def insensitive(folder: int, name: bytes) -> os.stat_result | None:
        return status(folder, b"Readme" if name.lower() == b"readme" else name)

    monkeypatch.setattr(tree, "status", insensitive)
    descriptor = os.open(world.root, os.O_RDONLY)
    assert tree.folds_case(descriptor)
    os.close(descriptor)
    assert world.is_refused_whole() == ["it is there under a name that differs only in upper and lower case"]
    monkeypatch.undo()
    descriptor = os.open(world.root, os.O_RDONLY)
    assert not tree.folds_case(descriptor)
    os.close(descriptor)
    assert file.read_bytes() == b"old"


def test_a_file_system_that_cannot_exchange(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    many_changes(world)
    renamed = syscalls.rename

    def limited(from_folder: int, from_name: bytes, to_folder: int, to_name: bytes, flags: int) -> None:
        if flags == 2:
            raise OSError(errno.EINVAL, "Invalid argument")
        renamed(from_folder, from_name, to_folder, to_name, flags)

    before = world.look()
    monkeypatch.setattr(placing, "rename", limited)
    (refused,) = world.apply()
    assert "cannot put a file in place in one step" in refused.reason
    assert world.look() == before


def test_an_edit_at_the_moment_of_the_exchange(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    many_changes(world)
    before = world.look()
    renamed = syscalls.rename

    def busy(from_folder: int, from_name: bytes, to_folder: int, to_name: bytes, flags: int) -> None:
        if to_name == b"tool" and world.look()["tool"] == before["tool"]:
            (world.root / "fresh-tool").write_bytes(CONTENT)
            (world.root / "fresh-tool").rename(world.root / "tool")
        renamed(from_folder, from_name, to_folder, to_name, flags)

    monkeypatch.setattr(placing, "rename", busy)
    (refused,) = world.apply()
    assert refused.reason == tree.CHANGED
    assert world.look() == before | {"tool": ("file", 0o644, CONTENT)}


def test_an_edit_between_the_exchange_and_taking_it_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A landing fails later; meanwhile the person edited what it had put in place: their edit stays, and the former
    content gets a name beside it."""
    world.put("a.txt", b"before")
    world.put("b.txt", b"before")
    world.change("a.txt", b"after")
    world.change("b.txt", b"after")
    renamed = syscalls.rename

    def busy(from_folder: int, from_name: bytes, to_folder: int, to_name: bytes, flags: int) -> None:
        if to_name == b"b.txt":
            (world.root / "a.txt").write_bytes(CONTENT)
            raise OSError(errno.EIO, "Input/output error")
        renamed(from_folder, from_name, to_folder, to_name, flags)

    monkeypatch.setattr(placing, "rename", busy)
    refused = world.apply()
    assert [each.number for each in refused] == [1, 0]
    assert "is kept beside it" in refused[1].reason
    found = world.look()
    assert (found.pop("a.txt")[2], found.pop("b.txt")[2]) == (CONTENT, b"before")
    ((name, about),) = found.items()
    assert name.startswith("a.txt.before-dispatch-") and about[2] == b"before"


def test_an_edit_while_permissions_are_set(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put("tool", b"before")
    world.set_mode("tool", executable=True)
    set_mode = os.fchmod

    def busy(descriptor: int, mode: int) -> None:
        set_mode(descriptor, mode)
        (world.root / "fresh").write_bytes(CONTENT)
        (world.root / "fresh").rename(world.root / "tool")

    monkeypatch.setattr(os, "fchmod", busy)
    assert [each.reason for each in world.apply()] == [tree.CHANGED]
    assert world.look() == {"tool": ("file", 0o644, CONTENT)}


def test_a_file_made_where_one_was_deleted_before_that_is_taken_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("gone.txt", b"before")
    world.put("b.txt", b"before")
    world.delete("gone.txt")
    world.change("b.txt", b"after")
    renamed = syscalls.rename

    def busy(from_folder: int, from_name: bytes, to_folder: int, to_name: bytes, flags: int) -> None:
        if to_name == b"b.txt":
            (world.root / "gone.txt").write_bytes(CONTENT)
            raise OSError(errno.EIO, "Input/output error")
        renamed(from_folder, from_name, to_folder, to_name, flags)

    monkeypatch.setattr(placing, "rename", busy)
    refused = world.apply()
    assert [each.number for each in refused] == [1, 0]
    assert "is kept beside it" in refused[1].reason
    found = world.look()
    assert (found.pop("gone.txt")[2], found.pop("b.txt")[2]) == (CONTENT, b"before")
    ((name, about),) = found.items()
    assert name.startswith("gone.txt.before-dispatch-") and about[2] == b"before"


def test_a_folder_that_is_moved_away_meanwhile(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many_changes(world)
    before = world.look()
    outside = tmp_path / "outside"
    outside.mkdir()
    renamed = syscalls.rename

    def busy(from_folder: int, from_name: bytes, to_folder: int, to_name: bytes, flags: int) -> None:
        renamed(from_folder, from_name, to_folder, to_name, flags)
        if to_name == b"run":
            (world.root / "added").rename(world.root / "elsewhere")
            (world.root / "added").symlink_to(outside)

    monkeypatch.setattr(placing, "rename", busy)
    assert len(world.apply()) == 1
    assert look(outside) == {}
    found = world.look()
    assert found.pop("added") == ("link", os.fsencode(outside))
    assert found.pop("elsewhere") == ("folder",)
    assert found == before


def test_undo_leaves_what_was_changed_since(world: World) -> None:
    many_changes(world)
    before = world.look()
    assert world.apply() == []
    (world.root / "changed.txt").write_bytes(CONTENT)
    (world.root / "tool").chmod(0o644)
    (world.root / "gone.txt").write_bytes(CONTENT)
    (world.root / "new/place/name.txt").write_bytes(CONTENT)
    (world.root / "pointer").unlink()
    (world.root / "pointer").symlink_to("elsewhere")
    (world.root / "empty/folder/mine").write_bytes(CONTENT)
    (world.root / "added/mine").write_bytes(CONTENT)
    refused = {world.entries[each.number].path.decode() for each in world.undo()}
    stay = {"changed.txt", "tool", "gone.txt", "new/place/name.txt", "pointer", "empty/folder"}
    assert refused == stay
    now = world.look()
    wanted = before | {
        "changed.txt": ("file", 0o640, CONTENT),
        "tool": ("file", 0o644, b"#!/bin/bash\n"),
        "gone.txt": ("file", 0o644, CONTENT),
        "new": ("folder",),
        "new/place": ("folder",),
        "new/place/name.txt": ("file", 0o644, CONTENT),
        "pointer": ("link", b"elsewhere"),
        "empty": ("folder",),
        "empty/folder": ("folder",),
        "empty/folder/mine": ("file", 0o644, CONTENT),
        "added": ("folder",),
        "added/mine": ("file", 0o644, CONTENT),
    }
    del wanted["old/name.txt"]
    assert now == wanted
    # What stayed can be taken back once it is again what was put there.
    (world.root / "tool").chmod(0o755)
    (world.root / "gone.txt").unlink()
    refused = {world.entries[each.number].path.decode() for each in world.undo()}
    assert refused == stay - {"tool", "gone.txt"}
    assert {key: world.look()[key] for key in ("tool", "gone.txt")} == {
        key: before[key] for key in ("tool", "gone.txt")
    }


def test_undo_without_the_folder(world: World) -> None:
    world.add("new.txt")
    assert world.apply() == []
    world.root.rename(world.root.with_name("moved"))
    assert [each.reason for each in world.undo()] == ["the folder that was granted is no longer there"]
    world.root.with_name("moved").rename(world.root)
    assert world.undo() == []
    assert world.look() == {}


def test_more_folders_than_are_kept_open(world: World) -> None:
    for number in range(260):
        world.put(f"{number}/changed")
        world.put(f"{number}/gone")
        world.change(f"{number}/changed")
        world.delete(f"{number}/gone")
        world.add(f"{number}/deep/new")
    before = world.look()
    assert world.apply() == []
    assert len(world.look()) == 260 * 4
    assert world.undo() == []
    assert world.look() == before


def test_a_folder_in_use_stays_open(world: World) -> None:
    for number in range(300):
        (world.root / str(number)).mkdir()
    about = world.root.stat()
    with tree.opened({1: Root(path=str(world.root), device=about.st_dev, inode=about.st_ino)}) as (found, failed):
        assert not failed
        first = found.folder(1, (b"0",))
        inode = os.fstat(first).st_ino
        for number in range(1, 300):
            assert found.folder(1, (b"0",)) == first
            found.folder(1, (str(number).encode(),))
            assert os.fstat(first).st_ino == inode


def test_a_renamed_file_keeps_its_permissions(world: World) -> None:
    world.put("secret", b"same", 0o600)
    world.rename("secret", "moved/secret", b"same")
    assert world.apply() == []
    assert world.look()["moved/secret"] == ("file", 0o600, b"same")


def test_a_folder_changes_to_no_folder(world: World) -> None:
    (world.root / "sub").mkdir()
    world.note("changed", "sub", kind="folder")
    assert world.is_refused_whole() == ["a folder is already there"]


def test_something_put_where_a_new_file_comes_at_that_moment(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    many_changes(world)
    before = world.look()
    renamed = syscalls.rename

    def busy(from_folder: int, from_name: bytes, to_folder: int, to_name: bytes, flags: int) -> None:
        if to_name == b"fresh":
            (world.root / "fresh").write_bytes(CONTENT)
        renamed(from_folder, from_name, to_folder, to_name, flags)

    monkeypatch.setattr(placing, "rename", busy)
    assert [each.reason for each in world.apply()] == [tree.OCCUPIED]
    assert world.look() == before | {"fresh": ("file", 0o644, CONTENT)}


@pytest.mark.parametrize("kind", ["changed", "deleted", "added"])
def test_an_edit_at_the_moment_of_an_undo(world: World, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    file = world.put("file", b"before")
    if kind == "changed":
        world.change("file", b"after!")
    elif kind == "deleted":
        world.delete("file")
    else:
        file.unlink()
        world.add("file", b"after!")
    assert world.apply() == []
    renamed = syscalls.rename
    done = False

    def busy(*arguments: Any) -> None:
        nonlocal done
        if not done:
            done = True
            file.write_bytes(CONTENT)
        renamed(*arguments)

    monkeypatch.setattr(placing, "rename", busy)
    assert len(world.undo()) == 1
    assert {key: about[2] for key, about in world.look().items()} == {"file": CONTENT}
    file.unlink()
    if kind != "deleted":
        file.write_bytes(b"after!")
    assert world.undo() == []
    assert {key: about[2] for key, about in world.look().items()} == ({} if kind == "added" else {"file": b"before"})


def test_an_undo_that_was_interrupted_and_then_the_folder_is_away(world: World) -> None:
    many_changes(world)
    before = world.look()
    assert world.apply() == []
    assert killed(60, world.undo)
    world.root.rename(world.root.with_name("away"))
    assert {each.reason for each in world.undo()} == {"the folder that was granted is no longer there"}
    world.root.with_name("away").rename(world.root)
    assert world.undo() == []
    assert world.look() == before


def test_undo_of_nothing(world: World) -> None:
    with pytest.raises(FileNotFoundError):
        world.undo()


def test_what_is_too_large_to_keep_cannot_be_taken_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "MAX_KEPT", 10)
    world.put("a.txt", b"12345678")
    world.put("b.txt", b"12345678")
    world.change("a.txt")
    world.delete("b.txt")
    assert world.dry_run() == Forecast([], frozenset({0})) and engine.irreversible(world.journal) == frozenset()
    assert world.apply() == []
    assert engine.irreversible(world.journal) == {0}
    (refused,) = world.undo()
    assert refused == planning.Refusal(0, "its former content was too large to be kept")
    assert {key: about[2] for key, about in world.look().items()} == {"a.txt": b"new", "b.txt": b"12345678"}


def test_a_journal_is_used_once(world: World) -> None:
    world.add("new.txt")
    assert world.apply() == []
    with pytest.raises(FileExistsError):
        world.apply()


def test_a_journal_that_cannot_be_made(world: World) -> None:
    world.journal = world.folder / "missing" / "landing"
    world.add("new.txt")
    (reason,) = world.is_refused_whole()
    assert reason.startswith("it was not applied, because the record for undo cannot be written")


def test_a_crash_and_then_the_folder_is_gone(world: World) -> None:
    world.add("new.txt")
    assert world.apply() == []
    (world.journal / "committed").unlink()
    world.root.rename(world.root.with_name("moved"))
    assert world.resume() == "nothing"
    assert not world.journal.exists()


def test_a_crash_and_then_the_folder_is_in_use(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add("new.txt")
    assert world.apply() == []
    (world.journal / "committed").unlink()
    monkeypatch.setattr(tree, "LOCK_SECONDS", 0.1)
    descriptor = os.open(world.root, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(OSError, match="try again"):
        world.resume()
    os.close(descriptor)
    assert world.resume() == "nothing"
    assert world.look() == {}


def test_no_entries(world: World) -> None:
    assert world.apply() == []
    assert world.undo() == []


def test_no_descriptor_is_left_open(world: World) -> None:
    many_changes(world)
    before = len(list(Path("/proc/self/fd").iterdir()))
    world.dry_run([msgspec.structs.replace(world.entries[0], conflict="no")])
    assert world.apply() == []
    world.resume()
    assert world.undo() == []
    assert len(list(Path("/proc/self/fd").iterdir())) == before
