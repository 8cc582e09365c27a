"""git in a run, through the real claude program's shell: commits, worktrees and submodules stand where they stood."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from sandbox.run import grants
from sandbox.run.folder import RunFolder
from tests.sandbox.conftest import Person
from tests.sandbox.node import dp_agent, start
from tests.sandbox.test_runtime_claude import claude, says, tool

WHO = "git -c user.name=Rob -c user.email=rob@example.org"


def git(folder: Path, *words: str) -> str:
    options = ["-c", "user.name=x", "-c", "user.email=x@x.test", "-c", "protocol.file.allow=always"]
    return subprocess.run(["git", *options, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def worktree(tmp_path: Path) -> Path:
    """A linked worktree `shop`, with a submodule, of the repository `main`."""
    main, lib = tmp_path / "main", tmp_path / "lib"
    for folder in (lib, main):
        folder.mkdir()
        git(folder, "init", "-q")
        (folder / "a").write_text("1\n")
        git(folder, "add", ".")
        git(folder, "commit", "-qm", f"first of {folder.name}")
    git(main, "submodule", "add", "-q", str(lib), "lib")
    git(main, "commit", "-qm", "with lib")
    git(main, "worktree", "add", "-q", str(tmp_path / "shop"), "-b", "shop")
    git(tmp_path / "shop", "submodule", "update", "-q", "--init")
    return tmp_path / "shop"


async def test_status_commit_worktree_and_submodule(worktree: Path, tmp_path: Path) -> None:
    """Seen to fail with the folder at another path, and without the repository beside it."""
    (worktree / "tool").write_text(f"#!/bin/sh\n. '{worktree}/a.sh'\n")
    (worktree / "tool").chmod(0o755)
    (worktree / "a.sh").write_text("echo sourced\n")
    (worktree / "run").write_text(f"#!{worktree}/sh\necho by its own interpreter\n")
    (worktree / "run").chmod(0o755)
    (worktree / "sh").symlink_to("/bin/sh")
    git(worktree, "add", ".")
    git(worktree, "commit", "-qm", "tools")
    commands = [
        "git status --short && git log --format=%s -1",
        f"echo 2 > a && {WHO} commit -qam 'by the run' && git log --format=%s -1",
        "git worktree list | sed 's/ .*//'",
        "git submodule status | cut -d' ' -f3; git -C lib log --format=%s",
        f"cd lib && echo 3 > a && {WHO} commit -qam 'in the lib' && git log --format=%s -1 && git -C .. status --short",
        f"{worktree}/tool; ./run; pwd",
    ]
    model = says(*({"tools": [tool("Bash", command=command)]} for command in commands), {"text": "done"})
    common = tmp_path / "main/.git"
    async with model.running(), dp_agent() as node:
        begin = claude(tmp_path, model, approval="auto", git_folders={str(worktree): str(common)})
        finished = await node.run(begin)
    assert finished.status == "completed", finished.reason
    assert [output.rstrip("\n").split("\n") for _, output in node.results] == [
        ["tools"],
        ["by the run"],
        [str(tmp_path / "main"), str(worktree)],
        ["lib", "first of lib"],
        ["in the lib", "M lib"] if node.results[4][1].startswith("in the lib\nM") else ["in the lib", " M lib"],
        ["sourced", "by its own interpreter", str(worktree)],
    ]
    assert git(worktree, "log", "--format=%s", "-1") == "tools\n" and git(worktree, "status", "--short") == ""
    assert git(worktree / "lib", "log", "--format=%s", "-1") == "first of lib\n"


@pytest.mark.parametrize(
    ("beside", "tools", "joins"),
    [
        ("elsewhere", ["Bash", "Read"], True),
        ("elsewhere", ["Read", "Write"], False),
        # It would show what was not granted, or is seen already.
        (".", ["Bash"], False),
        ("shop/.git", ["Bash"], False),
    ],
)
def test_a_repository_joins_beside_the_folder_and_for_shells_alone(
    tmp_path: Path, beside: str, tools: list[str], joins: bool
) -> None:
    shop = str(tmp_path / "shop")
    repository = os.path.normpath(tmp_path / beside)
    begin = start(tmp_path, tools=tools, git_folders={shop: repository}, names={repository: "main/.git"})
    profile = grants.profile(begin, RunFolder(tmp_path / "run"), programs=(), model=False)
    roots = {str(root.path): (root.name, root.repository) for root in profile.roots}
    assert roots == {shop: ("shop", ""), **({repository: ("main/.git", shop)} if joins else {})}
    assert grants.scope(begin, profile).roots == (str(tmp_path / "run/workspace"), shop), "no place for file tools"


async def test_what_names_a_folder_by_the_link_to_the_home_works(person: Person, tmp_path: Path) -> None:
    """As where /home is a link: a tool's first line has the name by which its person knows the folder."""
    project, link = person.project, person.base / "link"
    (project / "sh").symlink_to("/bin/sh")
    (project / "tool").write_text(f"#!{link}/project/sh\necho by its other name\n")
    (project / "tool").chmod(0o755)
    begin = start(
        tmp_path,
        {"tool": "Bash", "input": {"command": f"./tool; touch {link}/x; cat {link}/project/code.py"}},
        {"tool": "Read", "input": {"file_path": f"{link}/project/code.py"}},
        cwd=str(project),
        approval="auto",
        links={str(link): str(person.base / "home"), "/etc/x": "/", str(project / "x"): "/", "/tmp/x": "/"},
    )
    async with dp_agent() as node:
        finished = await node.run(begin)
    assert finished.status == "completed", finished.reason
    assert node.results[0][1].startswith("by its other name\n") and "Read-only" in node.results[0][1]
    assert node.results[1] == (True, "print('hello')")
    assert node.calls[1].resolved_path == str(project / "code.py")
