"""Commits of a run in a repository of the person's: checked objects and refs of their own, and nothing else of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import msgspec
import pytest

from peer.landing import commits
from peer.landing.commits import ANOTHERS, MOVED, OTHER, TAKEN, namespace
from peer.landing.contents import DAMAGED
from peer.landing.tree import LINK
from sandbox.changes.values import HEADS, Entry
from sandbox.commits.values import Branch
from tests.landing.killing import killed
from tests.landing.world import NAMESPACE, Snapshot, World, base_of
from tests.sandbox.changes.repositories import ENVIRONMENT, git, make

REF = f"refs/dispatch/{NAMESPACE}/"


class Repositories(World):
    """A person's repository, a clone in which a run committed, and an entry of that."""

    def __init__(self, top: Path) -> None:
        super().__init__(top)
        make(self.root)
        self.clone = top / "clone"
        git(top, "clone", "-q", str(self.root), str(self.clone))

    def commit(self, name: str = "new.py") -> str:
        """Commit in the clone; return the commit."""
        (self.clone / name).write_text(f"{name}\n")
        git(self.clone, "add", ".")
        git(self.clone, "commit", "-q", "-m", name)
        return git(self.clone, "rev-parse", "HEAD")

    def note_commits(self, *tips: str, known: str = "origin/main", **about: object) -> Entry:
        """Add an entry of these commits, and all that they need beyond `known`. The branches are main, branch-2, …"""
        pack = self.clone / "it.pack"
        wanted = "\n".join([*tips, f"^{known}" if known else "", ""]).encode()
        with pack.open("wb") as file:
            subprocess.run(
                ["git", "pack-objects", "--revs", "--stdout", "-q"],
                cwd=self.clone,
                env=ENVIRONMENT,
                input=wanted,
                stdout=file,
                check=True,
            )
        content = pack.read_bytes()
        pack.unlink()
        names = ["main", *(f"branch-{number}" for number in range(2, len(tips) + 1))]
        branches = [Branch(name=b"x", ref=ref, tip=tip) for ref, tip in zip(names, tips, strict=True)]
        whole = {
            "kind": "folder",
            "sha256": self.blob(content),
            "size": len(content),
            "base": base_of(self.root / ".git"),
            "branches": branches,
            "count": len(tips),
            **about,
        }
        return self.note("commits", b".git" + HEADS, **whole)

    def refs(self) -> dict[str, str]:
        """The refs of the person's repository, ours by what follows the run's id."""
        listed = git(self.root, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        return {name.removeprefix(REF): tip for name, _, tip in (line.partition(" ") for line in listed)}


def without(look: Snapshot) -> Snapshot:
    """A look at the folder without packs, which stay until git collects them, and the folder of our refs."""
    return {
        path: what
        for path, what in look.items()
        if not path.startswith((".git/objects/pack/", f".git/{REF}")) and path != ".git/refs/dispatch"
    }


@pytest.fixture
def world(tmp_path: Path) -> Repositories:
    return Repositories(tmp_path)


def test_they_become_refs_and_nothing_else_changes(world: Repositories) -> None:
    git(world.root, "config", "core.logAllRefUpdates", "always")
    one, two = world.commit(), world.commit("two.py")
    world.note_commits(two, one)
    before, refs = world.look(), world.refs()
    assert world.dry_run() == ([], frozenset()) and world.look() == before
    assert world.apply() == []
    assert world.refs() == refs | {"main": two, "branch-2": one}
    after = world.look()
    packs = [path for path in after.keys() - before.keys() if path.startswith(".git/objects/")]
    assert sorted(Path(path).suffix for path in packs) == [".idx", ".pack"]
    assert {path: what for path, what in after.items() if path in before} == before
    assert all(path.startswith((".git/objects/pack/", ".git/refs/dispatch")) for path in after.keys() - before.keys())
    assert "error" not in git(world.root, "fsck", "--strict") and git(world.root, "status", "--porcelain") == ""
    git(world.root, "merge", "-q", f"dispatch/{NAMESPACE}/main")
    assert git(world.root, "rev-parse", "main") == two and (world.root / "two.py").exists()


def test_taking_back_removes_exactly_these_refs(world: Repositories) -> None:
    world.note_commits(world.commit())
    before = world.look()
    assert world.apply() == []
    git(world.root, "update-ref", "refs/dispatch/other/main", "main")
    git(world.root, "update-ref", f"{REF}mine", "main")
    git(world.root, "pack-refs", "--all")
    assert world.undo() == [] == world.undo()
    assert world.refs() == {"refs/heads/main": git(world.root, "rev-parse", "main")} | {
        "refs/dispatch/other/main": git(world.root, "rev-parse", "main"),
        "mine": git(world.root, "rev-parse", "main"),
    }
    assert {path: what for path, what in world.look().items() if path in before and "refs/heads/main" not in path} == {
        path: what for path, what in before.items() if "refs/heads/main" not in path
    }


def test_a_ref_that_the_person_moved_stays(world: Repositories) -> None:
    one, two = world.commit(), world.commit("two.py")
    entry = world.note_commits(two, one)
    world.add("file.py")
    assert world.apply() == []
    git(world.root, "update-ref", f"{REF}main", "main")
    assert [(each.number, each.reason) for each in world.undo()] == [(entry.number, MOVED)]
    assert world.refs()["branch-2"] == one and not (world.root / "file.py").exists()
    git(world.root, "update-ref", f"{REF}main", two)
    assert world.undo() == [] and world.refs().keys() == {"refs/heads/main"}


def test_with_files_all_or_nothing(world: Repositories) -> None:
    world.note_commits(world.commit())
    world.put("mine.py")
    world.change("mine.py")
    world.add("new.py")
    (world.root / "mine.py").write_text("newer")
    world.is_refused_whole(1)
    world.entries.pop(1)
    # A ref in the place of our folder is seen only when the refs are made, after the files.
    git(world.root, "update-ref", "refs/dispatch", "main")
    before = world.look()
    assert [each.reason for each in world.apply()] == ["it is in use"]
    assert without(world.look()) == without(before) and not world.journal.exists()
    git(world.root, "update-ref", "-d", "refs/dispatch")
    assert world.apply() == [] and (world.root / "new.py").exists() and "main" in world.refs()


def test_what_is_there_already_is_not_touched(world: Repositories) -> None:
    world.note_commits(world.commit())
    git(world.root, "update-ref", f"{REF}something", "main")
    assert world.is_refused_whole() == [TAKEN]


@pytest.fixture
def lost(world: Repositories) -> str:
    """A commit on one that the person has no more."""
    world.commit("base.py")
    base = git(world.clone, "rev-parse", "HEAD")
    tip = world.commit("on.py")
    world.note_commits(tip, known=base)
    return tip


def test_what_their_commits_build_on_must_be_there(world: Repositories, lost: str) -> None:
    assert world.is_refused_whole() == ["git found damage in its objects, or your repository lacks what they build on"]


def test_also_what_that_builds_on(world: Repositories) -> None:
    """The commit below is there, by chance, and what is below that is not."""
    for name in ("one.py", "two.py"):
        world.commit(name)
    base = git(world.clone, "rev-parse", "HEAD")
    world.note_commits(world.commit("three.py"), known=base)
    for name in (base, f"{base}^{{tree}}", f"{base}:one.py", f"{base}:two.py"):
        kind = git(world.clone, "cat-file", "-t", name)
        raw = subprocess.run(["git", "cat-file", kind, name], cwd=world.clone, capture_output=True, check=True).stdout
        git(world.root, "hash-object", "-t", kind, "-w", "--literally", "--stdin", stdin=raw)
    assert world.is_refused_whole() == ["your repository lacks what they build on"]


def test_a_pack_that_was_altered_or_lost(world: Repositories) -> None:
    entry = world.note_commits(world.commit())
    blob = world.folder / "blobs" / entry.sha256
    content = blob.read_bytes()
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert world.is_refused_whole() == [DAMAGED]
    blob.unlink()
    assert world.is_refused_whole() == ["its content is missing from what was kept of the run"]


def test_objects_are_checked_once_more(world: Repositories) -> None:
    """A pack that matches its digest and is damaged, as after a bug of ours."""
    blob = git(world.clone, "hash-object", "-w", "--stdin", stdin=b"x\n")
    tree = git(world.clone, "mktree", stdin=f"100644 blob {blob}\tconfig\n".encode())
    tree = git(world.clone, "mktree", stdin=f"040000 tree {tree}\t.git\n".encode())
    world.note_commits(git(world.clone, "commit-tree", tree, "-p", "HEAD", "-m", "evil"))
    assert world.is_refused_whole() == ["git found damage in its objects, or your repository lacks what they build on"]


def swap(world: Repositories, how: str) -> None:
    folder = world.root / ".git"
    if how == "a link in its place":
        folder.rename(world.root.parent / "moved")
        folder.symlink_to(world.root.parent / "moved")
    elif how == "another in its place":
        folder.rename(world.root.parent / "moved")
        shutil.copytree(world.root.parent / "moved", folder)
    elif how == "a link in it":
        (folder / "objects").rename(world.root.parent / "moved")
        (folder / "objects").symlink_to(world.root.parent / "moved")
    else:
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("a link in its place", LINK),
        ("another in its place", OTHER),
        ("a link in it", LINK),
        ("nothing in its place", "it is no longer there"),
    ],
)
def test_a_repository_that_is_another_by_now(world: Repositories, how: str, said: str) -> None:
    world.note_commits(world.commit())
    swap(world, how)
    assert world.is_refused_whole() == [said]


REAL = "the commit that is there"


@pytest.mark.parametrize(
    "about",
    [
        {"path": b".git"},
        {"path": b"//refs/heads"},
        {"path": b"/refs/heads"},  # of the view itself, which is another folder than the one that was seen
        {"path": b"../other/.git/refs/heads"},
        {"branches": []},
        {"branches": [Branch(name=b"x", ref="../heads/main", tip=REAL)]},
        {"branches": [Branch(name=b"x", ref="a\ncreate refs/heads/x", tip=REAL)]},
        {"branches": [Branch(name=b"x", ref="a;b", tip=REAL)]},
        {"branches": [Branch(name=b"x", ref="a", tip="HEAD")]},
        {"branches": [Branch(name=b"x", ref="a", tip=REAL), Branch(name=b"y", ref="a", tip=REAL)]},
        {"base": None},
        {"sha256": "../../x"},
    ],
)
def test_an_entry_is_taken_at_no_word(world: Repositories, about: dict[str, object]) -> None:
    tip = world.commit()
    entry = msgspec.structs.replace(world.note_commits(tip), **about)
    real = [msgspec.structs.replace(each, tip=tip if each.tip == REAL else each.tip) for each in entry.branches]
    entry = msgspec.structs.replace(entry, branches=real)
    before = world.look()
    (refused,) = world.apply([entry])
    assert world.look() == before
    if entry.path.endswith(HEADS) and "path" in about:
        whole = entry.path == HEADS
        assert refused.reason == (OTHER if whole else "its path is not allowed in a repository")


def test_no_settings_or_hooks_of_the_repository_run(world: Repositories, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    hooks = world.root / ".git/hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("reference-transaction", "post-update", "pre-auto-gc", "update"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {proof}\n")
        (hooks / name).chmod(0o755)
    for name, value in {
        "core.fsmonitor": f"touch {proof}",
        "core.alternateRefsCommand": f"touch {proof}",
        "core.hooksPath": str(hooks),
        "gc.auto": "1",
        "core.worktree": "/",
        "core.bare": "true",
    }.items():
        git(world.root, "config", name, value)
    world.note_commits(world.commit())
    assert world.apply() == [] and world.undo() == [] and not proof.exists()


@pytest.mark.root
def test_as_root_it_is_done_by_the_owner_of_the_repository() -> None:
    """Whose settings git obeys, and whose files they are afterwards."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as top:
        Path(top).chmod(0o755)
        world = Repositories(Path(top))
        world.note_commits(world.commit())
        for path in (world.root, *world.root.rglob("*")):
            os.chown(path, 65534, 65534, follow_symlinks=False)
        assert world.apply() == []
        assert {path.lstat().st_uid for path in (world.root / ".git").rglob("*")} == {65534}
        assert world.undo() == []


def test_settings_of_another_user_are_not_obeyed(world: Repositories, monkeypatch: pytest.MonkeyPatch) -> None:
    world.note_commits(world.commit())
    before = world.look()
    monkeypatch.setattr(os, "geteuid", lambda: 4_321)
    assert [each.reason for each in world.apply()] == [ANOTHERS] and world.look() == before


def test_a_later_run_has_names_of_its_own() -> None:
    assert namespace("id", 1) == "id" and namespace("id", 2) == "id-2" != namespace("id", 12)


def test_without_git(world: Repositories, monkeypatch: pytest.MonkeyPatch) -> None:
    world.note_commits(world.commit())
    monkeypatch.setenv("PATH", "/nonexistent")
    before = world.look()
    assert [each.reason for each in world.apply()] == ["git is not installed on this machine"]
    assert world.look() == before


def test_git_that_never_ends(world: Repositories, monkeypatch: pytest.MonkeyPatch) -> None:
    world.note_commits(world.commit())
    os.mkfifo(world.root.parent / "pipe")
    git(world.root, "config", "include.path", str(world.root.parent / "pipe"))
    monkeypatch.setattr(commits, "_SECONDS", 0.5)
    assert [each.reason for each in world.apply()] == ["git took too long"]


# ---------------------------------------------------------------- crashes


def check_killed(world: Repositories, step: int) -> tuple[bool, str]:
    before, refs = world.look(), world.refs()
    was_killed = killed(step, world.apply)
    killed(step * 7 % 23, world.resume)  # the start after the crash is killed as well
    outcome = world.resume()
    after = world.look()
    if outcome == "applied":
        assert world.refs().keys() == refs.keys() | {"main", "branch-2"} and (world.root / "added.py").exists()
        killed(step * 5 % 31, world.undo)
        assert world.undo() == []
    else:
        assert not world.journal.exists()
        assert without(after) == without(before)
    assert world.refs() == refs and without(world.look()) == without(before)
    assert not [path for path in world.look() if "incoming" in path or "tmp_objdir" in path or path.endswith(".lock")]
    return was_killed, outcome


def test_killed_at_every_step(world: Repositories) -> None:
    one = world.commit()
    world.note_commits(world.commit("two.py"), one)
    world.add("added.py")
    packs = world.root / ".git/objects/pack"
    outcomes = []
    for step in range(1_000):
        world.journal = world.folder / f"landing-{step}"
        was_killed, outcome = check_killed(world, step)
        outcomes.append(outcome)
        if not was_killed:
            break
        for path in packs.iterdir():
            path.unlink()
    assert outcomes[0] == "nothing" and outcomes[-1] == "applied" and len(outcomes) > 30
    assert outcomes == sorted(outcomes, reverse=True)


def test_locks_that_a_killed_git_left(world: Repositories) -> None:
    world.note_commits(world.commit())
    assert world.apply() == []
    (world.root / f".git/{REF}main.lock").touch()
    other = world.root / ".git/refs/heads/main.lock"
    other.touch()
    assert world.undo() == [] and other.exists()


def test_a_lock_of_the_person_is_waited_for_later(world: Repositories) -> None:
    """Another git holds the packed refs: nothing is half undone, and later it works."""
    world.note_commits(world.commit())
    assert world.apply() == []
    git(world.root, "pack-refs", "--all")
    lock = world.root / ".git/packed-refs.lock"
    lock.touch()
    assert [each.reason for each in world.undo()] == ["it is in use"]
    assert "main" in world.refs()
    lock.unlink()
    assert world.undo() == [] and world.refs().keys() == {"refs/heads/main"}
