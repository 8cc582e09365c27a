"""The line of a call in the parts that a page needs. How it reads as a whole: tests/cli/test_layout.py."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.dispatches.summary import COMMAND, PART, parts, with_words

FOLDER = "/home/bob/till"


def line(call: dict[str, Any]) -> str:
    """The line as a page draws it, with ! where it says all of a call, and $ where the command follows."""
    told = parts(call, FOLDER)
    counted = "" if told["added"] is None else f" +{told['added']} -{told['removed']}"
    return f"{told['verb']} [{told['what']}]{counted}{told['more']}{'!' * told['whole']}{'$' * told['script']}"


@pytest.mark.parametrize(
    ("tool", "values", "diff", "shown"),
    [
        ("Read", {"file_path": f"{FOLDER}/src/a.py"}, None, "Read [src/a.py]!"),
        ("Read", {"file_path": FOLDER, "limit": 5}, None, "Read [till], lines 1 to 5!"),
        ("Read", {"file_path": "/dispatch/out/a", "offset": 3, "other": 1}, None, "Read [out/a], from line 3"),
        ("Glob", {"pattern": "*.py", "path": f"{FOLDER}/src"}, None, "Find files named [*.py] below src!"),
        ("Grep", {"pattern": "x", "path": "."}, None, "Search for [x]!"),
        ("Grep", {"pattern": "x", "multiline": True}, None, "Search for [x]"),
        ("Edit", {"file_path": "a"}, "--- a\n+++ a\n@@ -1 +1,2 @@\n-a\n+b\n+c", "Change [a] +2 -1!"),
        ("Edit", {"file_path": "a"}, "(what changes cannot be shown: it is large)", "Change [a]"),
        ("Write", {"file_path": "a", "content": "x\ny\n"}, None, "Write [a], 2 lines"),
        ("Write", {"file_path": "a", "content": ""}, "(a new file, empty)", "Create [a], empty!"),
        ("Write", {"file_path": "a"}, "--- a\n+++ a\n@@ -1 +1 @@\n-a\n+b", "Rewrite [a] +1 -1!"),
        ("Bash", {"command": " git status ", "description": "look"}, None, "Run [git status]!"),
        ("Bash", {"command": "ls", "run_in_background": True}, None, "Run [ls]"),
        ("Bash", {"command": "ls\nid\n"}, None, "Run a script of 2 lines: [ls]$"),
        ("Bash", {"command": "x" * (COMMAND + 1)}, None, f"Run [{'x' * COMMAND}…]$"),
        ("Agent", {"description": "look around", "prompt": "p"}, None, "Start a helper: [look around]"),
        ("mcp__git__log", {}, None, "Use [log] of the MCP server git!"),
        ("Other", {"a": 1}, None, "Use the tool [Other]"),
    ],
)  # fmt: skip
def test_the_line_and_whether_it_says_all(tool: str, values: object, diff: str | None, shown: str) -> None:
    assert line({"tool": tool, "input": values, "diff": diff}) == shown


def test_a_long_path_keeps_its_end_and_is_not_all() -> None:
    told = parts({"tool": "Read", "input": {"file_path": f"/{'a' * PART}/b.py"}}, "")
    assert told["what"].endswith("/b.py") and len(told["what"]) <= PART + 1 and not told["whole"]


ANY: st.SearchStrategy[object] = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just([]) | st.just({})
)


@given(
    st.sampled_from(["Read", "Write", "Edit", "Glob", "Grep", "Bash", "Task", "mcp__a__b", "mcp____", "", "x"]),
    st.dictionaries(
        st.sampled_from(["file_path", "path", "pattern", "command", "content", "offset", "limit", "description"]), ANY
    ),
    ANY,
)
def test_no_call_has_no_line(tool: str, values: dict[str, Any], diff: object) -> None:
    told = with_words({"kind": "tool_call", "tool": tool, "input": values, "diff": diff}, FOLDER)["words"]
    assert told["verb"] and (told["added"] is None) == (told["removed"] is None)
