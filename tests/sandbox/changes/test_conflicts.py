"""What the person changed meanwhile is a conflict, and nothing else is."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from sandbox.changes.change_set import CLOCK
from sandbox.changes.values import ChangeSet
from sandbox.views.manifest import ManifestWriter, read
from tests.sandbox.changes.worlds import World


def conflicts(world: World) -> dict[str, str]:
    return {path: entry.conflict for path, entry in world.entries().items() if entry.conflict}


def fill(world: World) -> None:
    (world.root / "src/inner").mkdir(parents=True)
    for name in ("a.py", "b.py", "src/c.py", "src/inner/d.py"):
        (world.root / name).write_text(f"{name}\n")


CHANGE_ALL = (
    "echo 1 >> a.py; rm b.py; echo 2 >> src/c.py; echo 3 >> src/inner/d.py; echo 4 > src/new.py; echo 5 > new.py"
)
ALL = {"a.py", "b.py", "src/c.py", "src/inner/d.py", "src/new.py", "new.py"}


def test_an_untouched_original_is_no_conflict(world: World) -> None:
    fill(world)
    world.start()
    world.run(CHANGE_ALL)
    assert set(world.entries()) == ALL and not conflicts(world)


@pytest.mark.parametrize("name", ["a.py", "b.py", "src/c.py", "src/inner/d.py"])
def test_an_edit_meanwhile_is_a_conflict_of_that_file(world: World, name: str) -> None:
    fill(world)
    world.start()
    world.run(CHANGE_ALL)
    with (world.root / name).open("a") as file:
        file.write("mine\n")
    assert set(conflicts(world)) == {name}


def test_the_same_size_and_time_of_writing_hide_no_edit(world: World) -> None:
    fill(world)
    world.start()
    world.run(CHANGE_ALL)
    about = (world.root / "a.py").stat()
    (world.root / "a.py").write_text("A.py\n")
    os.utime(world.root / "a.py", ns=(about.st_atime_ns, about.st_mtime_ns))
    assert set(conflicts(world)) == {"a.py"}


def test_another_new_file_beside_is_no_conflict(world: World) -> None:
    if world.kind == "overlay" and os.geteuid() != 0:
        return  # there the kernel keeps no origin, and the strict rule holds: see below
    fill(world)
    world.start()
    world.run(CHANGE_ALL)
    for folder in (".", "src", "src/inner"):
        (world.root / folder / "other.py").write_text("mine\n")
    assert not conflicts(world)


def test_another_new_file_beside_where_the_kernel_kept_no_origin(overlay: World) -> None:
    fill(overlay)
    overlay.start()
    overlay.run(CHANGE_ALL)
    for folder, _, _ in os.walk(overlay.view / "upper"):
        if "user.overlay.origin" in os.listxattr(folder):
            os.setxattr(folder, "user.overlay.origin", b"")
    (overlay.root / "other.py").write_text("mine\n")
    (overlay.root / "src/other.py").write_text("mine\n")
    assert set(conflicts(overlay)) == {"src/c.py", "src/inner/d.py", "src/new.py"}


def test_a_new_file_in_both_is_a_conflict(world: World) -> None:
    fill(world)
    world.start()
    world.run(CHANGE_ALL)
    (world.root / "new.py").write_text("mine\n")
    assert set(conflicts(world)) == {"new.py"}


@pytest.mark.parametrize("name", ["a.py", "src/c.py"])
def test_what_was_changed_and_is_gone_is_a_conflict(world: World, name: str) -> None:
    fill(world)
    world.start()
    world.run(CHANGE_ALL)
    (world.root / name).unlink()
    found = world.entries()[name]
    assert found.conflict and found.base is None and found.change == "changed"


def test_what_is_gone_in_both_is_nothing(world: World) -> None:
    fill(world)
    world.start()
    world.run(CHANGE_ALL)
    (world.root / "b.py").unlink()
    assert set(world.entries()) == ALL - {"b.py"} and not conflicts(world)


def test_a_folder_put_in_place_of_another_is_a_conflict_of_all_in_it(world: World) -> None:
    fill(world)
    shutil.copytree(world.root / "src", world.root / "other")
    world.start()
    world.run(CHANGE_ALL)
    (world.root / "src").rename(world.root / "before")
    (world.root / "other").rename(world.root / "src")
    assert {"src/c.py", "src/inner/d.py", "src/new.py"} <= set(conflicts(world)) <= ALL


def test_a_folder_replaced_by_a_link_is_never_followed(world: World) -> None:
    fill(world)
    outside = world.folder / "outside"
    shutil.copytree(world.root / "src", outside)
    world.start()
    world.run(CHANGE_ALL)
    shutil.rmtree(world.root / "src")
    (world.root / "src").symlink_to(outside)
    found = world.entries()
    for path in ("src/c.py", "src/inner/d.py", "src/new.py"):
        assert found[path].conflict and found[path].base is None


def test_a_replaced_root_is_a_conflict_of_all(world: World) -> None:
    fill(world)
    world.start()
    world.run(CHANGE_ALL)
    world.root.rename(world.folder / "before")
    shutil.copytree(world.folder / "before", world.root)
    assert set(conflicts(world)) == ALL
    shutil.rmtree(world.root)
    found = world.entries()
    assert all(entry.conflict and entry.base is None for entry in found.values()) and "new.py" in found
    world.root.symlink_to(world.folder / "before")
    assert all(entry.conflict and entry.base is None for entry in world.entries().values())


def test_a_clock_set_back_is_a_conflict_of_all(overlay: World) -> None:
    fill(overlay)
    overlay.start()
    overlay.run(CHANGE_ALL)
    assert overlay.record is not None
    later = msgspec.structs.replace(overlay.record, made_ns=overlay.tick() + 3_600 * 10**9)
    overlay.rewrite(later)
    assert dict.fromkeys(ALL, CLOCK) == conflicts(overlay)


def test_what_changed_in_the_tick_of_the_view_is_a_conflict(overlay: World) -> None:
    fill(overlay)
    overlay.start()
    overlay.run(CHANGE_ALL)
    assert overlay.record is not None
    at = (overlay.root / "a.py").stat().st_ctime_ns
    overlay.rewrite(msgspec.structs.replace(overlay.record, made_ns=at))
    assert "a.py" in conflicts(overlay)


def test_a_renamed_file_is_in_conflict_by_either_name(world: World) -> None:
    fill(world)
    world.start()
    world.run("mv a.py moved.py; mv b.py other.py")
    (world.root / "moved.py").write_text("mine\n")
    (world.root / "b.py").write_text("mine\n")
    assert {"moved.py", "other.py"} & set(conflicts(world)) and set(conflicts(world)) >= {"moved.py"}
    assert all(entry.conflict for path, entry in world.entries().items() if path in ("moved.py", "b.py"))


def test_a_renamed_file_is_in_conflict_where_its_old_place_is(world: World) -> None:
    fill(world)
    world.start()
    world.run("mv a.py moved.py")
    (world.root / "a.py").chmod(0o600)
    assert world.entries()["moved.py"].change == "renamed" and set(conflicts(world)) == {"moved.py"}


def test_a_file_moved_and_edited_is_no_conflict(world: World) -> None:
    fill(world)
    world.start()
    world.run("mv src/c.py src/moved.py; echo 1 >> src/moved.py")
    (world.root / "src/other.py").write_text("mine\n")
    if world.kind == "overlay" and os.geteuid() != 0:
        return
    assert {path: entry.change for path, entry in world.entries().items()} == {
        "src/c.py": "deleted",
        "src/moved.py": "added",
    }
    assert not conflicts(world)


def test_a_deleted_folder_that_changed_meanwhile_is_a_conflict(world: World) -> None:
    fill(world)
    world.start()
    world.run("rm -r src")
    (world.root / "src/inner/d.py").write_text("mine\n")
    assert "src/inner/d.py" in conflicts(world) and "src/c.py" not in conflicts(world)


def test_what_a_copy_left_out_is_never_deleted(copy: World) -> None:
    fill(copy)
    (copy.root / "large").mkdir()
    (copy.root / "large/data").write_text("1\n")
    copy.start(skip=frozenset({b"large", b"src/c.py"}))
    copy.run("echo 1 > a.py; rm -r src")
    # And so its folder stays.
    assert set(copy.entries()) == {"a.py", "src/inner/d.py", "src/inner"}


def test_a_folder_with_more_than_the_run_saw_is_a_conflict(world: World) -> None:
    fill(world)
    world.start()
    world.run("rm -r src")
    (world.root / "src/inner/mine.py").write_text("mine\n")
    assert "src/inner" in conflicts(world)


def test_what_lies_below_what_a_copy_left_out_is_never_deleted(copy: World) -> None:
    fill(copy)
    copy.start()
    copy.run("rm -r src")
    manifest = copy.view / "manifest"
    records = list(read(manifest))
    manifest.unlink()
    with ManifestWriter(manifest) as writer:
        for record in records:
            writer.add(msgspec.structs.replace(record, skipped="large" if record.path == b"src" else ""))
        writer.finish()
    assert not copy.entries()


def test_what_is_made_where_a_copy_left_something_out_is_a_conflict(copy: World) -> None:
    fill(copy)
    (copy.root / "large").mkdir()
    copy.start(skip=frozenset({b"large", b"src/c.py"}))
    copy.run("mkdir large; echo 1 > large/x; echo 2 > src/c.py")
    assert set(conflicts(copy)) == {"large/x", "src/c.py"}
    assert not (copy.root / "large/x").exists()


@pytest.mark.parametrize("damage", [b"", b"dispatch view manifest 1\n", b"x" * 100])
def test_a_damaged_manifest_is_said(copy: World, damage: bytes) -> None:
    fill(copy)
    copy.start()
    copy.run("rm a.py")
    (copy.view / "manifest").write_bytes(damage)
    found = copy.read()
    assert not found.entries and len(found.incomplete) == 1


def test_a_granted_file(copy: World) -> None:
    shutil.rmtree(copy.root)
    copy.root.write_text("old\n")
    copy.start()
    assert not copy.read().entries
    with copy.work.open("a") as file:
        file.write("new\n")
    (entry,) = copy.read().entries
    assert (entry.path, entry.change, entry.conflict) == (b"", "changed", "") and copy.blob(entry) == b"old\nnew\n"
    copy.root.write_text("mine\n")
    (entry,) = copy.read().entries
    assert entry.conflict


@pytest.mark.parametrize("at", ["src", "src/c.py"])
def test_what_is_mounted_in_the_folder_is_not_taken_for_it(overlay: World, at: str) -> None:
    fill(overlay)
    (overlay.folder / "other").mkdir()
    (overlay.folder / "file").write_text("secret\n")
    overlay.start()
    overlay.run("echo 1 >> src/c.py; rm src/inner/d.py")
    mount = "mount -t tmpfs none ../other; cp ../file ../other; mount --bind ../other/file src/c.py"
    if at == "src":
        mount = "mount -t tmpfs none src"
    reading = shlex.join([sys.executable, "-m", "sandbox.changes", str(overlay.run_folder), str(overlay.destination)])
    script = f"cd {overlay.root}; {mount}; cd {Path(__file__).parents[3]}; exec {reading}"
    subprocess.run([*overlay.namespace, "sh", "-ec", script], check=True)
    found = msgspec.json.decode((overlay.destination / "changes.json").read_bytes(), type=ChangeSet)
    entry = next(entry for entry in found.entries if entry.path == b"src/c.py")
    assert entry.conflict and (entry.base is None or not entry.base.sha256)
    assert at != "src" or found.incomplete


def test_a_folder_of_the_original_that_cannot_be_opened_is_said(overlay: World) -> None:
    """As one that only another user may look into."""
    if os.geteuid() == 0:
        return  # nothing is closed to root: test_ordinary_user.py
    fill(overlay)
    overlay.start()
    overlay.run("rm src/c.py; echo 1 > src/new.py")
    (overlay.root / "src").chmod(0)
    try:
        # A process of its own: this one may have gained what is closed to its user, in a namespace.
        reading = [sys.executable, "-m", "sandbox.changes", str(overlay.run_folder), str(overlay.destination)]
        subprocess.run(reading, cwd=Path(__file__).parents[3], check=True)
    finally:
        (overlay.root / "src").chmod(0o700)
    found = msgspec.json.decode((overlay.destination / "changes.json").read_bytes(), type=ChangeSet)
    (entry,) = found.entries
    assert found.incomplete and entry.path == b"src/new.py" and entry.conflict
