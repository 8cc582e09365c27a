"""What a tool call does, in one line for people: `Change parser.py, +2 −2`. Pure.

It leads where a person answers: on the terminal (`cli`) and in the pickers of sessions (`mcp_plugin`). It is computed
from the call alone and never replaces what the answer is about, which stands below it: the diff, the command, or the
whole input. What others wrote is made safe to look at and cut, with a … where something is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from peer.dispatches.quoting import quoted, word
from peer.dispatches.text import line
from peer.protocol.documents import Document

NAME: Final = 80
"""Characters of a file's name, a pattern or a tool's name."""
COMMAND: Final = 100
"""Characters of a command, of its first line."""
_MARKS: Final = re.compile("[`“”„‟❝❞〝〞〟🙶🙷🙸]")
"""What sets a command or a quotation apart in a sentence of ours."""


def summary(call: Document) -> str:
    """Return the line. `call`: {tool, input, resolved_path?, diff?}, as the API lists waiting calls."""
    tool = str(call.get("tool") or "")
    given = call.get("input")
    values: Mapping[str, object] = given if isinstance(given, Mapping) else {}
    if tool.startswith("mcp__") and tool.count("__") >= 2:
        _, server, name = tool.split("__", 2)
        return f"Use {word(name, limit=NAME)} of the MCP server {word(server, limit=NAME)}"
    match tool:
        case "Bash":
            return _command(values)
        case "Read":
            return f"Read {_file(call, values)}{_range(values)}"
        case "Write" | "Edit":
            return _writing(tool, call, values)
        case "Glob":
            return f"Find files named {quoted(_text(values, 'pattern'), limit=NAME)}{_below(values)}"
        case "Grep":
            return f"Search for {quoted(_text(values, 'pattern'), limit=NAME)}{_below(values)}"
    return f"Use the tool {word(tool, limit=NAME)}"


def changed_lines(diff: str) -> tuple[int, int] | None:
    """Return how many lines a unified diff adds and removes; None where the text is none."""
    rows = diff.split("\n")
    start = next((number for number, row in enumerate(rows) if row.startswith("@@")), None)
    if start is None:
        return None
    body = rows[start:]
    return sum(row.startswith("+") for row in body), sum(row.startswith("-") for row in body)


def is_whole(command: object) -> bool:
    """Whether the line has the whole of a command as it is, so that it need not stand below once more."""
    return (
        isinstance(command, str)
        and "\n" not in command.strip()
        and line(command.strip()) == line(command.strip(), limit=COMMAND)
        and not _MARKS.search(command)
    )


def _command(values: Mapping[str, object]) -> str:
    """The command's first line. Its description, which is the model's word for it, is left to the whole call."""
    command = _text(values, "command").strip()
    first, *rest = command.split("\n")
    # What is not the whole of it, or looks like the end of a quotation, is quoted: the line is read as ours.
    shown = line(first) if is_whole(command) else quoted(first, limit=COMMAND)
    if rest:
        return f"Run a script of {len(rest) + 1:,} lines: {shown}"
    return f"Run {shown}" if shown else "Run a command"


def _writing(tool: str, call: Document, values: Mapping[str, object]) -> str:
    diff = call.get("diff")
    name = _file(call, values)
    if not isinstance(diff, str):
        return f"{'Write' if tool == 'Write' else 'Change'} {name}"
    if diff.startswith("(no change)"):
        return f"Write {name} as it is"
    if diff.startswith("(a new file, empty)"):
        return f"Create {name}, empty"
    counted = changed_lines(diff)
    if counted is None:
        return f"{'Write' if tool == 'Write' else 'Change'} {name}"
    added, removed = counted
    if tool == "Write" and "\n@@ -0,0 " in f"\n{diff}":  # a new file, or one that is empty
        return f"Write {name}, {added:,} line{'' if added == 1 else 's'}"
    return f"{'Rewrite' if tool == 'Write' else 'Change'} {name}, +{added:,} −{removed:,}"


def _file(call: Document, values: Mapping[str, object]) -> str:
    """The file's own name; where the call names a path, the resolved one below says which file that is."""
    path = str(call.get("resolved_path") or _text(values, "file_path"))
    return word(path.rstrip("/").rpartition("/")[2] or path, limit=NAME)


def _range(values: Mapping[str, object]) -> str:
    first, count = values.get("offset"), values.get("limit")
    if isinstance(count, int) and isinstance(first, int):
        return f", lines {first:,} to {first + count - 1:,}"
    return f", from line {first:,}" if isinstance(first, int) else ""


def _below(values: Mapping[str, object]) -> str:
    folder = _text(values, "path")
    return f" below {word(folder, limit=NAME)}" if folder else ""


def _text(values: Mapping[str, object], name: str) -> str:
    value = values.get(name)
    return value if isinstance(value, str) else ""
