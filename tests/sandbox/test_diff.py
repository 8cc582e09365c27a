"""The returned diff: it says what changed, applies with `patch`, and survives whatever a run leaves behind."""

from __future__ import annotations

import difflib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import frames
from sandbox.confinement import Root
from sandbox.run import snapshot
from sandbox.run.diff import unified_diff
from sandbox.run.snapshot import Change, Snapshot
from tests.sandbox.node import dp_agent, start
from tests.sandbox.test_agent import bash, write

LINES = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "\n", "x y\n", "é\r\n", "\f\n"]), max_size=40)


def diff(before: str | bytes | None, after: str | bytes | None, name: str = "project/f", **more: Any) -> str:
    old, new = (text.encode() if isinstance(text, str) else text for text in (before, after))
    return unified_diff([Change(name, old, new, shown=True)], whole=lambda: True, **more)


@given(LINES, LINES, st.booleans(), st.booleans())
def test_patch_makes_the_one_out_of_the_other(
    tmp_path_factory: pytest.TempPathFactory, old: list[str], new: list[str], cut_old: bool, cut_new: bool
) -> None:
    before, after = "".join(old) + "end" * cut_old, "".join(new) + "end" * cut_new
    folder = tmp_path_factory.mktemp("patch")
    (folder / "f").write_bytes(before.encode())
    if before == after:
        return
    command = ["patch", "-p2", "--binary", "-s"]
    done = subprocess.run(command, input=diff(before, after).encode(), cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout
    assert (folder / "f").read_bytes() == after.encode()


def test_it_reads_as_diffs_do() -> None:
    before = "".join(f"{n}\n" for n in range(1, 31))
    after = before.replace("5\n", "five\n", 1).replace("25\n", "").replace("30\n", "30")
    assert diff(before, after).splitlines() == [
        *("--- a/project/f", "+++ b/project/f", "@@ -2,7 +2,7 @@"),
        *(" 2", " 3", " 4", "-5", "+five", " 6", " 7", " 8"),
        "@@ -22,9 +22,8 @@",
        *(" 22", " 23", " 24", "-25", " 26", " 27", " 28", " 29", "-30", "+30", "\\ No newline at end of file"),
    ]
    assert diff(None, "x\n") == "--- /dev/null\n+++ b/project/f\n@@ -0,0 +1 @@\n+x\n"
    assert diff("x\n", None) == "--- a/project/f\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"
    assert unified_diff([], whole=lambda: True) == ""


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("project/a b", '"b/project/a b"'),
        ("project/é", "b/project/é"),
        ("project/a\n+++ b/x", '"b/project/a\\012+++ b/x"'),
        ("project/\udcff", '"b/project/\\377"'),
        ("project/\x1b[2J", '"b/project/\\033[2J"'),
        ("project/\u202egpj", '"b/project/\\342\\200\\256gpj"'),
        ('project/"\\', '"b/project/\\"\\\\"'),
    ],
)
def test_a_hostile_name_stays_on_its_line_and_is_quoted(name: str, quoted: str) -> None:
    assert diff("a\n", "b\n", name).splitlines()[1] == f"+++ {quoted}"
    (line,) = [row for row in diff(b"\0", b"\1", name).splitlines() if "(" in row]
    assert line == f"#   {quoted.replace('b/project', 'project', 1)} (changed; not text)"


def test_what_is_not_shown_is_named() -> None:
    many = [
        Change("project/logo.png", None, b"\x89PNG\0", shown=True),
        Change("project/huge", b"", b"", shown=False),
        Change("project/latin", b"\xe9\n", None, shown=True),
        Change("project/empty", None, b"", shown=True),
        Change("project/big", b"", b"line\n" * 1000, shown=True),
        Change("project/small", b"a\n", b"b\n", shown=True),
    ]
    text = unified_diff(many, whole=lambda: False, limit=1000)
    assert text.splitlines()[:7] == [
        "# Changed, and not shown here:",
        "#   project/logo.png (new; not text)",
        "#   project/huge (changed; too large, or no plain file)",
        "#   project/latin (removed; not text)",
        "#   project/empty (new; empty)",
        "#   project/big (changed; no more room)",
        "# Not everything was looked at: there was too much, or it could not be opened.",
    ]
    assert "+b\n" in text


@pytest.mark.parametrize(
    "make",
    [
        lambda n: ("a\n" * n, "b\n" * n),
        lambda n: ("a\n" * n, "a\n" * (n // 2) + "b\n" + "a\n" * (n // 2)),
        lambda n: ("".join(f"{i}\n" for i in range(n)), "".join(f"{i}\n" for i in reversed(range(n)))),
        lambda n: ("a\nb\n" * n, "b\nb\na\n" * n),
        lambda n: ("\n" * n * 4, "\n" * n * 2),
    ],
)
@pytest.mark.parametrize("size", [1_500, 200_000])
def test_no_content_takes_long(
    make: Callable[[int], tuple[str, str]], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in what two texts are matched by: the product of their lines bounds what difflib does."""
    matched: list[int] = []

    class Counting(difflib.SequenceMatcher[str]):
        def __init__(self, junk: None, old: list[str], new: list[str]) -> None:
            matched.append(len(old) * len(new))
            super().__init__(junk, old, new)

    monkeypatch.setattr(difflib, "SequenceMatcher", Counting)
    before, after = make(size)
    diff(before[:1_000_000], after[:1_000_000], limit=10_000_000)
    assert sum(matched) <= 4_000_000


# What a folder held


def taken(folder: Path, act: Callable[[Path], object], tmp_path: Path) -> dict[str, Change]:
    before = Snapshot.take([Root(folder, writable=True, at=Path("/project"))], tmp_path / "kept")
    act(folder)
    found = list(before.changes())
    assert [change.name for change in found] == sorted(change.name for change in found)
    return {change.name: change for change in found}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "shop"
    for name in ("a.txt", "sub/b.txt", ".git/config", "node_modules/x/y.js"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(f"{name}\n")
    return made


def test_written_new_removed_renamed_and_untouched(folder: Path, tmp_path: Path) -> None:
    def act(shop: Path) -> None:
        (shop / "a.txt").write_text("new\n")
        (shop / "sub/b.txt").rename(shop / "sub/c.txt")
        (shop / "d.txt").write_text("d\n")
        (shop / ".git/config").write_text("changed\n")
        (shop / "node_modules/x/y.js").write_text("changed\n")
        (shop / ".mcp.json").write_text("{}")

    found = taken(folder, act, tmp_path)
    assert {name: (change.before, change.after) for name, change in found.items()} == {
        "project/a.txt": (b"a.txt\n", b"new\n"),
        "project/d.txt": (None, b"d\n"),
        "project/sub/b.txt": (b"sub/b.txt\n", None),
        "project/sub/c.txt": (None, b"sub/b.txt\n"),
    }


def test_a_change_that_hides_its_traces_is_seen(folder: Path, tmp_path: Path) -> None:
    def act(shop: Path) -> None:
        about = (shop / "a.txt").stat()
        (shop / "a.txt").write_text("A.TXT\n")
        os.utime(shop / "a.txt", ns=(about.st_atime_ns, about.st_mtime_ns))
        (shop / "sub/b.txt").write_text((shop / "sub/b.txt").read_text())
        (shop / "sub/b.txt").chmod(0o600)

    assert set(taken(folder, act, tmp_path)) == {"project/a.txt"}


def test_links_pipes_and_folders_in_the_place_of_files_are_not_opened(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "b.txt").write_text("secret\n")

    def act(shop: Path) -> None:
        (shop / "a.txt").unlink()
        (shop / "a.txt").symlink_to(secret / "b.txt")
        os.mkfifo(shop / "pipe")
        (shop / "sub").rename(shop / "gone")
        (shop / "sub").symlink_to(secret)

    found = taken(folder, act, tmp_path)
    assert not any(b"secret" in (change.after or b"") for change in found.values())
    assert {name: change.shown for name, change in found.items()} == {
        "project/a.txt": False,
        "project/gone/b.txt": True,
        "project/pipe": False,
        "project/sub": False,
        "project/sub/b.txt": True,
    }
    assert found["project/sub/b.txt"].after is None


def test_what_is_too_large_is_named_and_what_is_too_much_is_said(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "MAX_FILE", 100)
    monkeypatch.setattr(snapshot, "MAX_KEPT", 250)
    (folder / "large").write_bytes(bytes(101))

    def act(shop: Path) -> None:
        (shop / "large").write_text("small now\n")
        for number in range(4):
            (shop / f"n{number}").write_text(f"{number}" * 90)

    found = taken(folder, act, tmp_path)
    assert [change.shown for change in found.values()] == [False, True, True, False, False]
    monkeypatch.setattr(snapshot, "MAX_ENTRIES", 6)
    before = Snapshot.take([Root(folder, writable=True, at=Path("/project"))], tmp_path / "again")
    assert not before.whole
    assert not any(change.after is None for change in before.changes())


# Through dp-agent


async def test_a_run_returns_the_diff_of_what_it_changed(tmp_path: Path) -> None:
    begin = start(
        tmp_path,
        {"tool": "Edit", "input": {"file_path": "a.py", "old_string": "= 1", "new_string": "= 2"}},
        bash("rm b.py; printf 'new\\n' > c.py; printf '\\0' > d.bin; ln -s /etc/passwd e; mkdir -p .vscode"),
        write("/dispatch/out/changes.diff", "my own"),
        approval="auto",
    )
    (tmp_path / "shop/a.py").write_text("price = 1\n")
    (tmp_path / "shop/b.py").write_text("old\n")
    async with dp_agent() as node:
        finished = await node.run(begin)
    assert finished.status == "completed"
    assert [file.name for file in finished.files] == ["changes-2.diff"]
    assert isinstance(finished.changes, frames.ReturnedFile) and finished.changes.name == "changes.diff"
    text = Path(finished.changes.path).read_text()
    assert str(tmp_path) not in text and "shop" not in text
    assert text.splitlines() == [
        "# Changed, and not shown here:",
        "#   project/d.bin (new; not text)",
        "#   project/e (new; too large, or no plain file)",
        *("--- a/project/a.py", "+++ b/project/a.py", "@@ -1 +1 @@", "-price = 1", "+price = 2"),
        *("--- a/project/b.py", "+++ /dev/null", "@@ -1 +0,0 @@", "-old"),
        *("--- /dev/null", "+++ b/project/c.py", "@@ -0,0 +1 @@", "+new"),
    ]


@pytest.mark.parametrize(
    "change",
    [{"tools": ["Read"]}, {"cwd": None, "tools": ["Write"]}, {"budget": frames.Budget(output_bytes=10)}],
    ids=["it may not write", "there is no folder", "no budget"],
)
async def test_a_run_that_changed_nothing_or_may_not_return_so_much_returns_none(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    async with dp_agent() as node:
        finished = await node.run(start(tmp_path, write("a.py", "x = 1\n"), approval="auto", **change))
    assert (finished.changes, finished.status) == (None, "completed")
