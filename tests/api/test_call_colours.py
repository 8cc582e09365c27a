"""What of a call is given to be coloured: its diff with each line at its number, or its command."""

from __future__ import annotations

from peer.api.page.call_colours import MAX_LINES, asked_of
from sandbox.gate import line_diff

OLD = "".join(f"line {number}\n" for number in range(1, 41))


def test_each_line_of_a_diff_stands_at_its_number() -> None:
    """Seen to fail with sides that leave no room for what the diff leaves out."""
    new = OLD.replace("line 3\n", "LINE 3\nand more\n").replace("line 30\n", "")
    hunks = line_diff.unified(line_diff.lines(OLD), line_diff.lines(new), line_diff.Matching())
    diff = "".join(("(a note)\n", "--- /a/b.py\n", "+++ /a/b.py\n", *hunks)).removesuffix("\n")
    asked = asked_of({"tool": "Write", "input": {}, "diff": diff, "resolved_path": "/a/b.py"})
    assert asked is not None and asked.name == "b.py"
    for side, whole in ((asked.old, OLD), (asked.new, new)):
        known = [(at, row) for at, row in enumerate(side.split("\n")) if row]
        assert len(known) > 10 and all(whole.split("\n")[at] == row for at, row in known)


def test_what_has_no_colours() -> None:
    command = asked_of({"tool": "Bash", "input": {"command": "for a; do\n ls\ndone"}})
    assert command is not None and (command.name, command.old, command.new) == (
        "command.sh",
        "",
        "for a; do\n ls\ndone",
    )
    beyond = f"--- a\n+++ a\n@@ -{MAX_LINES + 1},1 +1,1 @@\n-a\n+b"
    for call in (
        {"tool": "Read", "input": {"file_path": "a"}},
        {"tool": "Bash", "input": {"command": 7}},
        {"tool": "Bash", "input": None},
        {"tool": "Write", "input": {}, "diff": "(no change)", "resolved_path": "/a"},
        {"tool": "Write", "input": {}, "diff": beyond, "resolved_path": "/a"},
        {"tool": "Write", "input": {}, "diff": "@@ -1,1 +1,1 @@\n-a\n+b"},
    ):
        assert asked_of(call) is None
