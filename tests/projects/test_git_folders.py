"""Which repository's folder a run gets beside a project: one that names the project in turn, and no other."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from peer.projects.git_folders import GitFolder, find, find_all, fitting
from peer.trust.filesystem import LocalFacts


def git(folder: Path, *words: str) -> None:
    options = ["-c", "user.name=x", "-c", "user.email=x@x.test", "-c", "protocol.file.allow=always"]
    subprocess.run(["git", *options, *words], cwd=folder, check=True, capture_output=True)


class World:
    """A home with a repository, a linked worktree of it, and a project that has it as a submodule."""

    def __init__(self, base: Path) -> None:
        self.home = base / "bob"
        self.main, self.tree, self.outer = (self.home / name for name in ("main", "wt", "outer"))
        (self.home / ".dispatch").mkdir(parents=True)
        self.main.mkdir()
        git(self.main, "init", "-q")
        (self.main / "a").write_text("1")
        git(self.main, "add", ".")
        git(self.main, "commit", "-qm", "one")
        git(self.main, "worktree", "add", "-q", str(self.tree), "-b", "wt")
        self.outer.mkdir()
        git(self.outer, "init", "-q")
        git(self.outer, "submodule", "add", "-q", str(self.main), "libs/sub")
        self.facts = LocalFacts(home=self.home, states=[self.home / ".dispatch"], env={})

    def found(self, folder: Path) -> GitFolder | None:
        return find(str(folder), self.facts)[0]

    def why(self, folder: Path) -> str:
        found, why = find(str(folder), self.facts)
        assert found is None
        return why


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_worktree_and_a_submodule_have_their_repositories_and_others_need_none(world: World) -> None:
    tree, sub = world.found(world.tree), world.found(world.outer / "libs/sub")
    assert tree is not None and tree.path == str(world.main / ".git")
    assert sub is not None and sub.path == str(world.outer / ".git/modules/libs/sub")
    about = (world.main / ".git").stat()
    assert (tree.device, tree.inode) == (about.st_dev, about.st_ino)
    for own in (world.main, world.outer, world.home / "nothing"):
        assert find(str(own), world.facts) == (None, "")
    folders = [str(world.tree), str(world.main)]
    assert find_all(folders, world.facts) == {str(world.tree): tree}


def test_worktrees_as_git_makes_them_with_relative_paths_and_in_a_submodule(world: World) -> None:
    names = (world.tree / ".git", world.main / ".git/worktrees/wt/gitdir")
    names[0].write_text("gitdir: ../main/.git/worktrees/wt\n")
    names[1].write_text("../../../../wt/.git\n")
    assert world.found(world.tree) is not None
    git(world.outer, "add", ".")
    git(world.outer, "commit", "-qm", "one")
    git(world.outer, "worktree", "add", "-q", str(world.home / "outer2"))
    git(world.home / "outer2", "submodule", "update", "-q", "--init")
    found = world.found(world.home / "outer2/libs/sub")
    assert found is not None and found.path == str(world.outer / ".git/worktrees/outer2/modules/libs/sub")


def names_keys(world: World) -> Path:
    (world.home / ".ssh").mkdir()
    (world.tree / ".git").write_text(f"gitdir: {world.home}/.ssh\n")
    return world.tree


def names_another_repository(world: World) -> Path:
    """As a project from somebody else would, to be shown the history of one that it does not belong to."""
    thief = world.home / "thief"
    thief.mkdir()
    (thief / ".git").write_text(f"gitdir: {world.main}/.git\n")
    return thief


def names_anothers_worktree(world: World) -> Path:
    thief = world.home / "thief"
    thief.mkdir()
    shutil.copy(world.tree / ".git", thief / ".git")
    return thief


def names_anothers_submodule(world: World) -> Path:
    thief = world.home / "thief"
    thief.mkdir()
    (thief / ".git").write_text(f"gitdir: {world.outer}/.git/modules/libs/sub\n")
    return thief


def makes_a_worktree_of_its_own_that_names_another_common_folder(world: World) -> Path:
    thief, made = world.home / "thief", world.home / "made/worktrees/x"
    thief.mkdir()
    made.mkdir(parents=True)
    (made / "commondir").write_text(f"{world.main}/.git\n")
    (made / "gitdir").write_text(f"{thief}/.git\n")
    (thief / ".git").write_text(f"gitdir: {made}\n")
    return thief


def is_of_a_hidden_repository(world: World) -> Path:
    """Below a hidden folder of the home lie keys and settings, so nothing there is ever granted."""
    (world.main / ".git").rename(world.home / ".dotfiles")
    (world.tree / ".git").write_text(f"gitdir: {world.home}/.dotfiles/worktrees/wt\n")
    return world.tree


def is_of_the_home_itself(world: World) -> Path:
    git(world.home, "init", "-q")
    git(world.home, "commit", "-q", "--allow-empty", "-m", "x")
    git(world.home, "worktree", "add", "-q", "of-home")
    return world.home / "of-home"


def was_moved(world: World) -> Path:
    return world.tree.rename(world.home / "moved")


def lies_in_its_repository(world: World) -> Path:
    git(world.home, "clone", "-q", "--bare", str(world.main), "bare")
    git(world.home / "bare", "worktree", "add", "-q", "inner")
    return world.home / "bare/inner"


def has_no_such_folder(world: World) -> Path:
    shutil.rmtree(world.main / ".git/worktrees/wt")
    return world.tree


def has_garbage(world: World) -> Path:
    (world.tree / ".git").write_bytes(b"gitdir: \0/\xff\n\n")
    return world.tree


def has_its_settings_in_a_link(world: World) -> Path:
    config = world.outer / ".git/modules/libs/sub/config"
    config.rename(world.home / "config")
    config.symlink_to(world.home / "config")
    return world.outer / "libs/sub"


def separated(world: World) -> Path:
    """Nothing in such a repository names the project."""
    alone = world.home / "alone"
    git(world.home, "init", "-q", "--separate-git-dir", str(world.home / "store"), str(alone))
    return alone


@pytest.mark.parametrize(
    "make",
    [
        names_keys, names_another_repository, names_anothers_worktree, names_anothers_submodule,
        makes_a_worktree_of_its_own_that_names_another_common_folder, is_of_a_hidden_repository, is_of_the_home_itself,
        was_moved, lies_in_its_repository, has_no_such_folder, has_garbage, has_its_settings_in_a_link, separated,
    ],
)  # fmt: skip
def test_what_a_project_names_alone_is_not_shown(world: World, make: Callable[[World], Path]) -> None:
    assert world.why(make(world))


def test_a_git_that_is_neither_file_nor_folder_is_nothing(world: World) -> None:
    (world.tree / ".git").unlink()
    os.mkfifo(world.tree / ".git")
    assert find(str(world.tree), world.facts) == (None, "")
    (world.tree / ".git").unlink()
    (world.tree / ".git").symlink_to(world.main / ".git")
    assert find(str(world.tree), world.facts) == (None, "")


@pytest.mark.root
def test_another_users_repository_is_not_shown(world: World) -> None:
    if os.geteuid():
        pytest.skip("only root gives files away")
    os.chown(world.main / ".git", 12345, 12345)
    assert "another user" in world.why(world.tree)


def test_a_pin_holds_while_the_folder_is_the_same(world: World) -> None:
    pins = find_all([str(world.tree), str(world.outer / "libs/sub")], world.facts)
    fits = {folder: pin.path for folder, pin in pins.items()}
    assert fitting(pins, world.facts) == (fits, [])
    # Another repository under the same name, which the worktree would belong to.
    (world.main / ".git").rename(world.main / "old")
    shutil.copytree(world.main / "old", world.main / ".git")
    left, (sentence,) = fitting(pins, world.facts)
    assert list(left) == [str(world.outer / "libs/sub")]
    assert "it has changed since it was granted" in sentence and str(world.main / ".git") in sentence
    # The project names another one by now, as a run may have had it do.
    other = world.home / "other"
    git(world.home, "clone", "-q", str(world.main / "old"), "other")
    git(other, "worktree", "add", "-q", str(world.home / "wt2"))
    shutil.rmtree(world.tree)
    (world.home / "wt2").rename(world.tree)
    git(other, "worktree", "repair", str(world.tree))
    assert world.found(world.tree) is not None and fitting(pins, world.facts)[0] == left
