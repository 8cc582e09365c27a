"""What a person is shown before a Write or an Edit is what the real claude program then writes, byte for byte."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any

import pytest

from sandbox import frames
from sandbox.gate import preview
from sandbox.gate.written import NotComputedError, written
from sandbox.policy.decision import Scope
from tests.growth import grows_as_the_text
from tests.sandbox.node import Node, changed, dp_agent
from tests.sandbox.test_runtime_claude import claude, says, tool

FILES = {
    "crlf": b"one\r\ntwo\r\nthree\r\n",
    "mixed": b"one\r\ntwo\nthree\r\n",
    "more-lf": b"one\ntwo\nthree\r\n",
    "as-many": b"one\r\ntwo\nthree",
    "late": b"a\n" * 3_000 + b"x\r\n" * 9_000,
    "wide": "\U0001f600\r\n".encode() * 700 + b"b\n" * 2_000,
    "cr": b"one\rtwo\rthree\r",
    "cr-crlf": b"a\r\r\nb\r\n",
    "bom": b"\xef\xbb\xbfone\r\ntwo\r\n",
    "utf-16": b"\xff\xfe" + "one\r\ntwo ü\r\n".encode("utf-16-le"),
    "utf-16be": b"\xfe\xff" + "one\n".encode("utf-16-be"),
    "utf-16-unmarked": "one\n".encode("utf-16-le"),
    "latin-1": "ü one\n".encode("latin-1"),
    "nul": b"one\0two\n",
    "double": "say “one”\n".encode(),
    "single": "‘one’ it’s\n".encode(),
    "both": "(“one”) ‘x’\n".encode(),
    "straight": b'say "hello" and don\'t\n',
    "escaped": b"a \\u00e9 b\n",
    "form-feed": b"one\x0ctwo\n",
    "twice": b"one one\n",
    "unended": b"one\ntwo",
    "empty": b"",
    "gone": b"one\ntwo\nthree\n",
}
EDITS: list[tuple[str, str, str, bool]] = [
    ("crlf", "two", "TWO", False), ("crlf", "one\nTWO", "x\ny", False), ("crlf", "y", "p\r\nq\nr", False),
    ("crlf", "x\n", "", False), ("mixed", "two", "TWO", False), ("more-lf", "two", "TWO", False),
    ("as-many", "three", "3", False), ("late", "a\na\na\n", "Q\n", True), ("wide", "b\nb\n", "c\n", True),
    ("cr", "two", "TWO", False), ("cr-crlf", "b", "c", False), ("bom", "one\n", "ONE\n", False),
    ("utf-16", "two ü", "2", False),
    ("utf-16be", "one", "1", False), ("utf-16-unmarked", "one", "1", False), ("latin-1", "one", "1", False),
    ("nul", "two", "2", False),
    ("double", 'say "one"', 'say "a" ("b")\u2014"c"\n"d" x"e" 5" [\u00a0"f"]\t"g" <"h"> /"i" \u2013"j" it\'s', False),
    ("single", "'one' it's", "'two' isn't 'x' '90s (\"a\") rock 'n' roll", False),
    ("both", "(\"one\") 'x'", "\"a\" 'b' ['c'] {\"d\"} don't =\"e\" -'f'", False),
    ("straight", "say “hello” and don’t", "x “y” \"z\"", False), ("escaped", "a \u00e9 b", "X \u00e9", False),
    ("form-feed", "one\x0ctwo", "one\ntwo", False), ("twice", "one", "X", True), ("twice", "X X\n", "a$1b$&c", False),
    ("unended", "one\n", "", False), ("empty", "", "new\r\ntext\n", False), ("new", "", "fresh\r\ntext", False),
    ("gone", "two", "", False), ("gone", "thr", "", False), ("unended", "two", "2  \n3  ", False),
]  # fmt: skip
WRITES = [
    ("crlf", "a\nb\n"), ("bom", "a\r\nb\n"), ("utf-16", "a\nb ü\n"), ("utf-16be", "a\n"), ("latin-1", "ü\n"),
    ("nul", "a"),
    ("cr", "a\rb\n"), ("new-2", "\ufeffa\r\n"), ("bom", "\ufeffa\n"), ("empty", ""), ("new-3", ""), ("mixed", "q  \nr"),
]  # fmt: skip


@pytest.mark.long
async def test_the_preview_has_the_bytes_that_the_program_writes(tmp_path: Path) -> None:
    """The rules of `sandbox.gate.written`, recorded from the pinned program again."""
    computed: list[tuple[frames.Call, Path, bytes | str]] = []
    after: list[bytes | None] = []

    def now(path: Path) -> bytes | None:
        """As the run sees it: from its view, while it has not written it from the original."""
        path = written_at if (written_at := changed(tmp_path) / path.name).exists() else path
        return path.read_bytes() if path.exists() else None

    async def respond(node: Node, call: frames.Call) -> None:
        if computed:
            after.append(now(computed[-1][1]))
        if call.tool != "Read":
            path = Path(str(call.resolved_path))
            try:
                made: bytes | str = written(call.tool, call.input, now(path))
            except NotComputedError as reason:
                made = str(reason)
                assert call.diff == f"(the change cannot be shown: {made})"
            computed.append((call, path, made))
        await node.answer(call, True)

    (tmp_path / "shop").mkdir()
    for name, content in FILES.items():
        (tmp_path / "shop" / name).write_bytes(content)
    calls: list[dict[str, Any]] = [
        *(
            tool("Edit", file_path=name, old_string=old, new_string=new, replace_all=everywhere)
            for name, old, new, everywhere in EDITS
        ),
        *(tool("Write", file_path=name, content=content) for name, content in WRITES),
    ]
    model = says(
        {"tools": [tool("Read", file_path=name) for name in FILES]},
        *({"tools": [call]} for call in calls),
        {"text": "done"},
    )
    async with model.running(), dp_agent(respond) as node:
        finished = await node.run(claude(tmp_path, model, budget=frames.Budget(turns=200, usd=100)))
    assert finished.status == "completed", finished.reason
    after.append(now(computed[-1][1]))
    done = {event.call_id: event.ok for event in node.events(frames.ToolResult)}
    guessed = 0
    for (call, path, made), written_now in zip(computed, after, strict=True):
        if isinstance(made, bytes):
            assert done[call.call_id] and written_now == made, (path.name, call.input)
        elif done[call.call_id]:
            guessed += 1
            assert path.name == "escaped", "the preview says that it does not know what this one writes"
    assert guessed == 1
    assert len(computed) > len(calls) - 10, "the program refuses few of these before it asks"


def _open(path: str) -> int:
    return os.open(path, os.O_RDONLY)


def edit(path: Path, old: str, new: str, content: bytes) -> str:
    path.write_bytes(content)
    shown = preview.diff("Edit", {"old_string": old, "new_string": new}, str(path), _open)
    assert shown is not None
    return shown


def write(path: Path, new: str, content: bytes | None) -> str:
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)
    shown = preview.diff("Write", {"content": new}, str(path), _open)
    assert shown is not None
    return shown


def test_what_is_shown_of_other_line_ends_encodings_and_quotes(tmp_path: Path) -> None:
    at = tmp_path / "a"
    assert edit(at, "one\ntwo", "1\n2", b"one\r\ntwo\r\n").endswith("@@ -1,2 +1,2 @@\n-one\n-two\n+1\n+2")
    assert "-two ü\n+2" in edit(at, "two ü", "2", FILES["utf-16"])
    assert "-say “one”\n+say “1”" in edit(at, '"one"', '"1"', FILES["double"])
    shown = edit(at, "one\x0ctwo", "one\ntwo", FILES["form-feed"])
    assert "-one\x0ctwo\n+one\n+two" in shown
    assert "(line endings change: CR LF and LF → CR LF)\n" in edit(at, "one", "1", FILES["mixed"])
    shown = write(at, "one\r\ntwo\r\n", b"one\ntwo\n")
    assert shown.startswith("(line endings change: LF → CR LF)\n") and "-one\n-two\n+one\r\n+two\r" in shown
    assert "(the encoding changes: UTF-8 → UTF-8 with a byte-order mark)" in write(at, "\ufeffa\n", b"a\n")
    assert write(at, "", None) == "(a new file, empty)"
    assert write(at, "a\n", b"a\n") == "(no change)"
    assert "\\ No newline at end of file" in write(at, "a", b"a\n")


@pytest.mark.parametrize("name", ["utf-16be", "utf-16-unmarked", "latin-1", "nul"])
def test_what_the_program_does_not_write_is_said(tmp_path: Path, name: str) -> None:
    for shown in (write(tmp_path / "a", "x", FILES[name]), edit(tmp_path / "a", "one", "x", FILES[name])):
        assert shown.startswith("(the change cannot be shown: the file is not UTF-8 text")


def test_sixty_thousand_lines_cost_no_more_than_their_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in lines compared, not in seconds."""
    compared: list[int] = []
    matcher = difflib.SequenceMatcher

    def counting(junk: None, old: list[str], new: list[str]) -> difflib.SequenceMatcher[str]:
        compared.append(len(old) * len(new))
        return matcher(junk, old, new)

    monkeypatch.setattr(difflib, "SequenceMatcher", counting)
    before = "".join(f"{number % 97}\n" for number in range(60_000))
    after = "".join(f"{number % 89}\n" for number in range(60_000))
    shown = write(tmp_path / "a", after, before.encode())
    assert shown.count("\n") > 60_000 and sum(compared) <= 4_000_000
    shown = write(tmp_path / "a", before.replace("\n50\n", "\n51\n", 1), before.encode())
    assert "-50\n+51\n" in shown and sum(compared) <= 4_000_100
    assert "is larger than" in write(tmp_path / "a", "x", b"x\n" * 200_000)
    assert "bytes are written" in write(tmp_path / "a", "x\n" * 200_000, b"x\n")


@pytest.mark.parametrize("fragment", ["x", "git ", " ", "://", "/a ", "../", "~", "-delet"])
def test_the_work_grows_as_the_command_does(fragment: str) -> None:
    """What is unusual is looked for while nothing else of the run is heard. Seen to fail with an address that was
    looked for from its first letter.
    """
    scope = Scope(frozenset({"Bash"}), ("/project", "/w"), "/w", "/project", "/project", "/w")

    def look(command: str) -> None:
        preview.unusual(scope, "Bash", {"command": command}, None, resolve=lambda path: path)

    assert grows_as_the_text(look, fragment, 20_000)
