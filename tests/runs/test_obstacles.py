"""What a person is told of a folder before an accept, and that a hostile folder neither fools nor holds up the look."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from peer.runs.obstacles import obstacles


def git(folder: Path, *words: str) -> None:
    options = ["-c", "user.name=x", "-c", "user.email=x@x.test", "-c", "protocol.file.allow=always"]
    subprocess.run(["git", *options, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def main(tmp_path: Path) -> Path:
    folder = tmp_path / "main"
    (folder / "sub").mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / "a").write_text("1")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "one")
    return folder


def test_git_that_will_not_work_is_told_and_no_other(main: Path, tmp_path: Path) -> None:
    assert obstacles(main) == []
    (told,) = obstacles(main / "sub")
    assert str(main) in told and "only this folder" in told
    git(tmp_path, "clone", "-q", "--shared", str(main), "borrows")
    (told,) = obstacles(tmp_path / "borrows")
    assert "borrows objects" in told
    if os.geteuid() == 0:
        os.chown(main, 12345, 12345)
        assert obstacles(main) == []


def test_tools_that_will_not_start_are_told_and_no_others(tmp_path: Path) -> None:
    tools = tmp_path / ".venv/bin"
    tools.mkdir(parents=True)

    def tool(name: str, first: str, mode: int = 0o755) -> None:
        (tools / name).write_text(f"{first}\n")
        (tools / name).chmod(mode)

    tool("system", "#!/usr/bin/env python3")
    tool("shell", "#! /bin/sh -e")
    tool("binary", "\x7fELF")
    tool("sourced", f"#!{tmp_path}/x", mode=0o644)
    (tools / "python").symlink_to("/usr/bin/python3")
    (tools / "python3").symlink_to("python")
    assert obstacles(tmp_path) == []
    tool("own", f"#!{tmp_path}/.venv/bin/python")
    (tools / "whole").symlink_to(tmp_path / "elsewhere")
    assert obstacles(tmp_path) == [], "the folder stands at its own path"
    tool("other", f"#!{tmp_path}-2/.venv/bin/python")
    (tools / "managed").symlink_to(tmp_path.parent / "elsewhere/python")
    (tools / "up").symlink_to("../../../elsewhere")
    (told,) = obstacles(tmp_path)
    assert ".venv/bin/managed and 2 more" in told and "will not start" in told
    (told,) = obstacles(tmp_path, [tmp_path.parent / "elsewhere"])
    assert ".venv/bin/other will not start" in told


def test_packages_installed_in_place_are_told(tmp_path: Path) -> None:
    packages = tmp_path / "env/lib/python3.11/site-packages"
    packages.mkdir(parents=True)
    (packages / "ordinary.pth").write_text("import sys\n")
    (packages / "mine.pth").write_text(f"{tmp_path}-2/src\n")
    assert obstacles(tmp_path) == []
    (tmp_path / "env/pyvenv.cfg").write_text("home = /usr/bin\n")
    (told,) = obstacles(tmp_path)
    assert "env" in told and "mine.pth" in told
    (packages / "mine.pth").write_text(f"{tmp_path}/src\n")
    assert obstacles(tmp_path) == []


def a_pipe(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    os.mkfifo(folder / name, 0o777)


def a_loop_of_links(folder: Path) -> None:
    (folder / "bin").mkdir()
    (folder / "bin/a").symlink_to("b")
    (folder / "bin/b").symlink_to("a")


def many(folder: Path) -> None:
    for number in range(1_000):
        (folder / str(number)).mkdir()


HOSTILE: list[Callable[[Path], object]] = [
    lambda folder: a_pipe(folder, ".git"),
    lambda folder: a_pipe(folder, "x/bin"),
    lambda folder: a_pipe(folder, "bin/tool"),
    a_loop_of_links,
    lambda folder: (folder / ".git").symlink_to(".git"),
    lambda folder: (folder / ".git").write_bytes(b"gitdir: \0/\xff"),
    lambda folder: (folder / "bin").symlink_to("/usr/bin"),
    many,
]


@pytest.mark.parametrize("make", HOSTILE)
def test_a_hostile_folder_is_looked_at_without_harm(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path)
    assert len(obstacles(tmp_path)) <= 1
