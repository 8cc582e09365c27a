"""The patch for the sender, and the diff of one entry for the person."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from sandbox.changes.contents import Texts
from sandbox.changes.display import diff_of
from sandbox.changes.patch import patch
from sandbox.changes.values import ChangeSet
from tests.sandbox.changes.worlds import World

LINES = "".join(f"line {number}\n" for number in range(40))


def fill(root: Path) -> None:
    (root / "src").mkdir()
    for name in ("src/long.txt", "to move.md", "gone.py", "tool.py"):
        (root / name).write_text(f"{name}\n{LINES}")
    (root / "no end").write_text("a\nb")


CHANGES = (
    "sed -i '10s/.*/ten/;30d' src/long.txt; mv 'to move.md' 'src/möved \"x\".md'; rm gone.py; chmod +x tool.py; "
    "printf 'a\\nc' > 'no end'; printf 'new\\nfile\\n' > src/new.py; echo '#!/bin/sh' > run; chmod +x run; "
    "ln -s src/new.py link; touch empty; printf '\\0' > binary"
)


def text(world: World) -> str:
    world.read()
    return (world.destination / "changes.diff").read_text()


def test_it_applies_with_git(world: World) -> None:
    fill(world.root)
    before = world.folder / "before"
    shutil.copytree(world.root, before)
    world.start()
    world.run(CHANGES)
    (world.folder / "p.diff").write_text(text(world))
    subprocess.run(["git", "init", "-q", before], check=True)
    subprocess.run(["git", "-C", before, "apply", "-p2", "--unidiff-zero", world.folder / "p.diff"], check=True)
    assert (before / "src/long.txt").read_text() == f"src/long.txt\n{LINES}".replace("line 8\n", "ten\n").replace(
        "line 28\n", ""
    )
    assert (before / 'src/möved "x".md').read_text() == f"to move.md\n{LINES}" and not (before / "to move.md").exists()
    assert (before / "no end").read_text() == "a\nc" and (before / "src/new.py").read_text() == "new\nfile\n"
    assert os.access(before / "run", os.X_OK) and os.access(before / "tool.py", os.X_OK)
    assert (before / "link").readlink() == Path("src/new.py") and (before / "empty").read_bytes() == b""
    assert (before / "gone.py").exists() and not (before / "binary").exists()


def test_it_shows_no_more_than_the_run_wrote_or_replaced(world: World) -> None:
    fill(world.root)
    world.start()
    world.run(CHANGES)
    shown = text(world)
    lines = shown.splitlines()
    assert {line for line in lines if line.startswith("-") and not line.startswith("---")} == {
        "-line 8",
        "-line 28",
        "-b",
    }
    assert not any(line.startswith(" ") for line in lines)
    assert str(world.root) not in shown and "line 20" not in shown
    assert "#   project/gone.py (deleted; its content is not shown)" in lines
    assert "#   project/binary (added; not text)" in lines


def test_what_changed_meanwhile_is_named_only(world: World) -> None:
    fill(world.root)
    world.start()
    world.run("echo 1 >> src/long.txt")
    (world.root / "src/long.txt").write_text("secret\n")
    shown = text(world)
    assert "src/long.txt (changed; it changed in the folder meanwhile)" in shown and "secret" not in shown


def test_no_change_has_no_patch(world: World) -> None:
    fill(world.root)
    world.start()
    world.read()
    assert not (world.destination / "changes.diff").exists()


def test_it_is_bounded(world: World) -> None:
    fill(world.root)
    world.start()
    world.run("for n in $(seq 300); do head -c 5000 /dev/zero | tr '\\0' a > $n.txt; done")
    found = world.read()
    shown = patch(found, Texts(found, world.destination), limit=20_000)
    assert len(shown.encode()) < 50_000 and shown.count("diff --git") == 3 and "# " in shown and "and 97 more" in shown


def test_what_is_incomplete_is_said() -> None:
    assert "Not everything" in patch(ChangeSet(views=[], entries=[], incomplete=["x"]), _Nothing())


class _Nothing:
    def of(self, entry: object) -> tuple[None, None]:
        raise AssertionError


def shown(world: World, path: str) -> str:
    entry = world.entries()[path]
    return diff_of(entry, world.root, world.destination)


def test_the_diff_of_one_entry(world: World) -> None:
    fill(world.root)
    (world.root / "way").symlink_to("gone.py")
    world.start()
    world.run(CHANGES + "; ln -sf tool.py way")
    found = world.entries()
    diffs = {path: diff_of(entry, world.root, world.destination) for path, entry in found.items()}
    assert "-line 8\n+ten\n" in diffs["src/long.txt"] and " line 7\n" in diffs["src/long.txt"]
    assert diffs["gone.py"].count("\n-") >= 40 and "+++ /dev/null" in diffs["gone.py"]
    assert diffs["src/new.py"].startswith("--- /dev/null\n+++ b/src/new.py\n")
    assert diffs["tool.py"] == "old mode 100644\nnew mode 100755\n"
    assert diffs["link"].endswith("+link to src/new.py\n") and "-link to gone.py\n+link to tool.py\n" in diffs["way"]
    assert diffs["binary"] == "" and diffs["empty"] == ""
    assert 'rename from "to move.md"' in diffs['src/möved "x".md']


def test_the_diff_of_a_file_that_changed_since_shows_nothing_of_it(world: World) -> None:
    fill(world.root)
    world.start()
    world.run("echo 1 >> src/long.txt")
    entry = world.entries()["src/long.txt"]
    (world.root / "src/long.txt").write_text("secret\n")
    assert diff_of(entry, world.root, world.destination) == ""
    (world.root / "src/long.txt").unlink()
    (world.root / "src/long.txt").symlink_to("/etc/passwd")
    assert diff_of(entry, world.root, world.destination) == ""


@pytest.mark.parametrize("blob", [b"other\n", None])
def test_a_blob_that_is_not_what_it_was_is_not_shown(world: World, blob: bytes | None) -> None:
    world.start()
    world.run("echo 1 > a.py")
    entry = world.entries()["a.py"]
    path = world.destination / "blobs" / entry.sha256
    path.unlink()
    if blob is not None:
        path.write_bytes(blob)
    assert diff_of(entry, world.root, world.destination) == ""
