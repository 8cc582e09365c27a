"""What a run did in a view, as entries: of an overlay and of a copy alike."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.sandbox.changes.worlds import World


def fill(root: Path) -> None:
    (root / "src/inner").mkdir(parents=True)
    (root / "src/app.py").write_text("print('old')\n")
    (root / "src/inner/deep.py").write_text("deep = 1\n")
    (root / "notes.md").write_text("notes\n")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "link").symlink_to("notes.md")
    (root / "empty").mkdir()


def brief(world: World) -> dict[str, str]:
    return {path: entry.change for path, entry in world.entries().items()}


def test_nothing_done_is_nothing(world: World) -> None:
    fill(world.root)
    world.start()
    world.run("cat notes.md; ls -R >/dev/null")
    assert brief(world) == {}


def test_each_kind_of_change(world: World) -> None:
    fill(world.root)
    world.start()
    world.run(
        "echo new > src/app.py; echo more > src/more.py; rm notes.md; chmod +x run.sh; ln -sf src/app.py link; "
        "mkdir -p made/empty; rmdir empty"
    )
    found = world.entries()
    assert {path: entry.change for path, entry in found.items()} == {
        "src/app.py": "changed",
        "src/more.py": "added",
        "notes.md": "deleted",
        "run.sh": "mode",
        "link": "changed",
        "made/empty": "added",
        "empty": "deleted",
    }
    app = found["src/app.py"]
    assert world.blob(app) == b"new\n" and app.sha256 == hashlib.sha256(b"new\n").hexdigest() and app.size == 4
    about = (world.root / "src/app.py").stat()
    assert app.base is not None and app.base.sha256 == hashlib.sha256(b"print('old')\n").hexdigest()
    assert (app.base.device, app.base.inode, app.base.changed_ns, app.base.size, app.base.mode) == (
        about.st_dev,
        about.st_ino,
        about.st_ctime_ns,
        about.st_size,
        about.st_mode & 0o7777,
    )
    assert found["run.sh"].executable and found["link"].target == b"src/app.py"
    assert found["link"].kind == "link" and found["made/empty"].kind == found["empty"].kind == "folder"
    assert not any(entry.conflict or entry.never for entry in found.values())


@pytest.mark.parametrize(
    "script",
    [
        "touch notes.md src/app.py",
        "cp notes.md x; rm notes.md; mv x notes.md",
        "chmod 600 notes.md; chmod 700 src",
        "echo x > x; rm x",
        "rm -r src; mkdir -p src/inner; echo \"print('old')\" > src/app.py; echo 'deep = 1' > src/inner/deep.py",
        "rm link; ln -s notes.md link",
    ],
)
def test_what_ends_as_it_was_is_no_change(world: World, script: str) -> None:
    fill(world.root)
    world.start()
    world.run(script)
    assert brief(world) == {}


def test_a_deleted_folder_is_all_that_was_in_it(world: World) -> None:
    fill(world.root)
    world.start()
    world.run("rm -r src")
    assert list(brief(world).items()) == [
        ("src/app.py", "deleted"),
        ("src/inner/deep.py", "deleted"),
        ("src/inner", "deleted"),
        ("src", "deleted"),
    ]


def test_a_folder_made_anew_is_compared_with_the_one_that_it_hides(world: World) -> None:
    fill(world.root)
    world.start()
    world.run("rm -r src; mkdir src; echo 2 > src/app.py; echo 3 > src/other.py")
    assert brief(world) == {
        "src/app.py": "changed",
        "src/other.py": "added",
        "src/inner/deep.py": "deleted",
        "src/inner": "deleted",
    }


def test_a_folder_in_a_folder_made_anew_hides_what_was_there(world: World) -> None:
    fill(world.root)
    world.start()
    world.run("rm -r src; mkdir -p src/inner")
    assert brief(world) == {"src/app.py": "deleted", "src/inner/deep.py": "deleted"}


def test_a_file_in_place_of_a_folder_comes_after_what_was_in_it(world: World) -> None:
    fill(world.root)
    world.start()
    world.run("rm -r src; echo file > src")
    found = world.entries()
    assert [*found] == ["src/app.py", "src/inner/deep.py", "src/inner", "src"]
    assert found["src"].change == "changed" and found["src"].base is not None and found["src"].base.kind == "folder"
    assert found["src"].marks


def test_a_folder_in_place_of_a_file_deletes_it_first(world: World) -> None:
    fill(world.root)
    world.start()
    world.run("rm notes.md run.sh; mkdir notes.md run.sh; echo x > notes.md/x")
    found = world.entries()
    assert [(path, entry.change, entry.kind) for path, entry in found.items()] == [
        ("notes.md", "deleted", "file"),
        ("notes.md/x", "added", "file"),
        ("run.sh", "changed", "folder"),
    ]


def test_a_rename_is_one_entry(world: World) -> None:
    fill(world.root)
    world.start()
    world.run("mv src/app.py main.py; mv notes.md src/inner/notes.md")
    found = world.entries()
    assert {path: (entry.change, entry.renamed_from) for path, entry in found.items()} == {
        "main.py": ("renamed", b"src/app.py"),
        "src/inner/notes.md": ("renamed", b"notes.md"),
    }


def test_the_same_content_twice_is_no_rename(world: World) -> None:
    fill(world.root)
    world.start()
    world.run("cp notes.md a.md; mv notes.md b.md")
    assert brief(world) == {"a.md": "added", "b.md": "added", "notes.md": "deleted"}


def test_doing_it_again_finds_the_same(world: World) -> None:
    fill(world.root)
    world.start()
    world.run("chmod +x run.sh; echo 1 > made; chmod 755 made; echo 2 > shut; chmod 000 shut; mkdir s; chmod 000 s")
    first = world.read()
    assert world.read() == first
    assert {os.fsdecode(entry.path): entry.executable for entry in first.entries} == {
        "made": True,
        "run.sh": True,
        "shut": False,
        "s": False,
    }


def test_blobs_are_for_this_user_alone(world: World) -> None:
    world.start()
    world.run("echo 1 > a; chmod 4755 a; echo 2 > b; chmod 4644 b; echo 3 > c; chmod 0 c")
    world.read()
    modes = {path.stat().st_mode & 0o7777 for path in (world.destination / "blobs").iterdir()}
    assert modes == {0o600} and len(list((world.destination / "blobs").iterdir())) == 3


def test_names_are_any_bytes(world: World) -> None:
    world.start()
    world.python(r"import os; [open(name, 'w').close() for name in (b'\xff\xfe', b'a\nb', b' ', b':(top)x', b'-n')]")
    assert {entry.path for entry in world.read().entries} == {b"\xff\xfe", b"a\nb", b" ", b":(top)x", b"-n"}


def test_metadata_is_one_entry_and_never_put_in_place(world: World) -> None:
    for at in (".git", "src/.GIT", "sub/.hg"):
        (world.root / at).mkdir(parents=True)
        (world.root / at / "config").write_text("old\n")
    (world.root / "worktree").mkdir()
    (world.root / "worktree/.git").write_text("gitdir: elsewhere\n")
    world.start()
    world.run(
        "echo evil > .git/config; mkdir .git/hooks; echo x > .git/hooks/pre-commit; echo 1234 > src/.GIT/config; "
        "rm -r sub/.hg; echo y > worktree/.git; mkdir -p deep/.jj; echo z > deep/.jj/x"
    )
    found = world.entries()
    assert {path: entry.change for path, entry in found.items() if path != "deep"} == dict.fromkeys(
        [".git", "src/.GIT", "sub/.hg", "worktree/.git", "deep/.jj"], "dropped"
    )
    assert all(entry.never for entry in found.values())
    assert (found[".git"].count, found[".git"].size) == (2, 7)


def test_a_folder_that_tools_fill_is_one_entry(world: World) -> None:
    (world.root / "node_modules/a").mkdir(parents=True)
    (world.root / "node_modules/a/index.js").write_text("1\n")
    world.start()
    world.run(
        "mkdir -p node_modules/b web/node_modules/c target; echo 22 > node_modules/b/x; echo 1 > Cargo.toml; "
        "echo 1 > web/node_modules/c/y; echo bin > target/bin"
    )
    found = world.entries()
    assert {path: entry.change for path, entry in found.items()} == {
        "node_modules": "folded",
        "web/node_modules": "folded",
        "target": "folded",
        "Cargo.toml": "added",
    }
    one = found["node_modules"]
    assert (one.count, one.size) == (1, 3) and one.marks and not one.can_land
    assert len(list((world.destination / "blobs").iterdir())) == 1


def test_looking_into_a_repository_is_no_change(world: World) -> None:
    (world.root / ".git/objects").mkdir(parents=True)
    (world.root / "node_modules/a").mkdir(parents=True)
    world.start()
    world.run("touch .git .git/objects; chmod 700 node_modules/a; echo x > .git/x; rm .git/x")
    assert brief(world) == {}


def test_an_empty_folder_below_a_folder_in_place_of_a_file(world: World) -> None:
    """Seen to fail with a copy, where it was left away."""
    (world.root / "file").write_text("to go\n")
    world.start()
    world.run("rm file; mkdir -p file/inner/most")
    found = world.entries()
    assert [(path, entry.change, entry.kind) for path, entry in found.items()] == [
        ("file", "deleted", "file"),
        ("file/inner/most", "added", "folder"),
    ]
