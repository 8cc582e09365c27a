"""Which changes need a choice of their own, and which are never put in place."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sandbox.changes import links
from sandbox.changes.draft import Draft
from sandbox.changes.marks import Tracked, marks
from sandbox.changes.text import is_plain
from sandbox.changes.values import Base
from tests.sandbox.changes.worlds import World

GOOD = Draft(b"src/app.py", "added", "file", size=10, sha256="0" * 64, plain=True)
BASE = Base(kind="file", mode=0o644, size=10, sha256="1" * 64, device=1, inode=1, changed_ns=1)

MARKED = """
    .env .github/workflows/ci.yml src/.hidden/a.py a/.b/c.md conftest.py src/ConfTest.py x.pth sitecustomize.py
    usercustomize.py Makefile GNUmakefile package.json pyproject.toml setup.py setup.cfg tox.ini CMakeLists.txt
    Dockerfile compose.yaml docker-compose.yml build.gradle settings.gradle.kts build.rs Cargo.toml AGENTS.md
    CLAUDE.md gemini.md Jenkinsfile x.service vite.config.ts jest.setup.js noxfile.py requirements-dev.txt
    doc/conf.py go.mod run.sh a.bat x.json x.yaml x.xml x x.unknown HEAD objects/a.py refs/heads/a.md
    docs/refs/x.txt random.py src/json.py lib.so x.pyc agents/helper.md .claude/commands/x.md commands/go.md x.svg
    x.exe Gemfile Rakefile gulpfile.js a. .py
"""


def of(name: str | bytes = b"src/app.py", **other: object) -> list[str]:
    path = name.encode() if isinstance(name, str) else name
    return marks(dataclasses.replace(GOOD, path=path, **other), Tracked())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", ["a.py", "src/deep/App.TSX", "README", "docs/readme.md", "LICENSE", "lib.rs", "x.c", "notes.txt"]
)
def test_text_and_source_are_unmarked(name: str) -> None:
    assert not of(name) and not of(name, change="changed", base=BASE) and not of(name, change="deleted", base=BASE)
    assert not of(name, change="renamed", renamed_from=b"before.py")


@pytest.mark.parametrize(
    "name",
    MARKED.split(),
)
def test_all_else_is_marked(name: str) -> None:
    assert of(name)
    assert of("a.py", change="renamed", renamed_from=name.encode())


@pytest.mark.parametrize(
    "other",
    [
        {"plain": False},
        {"size": 1_000_001},
        {"executable": True},
        {"repository": True},
        {"nested": True},
        {"askable": False},
        {"notes": ["for a reason"]},
        {"kind": "link", "target": b"b.py"},
        {"kind": "folder"},
        {"kind": "other"},
        {"change": "mode", "base": BASE},
        {"change": "folded", "kind": "folder"},
        {"change": "unread"},
        {"change": "dropped"},
        *({"change": "changed", "base": Base(kind="file", mode=mode, sha256="1" * 64, device=1, inode=1, changed_ns=1)}
          for mode in (0o744, 0o654, 0o645)),
        *({"change": "changed", "base": Base(kind=kind, mode=0o644, sha256="", device=1, inode=1, changed_ns=1)}
          for kind in ("file", "link", "folder", "other")),
        {"change": "changed", "base": Base(kind="file", mode=0o644, size=2_000_000, sha256="1", device=1, inode=1,
                                          changed_ns=1)},
    ],
)  # fmt: skip
def test_whatever_is_no_plain_text_in_a_plain_place_is_marked(other: dict[str, Any]) -> None:
    assert of(**other) and not of()


@pytest.mark.parametrize(
    "name", [b"a\xff.py", b"a\nb.py", b"a\x1b[31m.py", "a\u202eyp.py".encode(), "a\u200bb.py".encode()]
)
def test_a_name_that_shows_as_another_is_marked(name: bytes) -> None:
    assert of(name)


def test_what_is_ignored_or_cannot_be_asked_is_marked() -> None:
    assert marks(GOOD, Tracked(frozenset([b"src/app.py"])))
    assert marks(GOOD, Tracked(problem="could not ask"))
    assert marks(dataclasses.replace(GOOD, change="renamed", renamed_from=b"old.py"), Tracked(frozenset([b"old.py"])))
    assert not marks(GOOD, Tracked(frozenset([b"other.py"])))


@pytest.mark.parametrize(
    "content",
    [
        *(b"\0", b"\xff", b"\x1b[2J", b"a\rb", "é\rb".encode(), b"\x7f", b"\x0c"),
        *"\u202e \u2066 \u200b \u2028 \x85 \u00ad \U000e0041 \ufeff".encode().split(b" "),
        *"\u3164 \ue000 \U000e0100 \u061c".encode().split(b" "),
    ],
)
def test_what_a_screen_hides_or_obeys_is_no_plain_text(content: bytes) -> None:
    assert not is_plain(b"text " + content + b" more")


@pytest.mark.parametrize("content", ["", "a\tb\r\nc\n", "Grüße, 世界, مرحبا, 🙂\n", "\u00a0"])
def test_what_is_shown_is_plain_text(content: str) -> None:
    assert is_plain(content.encode())


@given(st.text())
def test_ascii_is_judged_like_all_text(text: str) -> None:
    assert is_plain(text.encode("utf-8", "surrogatepass")) == (
        is_plain((text + "é").encode("utf-8", "surrogatepass")) if not text.endswith("\r") else False
    )


def resolve(path: str, target: str, **links_at: str) -> bool:
    tree = {name.replace("__", "/").encode(): where.encode() for name, where in links_at.items()}
    return links.leads_out(path.encode(), target.encode(), tree.get)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("a", "/etc/passwd"),
        ("a", ".."),
        ("a", "../x"),
        ("d/a", "../../x"),
        ("d/a", "b/../../../x"),
        ("a", "x/../../project/y"),
        ("a", "./.././x"),
        ("a", "//"),
    ],
)
def test_a_link_out_of_the_folder(path: str, target: str) -> None:
    assert resolve(path, target)


@pytest.mark.parametrize(
    ("path", "target"), [("a", "b"), ("d/a", "../b"), ("d/a", "x/../../b"), ("a", "."), ("a", "b/")]
)
def test_a_link_inside(path: str, target: str) -> None:
    assert not resolve(path, target)


def test_links_are_followed_as_they_will_be() -> None:
    assert resolve("a", "b/x", b="..") and resolve("a", "b/x", b="/")
    assert not resolve("a", "b/x", b="c", c="d")
    assert resolve("a", "b/../../x", b="d") and not resolve("a", "b/../../x", b="d/e/f")
    assert resolve("a", "a", a="a") and resolve("a", "b", b="c", c="b")


@given(st.lists(st.sampled_from(["..", ".", "x", "y", "l", ""]), max_size=8), st.integers(0, 3))
@example(["..", "l", ".."], 1)
def test_a_target_is_resolved_as_the_kernel_does(steps: list[str], depth: int) -> None:
    """Without other links it is the lexical way."""
    target = "/".join(steps) or "."
    path = "/".join(["d"] * depth + ["a"])
    at, out = depth, target.startswith("/")
    for step in target.split("/"):
        at += {"..": -1, ".": 0, "": 0}.get(step, 1)
        out = out or at < 0
    assert resolve(path, target) == out


def repository(root: Path, **files: str) -> None:
    subprocess.run(["git", "init", "-q", root], check=True)
    for name, content in files.items():
        (root / name.replace("__", "/")).parent.mkdir(parents=True, exist_ok=True)
        (root / name.replace("__", "/")).write_text(content)


def test_what_version_control_ignores(world: World) -> None:
    repository(world.root)
    (world.root / ".gitignore").write_text("*.tmp.py\ngenerated/\ndist/\n!kept.tmp.py\n")
    (world.root / "tracked.tmp.py").write_text("1\n")
    subprocess.run(["git", "-C", world.root, "add", "-f", "tracked.tmp.py"], check=True)
    world.start()
    world.run(
        "echo 1 > a.py; echo 2 > b.tmp.py; mkdir -p generated dist web/build; echo 3 > generated/c.py; "
        "echo 4 > dist/d.js; touch '[a].py' '?.tmp.py'; echo 5 > web/build/e.py; "
        "echo 6 > tracked.tmp.py; echo 7 > kept.tmp.py; echo 8 > ':(glob)x.py'; "
        "echo > .gitignore"
    )
    found = world.entries()
    assert {path: bool(entry.marks) for path, entry in found.items()} == {
        "a.py": False,
        "b.tmp.py": True,
        "generated/c.py": True,
        "dist": True,
        "web/build/e.py": False,
        "tracked.tmp.py": False,
        "kept.tmp.py": False,
        ":(glob)x.py": False,
        "[a].py": True,
        "?.tmp.py": True,
        ".gitignore": True,
    }
    assert found["dist"].change == "folded"


def test_a_repository_that_cannot_be_asked_marks_all(world: World) -> None:
    (world.root / ".git").mkdir()
    world.start()
    world.run("echo 1 > a.py")
    assert any("could not ask git" in mark for mark in world.entries()["a.py"].marks)


@pytest.mark.parametrize("name", [".hg", ".jj", ".svn"])
def test_another_version_control_marks_all(world: World, name: str) -> None:
    (world.folder / name).mkdir()
    world.start()
    world.run("echo 1 > a.py")
    assert world.entries()["a.py"].marks


def test_the_persons_git_runs_no_program_of_the_repository(world: World) -> None:
    repository(world.root)
    ran = world.folder / "ran"
    script = world.folder / "evil"
    script.write_text(f"#!/bin/sh\ntouch {ran}\n")
    script.chmod(0o755)
    for key in ("core.fsmonitor", "core.pager", "filter.x.clean", "core.sshCommand"):
        subprocess.run(["git", "-C", world.root, "config", key, script], check=True)
    world.start()
    world.run("echo 1 > a.py")
    assert not world.entries()["a.py"].marks and not ran.exists()


def test_a_repository_inside_marks_what_is_in_it(world: World) -> None:
    repository(world.root)
    (world.root / "sub").mkdir()
    repository(world.root / "sub", x__a_py="1\n")
    world.start()
    world.run("echo 2 > sub/b.py; echo 3 > sub/x/c.py; echo 4 > d.py")
    found = world.entries()
    assert found["sub/b.py"].marks and found["sub/x/c.py"].marks and not found["d.py"].marks


def test_what_makes_a_repository_of_its_folder(world: World) -> None:
    (world.root / "assets/objects").mkdir(parents=True)
    (world.root / "assets/refs").mkdir()
    (world.root / "assets/refs/.keep").write_text("")
    (world.root / "assets/objects/.keep").write_text("")
    world.start()
    world.run("echo 'ref: x' > assets/HEAD; echo 1 > assets/notes.md; mkdir assets/in; echo 1 > assets/in/x.md")
    assert all(entry.marks for entry in world.entries().values())
    world.run("mv assets/HEAD assets/head.txt")
    assert not world.entries()["assets/notes.md"].marks


def test_links_of_a_run(world: World) -> None:
    (world.root / "src").mkdir()
    (world.root / "up").symlink_to("..")
    (world.root / "here").symlink_to("src")
    world.start()
    world.run(
        "ln -s src/x inside; ln -s ../x outside; ln -s /etc/passwd absolute; ln -s up/x by_one; ln -s here/x by_other; "
        "ln -s new/x by_new; ln -s .. new; rm here; ln -s / here"
    )
    found = world.entries()
    assert all(entry.marks for entry in found.values())
    assert {path for path, entry in found.items() if not entry.never} == {"inside"}


def test_an_executable_and_what_replaces_one(world: World) -> None:
    for name in ("a.py", "b.py"):
        (world.root / name).write_text("1\n")
        (world.root / name).chmod(0o755)
    world.start()
    world.run("echo 2 > a.py; rm b.py; echo 3 > c.py; chmod +x c.py")
    assert all(entry.marks for entry in world.entries().values())


def test_a_binary_that_becomes_text_is_marked(world: World) -> None:
    (world.root / "a.py").write_bytes(b"\0\1")
    (world.root / "b.py").write_bytes(b"\0\1")
    world.start()
    world.run("echo 1 > a.py; rm b.py; printf '\\033[2J' > c.py")
    assert all(entry.marks for entry in world.entries().values())


def test_home_may_not_be_in_the_environment(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    repository(world.root)
    monkeypatch.delenv("HOME", raising=False)
    world.start()
    world.run("echo 1 > a.py")
    assert not world.entries()["a.py"].marks and "HOME" not in os.environ
