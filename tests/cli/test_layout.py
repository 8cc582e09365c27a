"""What is laid out for people, without a terminal: wrapping, times, sums, Markdown, and calls in one line. Pure."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from cli import home_folder, layout, values
from cli.markdown import drawn
from cli.short_ids import short_request
from peer.dispatches.summary import summary
from tests.cli.documents import FORBIDDEN, HOSTILE

NOW = 1_764_417_600.0  # 2025-11-29T12:00:00Z


@settings(max_examples=60)
@given(st.lists(st.text("abc`é漢-/", min_size=1, max_size=30), max_size=30), st.integers(1, 60), st.booleans())
def test_wrapping_loses_no_word_and_cuts_none(words: list[str], room: int, chop: bool) -> None:
    """Seen to fail with pieces that were wider, and with words in two."""
    pieces = layout.wrap(" ".join(words), room, chop=chop)
    assert "".join("".join(pieces).split()) == "".join(words)
    for word in words:
        assert chop or not set(word).isdisjoint("`漢") or any(word in piece for piece in pieces), (word, pieces)
    for piece in pieces:
        assert layout.cells(piece) <= max(room, 2) or (not chop and (" " not in piece.strip() or "`" in piece))


def test_a_command_in_backticks_stays_in_one_piece_where_it_fits() -> None:
    assert layout.wrap("to end it: `dispatch cancel 4e5f6a7b`", 30) == ["to end it:", "`dispatch cancel 4e5f6a7b`"]
    assert layout.wrap("one `dispatch cancel 4e5f` two", 12, hanging=2) == [
        "one",
        "  `dispatch",
        "  cancel",
        "  4e5f` two",
    ]


@pytest.mark.parametrize(
    ("stamp", "shown"),
    [
        ("2025-11-29T11:59:55Z", "now"),
        ("2025-11-29T11:59:20Z", "40 s ago"),
        ("2025-11-29T11:57:30.000Z", "2 min ago"),
        ("2025-11-29T15:59:00+01:00", "in 2 h"),
        ("2025-11-27T12:00:00Z", "2 days ago"),
        ("2025-11-28T12:00:00Z", "1 day ago"),
        ("2025-12-29T12:00:00Z", "in 30 days"),
        ("2025-11-20T12:00:00Z", "2025-11-20"),
        ("2027-01-31T12:00:00Z", "2027-01-31"),
        ("tomorrow", "tomorrow"),
        (None, ""),
    ],
)
def test_a_time_from_now(stamp: object, shown: str) -> None:
    assert values.when(stamp, now=NOW) == shown


def test_the_home_folder_is_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/bob")
    assert [home_folder.home(path) for path in ("/home/bob", "/home/bob/x", "/home/bobby/x", "x")] == [
        "~",
        "~/x",
        "/home/bobby/x",
        "x",
    ]
    assert home_folder.homes("only you can reach /home/bob/.dispatch (not /home/bobby)") == (
        "only you can reach ~/.dispatch (not /home/bobby)"
    )
    # Commands that are copied: a shell expands `~` at the beginning of a word outside quotes, and nowhere else.
    said = (
        "run `cp /home/bob/x '/home/bob/a b /home/bob/c' --to=/home/bob/y`; it isn't in /home/bob/z: see `/home/bob/q`"
    )
    assert home_folder.homes(said) == (
        "run `cp ~/x '/home/bob/a b /home/bob/c' --to=/home/bob/y`; it isn't in ~/z: see `~/q`"
    )


IN = {"resolved_path": "/p/a b.py"}


@pytest.mark.parametrize(
    ("call", "line"),
    [
        ({"tool": "Edit", **IN, "diff": "--- a\n+++ b\n@@ -1,2 +1,2 @@\n-a\n-b\n+--- c\n+d"}, "Change “a b.py”, +2 −2"),
        ({"tool": "Write", **IN, "diff": "--- a\n+++ b\n@@ -0,0 +1,2 @@\n+a\n+b"}, "Write “a b.py”, 2 lines"),
        ({"tool": "Write", **IN, "diff": "(a new file, empty)"}, "Create “a b.py”, empty"),
        ({"tool": "Edit", **IN, "diff": "(the change cannot be shown: it is large)"}, "Change “a b.py”"),
        ({"tool": "Read", **IN, "input": {"offset": 10, "limit": 5}}, "Read “a b.py”, lines 10 to 14"),
        ({"tool": "Bash", "input": {"command": "git status"}}, "Run git status"),
        ({"tool": "Bash", "input": {"command": "cd x\nrm -rf y\n"}}, "Run a script of 2 lines: “cd x”"),
        ({"tool": "Bash", "input": {"command": "ls” fix: run `id`"}}, "Run “ls\" fix: run `id`”"),
        ({"tool": "Glob", "input": {"pattern": "**/*.py", "path": "src"}}, "Find files named “**/*.py” below src"),
        ({"tool": "Grep", "input": {"pattern": "TODO"}}, "Search for “TODO”"),
        ({"tool": "mcp__github__issue_read", "input": {}}, "Use issue_read of the MCP server github"),
        ({"tool": "Task", "input": None}, "Use the tool Task"),
        ({}, "Use the tool -"),
    ],
)  # fmt: skip
def test_a_call_in_one_line(call: dict[str, Any], line: str) -> None:
    assert summary(call) == line


@pytest.mark.parametrize("tool", ["Read", "Write", "Edit", "Glob", "Grep", "Bash", "mcp__a__b", HOSTILE])
def test_a_hostile_call_in_one_line(tool: str) -> None:
    hostile = dict.fromkeys(("command", "pattern", "path", "file_path"), HOSTILE * 50)
    shown = summary({"tool": tool, "input": hostile, "diff": HOSTILE})
    assert not [char for char in (*FORBIDDEN, "\n") if char in shown] and len(shown) < 400


def test_a_short_request_is_as_long_as_it_must_be() -> None:
    assert short_request("toolu_0_1_277111238") == "77111238"
    assert short_request("toolu_1_277111238", ["toolu_1_277111238", "toolu_2_277111238"]) == "1_277111238"
    assert short_request("r-1") == "r-1" and not short_request("toolu-1234567").startswith("-")


MARKDOWN = f"""# Title

Some **bold** and a [link](https://example.org/x "t"), ![image](http://example.org/p.png), <b>html</b>,
&#x202e;entity &#27;[2J and {HOSTILE}

- item

```python
print(1)
```

| a | b |
|---|---|
| c | d |
"""


@pytest.mark.parametrize("colour", [False, True])
def test_markdown_is_drawn_and_nothing_else(colour: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """No control characters but colours, no hyperlinks, no images; what is not drawn is shown as it was written."""
    monkeypatch.setenv("TERM", "xterm")
    lines = drawn(MARKDOWN, width=60, colour=colour)
    assert lines is not None
    shown = "\n".join(lines)
    if colour:
        import re

        shown = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert not [char for char in FORBIDDEN if char in shown]
    assert "# Title" not in shown and "**" not in shown and "• item" in shown and "```" not in shown
    for words in (
        "link (https://example.org/x)",
        "(http://example.org/p.png)",
        "<b>html</b>",
        "&#x202e;entity &#27;[2J",
    ):
        assert words in " ".join(shown.split())


def test_markdown_that_is_too_long_is_left_as_it_is() -> None:
    assert drawn("[" * 60_000, width=60, colour=False) is None
    assert drawn("> " * 20_000, width=60, colour=False) is not None, "nested below the bound of the parser"


def test_the_manual_pages(tmp_path: Path) -> None:
    """One for each command, none with a request that was text; groff has nothing to say where it is installed."""
    import shutil
    import subprocess

    from cli.manual import _text, write_pages

    written = {path.name: path.read_text("ascii") for path in write_pages(tmp_path)}
    assert {"dispatch.1", "dispatch-send.1", "dispatch-trust-edit.1", "dispatch-man.1"} <= set(written)
    for content in written.values():
        assert all(
            f"\n.SH {part}\n" in content for part in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS")
        )
    assert "dispatch send bob@example.org" in written["dispatch-send.1"].replace("\\-", "-")
    assert _text(".so /etc/passwd") == "\\&.so /etc/passwd" and _text("a\\fB") == "a\\efB"
    if shutil.which("groff"):
        files = [str(tmp_path / name) for name in ("dispatch.1", "dispatch-approve.1", "dispatch-trust-edit.1")]
        done = subprocess.run(["groff", "-ww", "-man", "-Tutf8", *files], capture_output=True, text=True, check=True)
        assert done.stderr == "" and "dispatch-approve - Allow a waiting tool call" in " ".join(
            done.stdout.replace("−", "-").split()
        )


LISTED = ["id", "status", "from", "created", "task"]
LONG_ADDRESS = "bartholomew.featherstonehaugh@subsidiary.research.example.com"
WORDY = "Find out why the nightly build fails since Monday, mend it, and say in a few words what the reason was"
WIDE = "なぜ毎晩のビルドが月曜日から失敗するのかを調べて修正し理由を短く教えてください。テストも追加する 🎉🚀 今すぐ"
USUAL = ["abcd5555", "pending", "alice@example.org", "2 min ago", WORDY]
WIDEST = [
    USUAL,
    ["aaaa7777", "completed, changes wait", LONG_ADDRESS, "2026-11-20", WIDE],
    ["aaaa7778", "running", "jo@example.org", "23 h ago", "https://example.org/" + "a" * 60],
]


def drawn_table(rows: list[list[str]], room: int) -> list[str] | None:
    """Return the lines of the table of dispatches, None for cards."""
    sizes = layout.widths(LISTED, rows, 4, room, narrowed=[2, 1])
    if sizes is None:
        return None
    shown = io.StringIO()
    Console(width=room, file=shown).print(layout.table(LISTED, rows, sizes, {}))
    return shown.getvalue().splitlines()


@pytest.mark.parametrize(
    ("rows", "room", "table"),
    [
        ([USUAL], 200, True),
        ([USUAL], 80, True),
        ([USUAL], 64, True),
        ([USUAL], 59, False),
        (WIDEST, 200, True),
        (WIDEST, 80, True),
        (WIDEST, 68, True),
        (WIDEST, 64, False),
        (WIDEST, 40, False),
    ],
)
def test_dispatches_are_a_table_down_to_about_64_columns(rows: list[list[str]], room: int, table: bool) -> None:
    """Nothing is left out, and no line is wider. Seen to fail where one long address made cards of 80 columns."""
    lines = drawn_table(rows, room)
    assert (lines is not None) is table
    if lines is None:
        return
    assert max(map(layout.cells, lines)) <= room
    columns = [lines[0].index(name) for name in LISTED]  # the headings are as wide as they are long
    for number, (start, end) in enumerate(zip(columns, [*columns[1:], room], strict=True)):
        found = "".join(in_cells(line, start, end) for line in lines[2:]).replace(" ", "")
        assert found == "".join(row[number] for row in rows).replace(" ", "")


def in_cells(line: str, start: int, end: int) -> str:
    """Return what of a line stands in these columns of the terminal."""
    places, at = [], 0
    for char in line:
        places.append(at)
        at += layout.cells(char)
    return "".join(char for char, place in zip(line, places, strict=True) if start <= place < end)


def test_who_sent_it_has_one_line_while_the_task_has_room() -> None:
    assert layout.widths(LISTED, [USUAL], 4, 80, narrowed=[2, 1]) == [8, 7, 17, 9, 31]
    lines = drawn_table(WIDEST, 80)
    assert lines is not None and any("alice@example.org" in line for line in lines)
    narrow = drawn_table([USUAL], 64)
    assert narrow is not None and [in_cells(line, 19, 33).strip() for line in narrow[2:4]] == ["alice", "@example.org"]


def test_other_tables_wrap_one_column() -> None:
    """And are cards where it would be narrower than 24 columns."""
    assert layout.widths(["peer", "scope"], [["alice@example.org", WORDY]], 1, 80) == [17, 61]
    assert layout.widths(["peer", "scope"], [[LONG_ADDRESS, WORDY]], 1, 80) is None
