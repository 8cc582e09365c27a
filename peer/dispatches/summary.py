"""What a tool call does, in one line for people: `Change parser.py, +2 −2`. Pure.

It leads where a person answers: on the terminal (`cli`), in the pickers of sessions (`mcp_plugin`), and in parts on the
page, where it leads the steps of a trace as well. It is computed from the call alone and never replaces what the answer
is about, which stands below it: the diff, the command, or the whole input. What others wrote is made safe to look at
and cut, with a … where something is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from peer.dispatches.quoting import quoted, word
from peer.dispatches.text import line
from peer.protocol.documents import Document

NAME: Final = 80
"""Characters of a file's name, a pattern or a tool's name."""
COMMAND: Final = 100
"""Characters of a command, of its first line."""
PART: Final = 300
"""Characters of what a page shows in the line."""
_MOST: Final = 10**12
"""A number of lines that is said; a larger one is no range of any file."""
_WORKSPACE: Final = "/dispatch/"
"""Where a run's own folder is inside the sandbox."""
_MARKS: Final = re.compile("[`“”„‟❝❞〝〞〟🙶🙷🙸]")
"""What sets a command or a quotation apart in a sentence of ours."""


class Words(NamedTuple):
    """The line in parts. `what` is the agent's, as it is; the rest is ours, and safe to show.

    `more` follows `what` directly. `changes`: lines that are added and removed. `whole`: nothing of the arguments is
    left to be shown but what a diff has. `script`: the command has to be shown, for the line has not all of it.
    """

    verb: str
    what: str = ""
    more: str = ""
    kind: Literal["name", "text", "command"] = "name"
    changes: tuple[int, int] | None = None
    whole: bool = False
    script: bool = False


def summary(call: Document) -> str:
    """Return the line. `call`: {tool, input, resolved_path?, diff?}, as the API lists waiting calls."""
    words = _words(call, None)
    match words.kind:
        case "command":
            # What is not the whole of it, or looks like the end of a quotation, is quoted: the line is read as ours.
            shown = quoted(words.what, limit=COMMAND) if words.script else line(words.what)
        case "text":
            shown = quoted(words.what, limit=NAME)
        case _:
            shown = word(words.what, limit=NAME)
    counted = "" if words.changes is None else f", +{words.changes[0]:,} −{words.changes[1]:,}"
    return f"{words.verb} {shown}{words.more}{counted}" if shown else f"{words.verb}{words.more}{counted}"


def parts(call: Document, folder: str) -> Document:
    """Return the line for a page: {verb, what, more, added, removed, whole, script}. Never raises for any JSON.

    `folder`: where the run works, "" for not known; files are named from there on. `added` and `removed` are null where
    there is no diff. `what` is the agent's: the page makes it safe to show.
    """
    words = _words(call, folder)
    fits = len(words.what) <= PART
    what = words.what if fits else f"{words.what[: PART * 2 // 3]}…{words.what[-PART // 3 :]}"
    added, removed = words.changes or (None, None)
    return {
        "verb": words.verb,
        "what": what.encode("utf-8", "replace").decode(),
        "more": words.more,
        "added": added,
        "removed": removed,
        "whole": words.whole and fits,
        "script": words.script,
    }


def with_words(event: Document, folder: str) -> Document:
    """Return an event of a trace; that of a call has the `words` of its line. `folder`: where its run works."""
    return event | {"words": parts(event, folder)} if event.get("kind") == "tool_call" else event


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


def _words(call: Document, folder: str | None) -> Words:
    tool = str(call.get("tool") or "")
    given = call.get("input")
    values: Mapping[str, object] = given if isinstance(given, Mapping) else {}
    if tool.startswith("mcp__") and tool.count("__") >= 2:
        _, server, name = tool.split("__", 2)
        return Words("Use", name, f" of the MCP server {word(server, limit=NAME)}", whole=not values)
    match tool:
        case "Bash":
            return _command(values)
        case "Read":
            only = values.keys() <= {"file_path", "offset", "limit"}
            return Words("Read", _file(call, values, folder), _range(values), whole=only)
        case "Write" | "Edit":
            return _writing(tool, call, values, folder)
        case "Glob" | "Grep":
            verb = "Find files named" if tool == "Glob" else "Search for"
            only = values.keys() <= {"pattern", "path"}
            return Words(verb, _text(values, "pattern"), _below(values, folder), "text", whole=only)
        case "Agent" | "Task" if description := _text(values, "description"):
            return Words("Start a helper:", description, kind="text")
    return Words("Use the tool", tool)


def _command(values: Mapping[str, object]) -> Words:
    """The command's first line. Its description, which is the model's word for it, is left to the whole call."""
    command = _text(values, "command").strip()
    first, *rest = command.split("\n")
    whole = is_whole(command)
    verb = f"Run a script of {len(rest) + 1:,} lines:" if rest else "Run" if first else "Run a command"
    only = values.keys() <= {"command", "description", "timeout"}
    cut = first if len(first) <= COMMAND else f"{first[:COMMAND]}…"
    return Words(verb, first if whole else cut, kind="command", whole=whole and only, script=not whole)


def _writing(tool: str, call: Document, values: Mapping[str, object], folder: str | None) -> Words:
    diff = call.get("diff")
    name = _file(call, values, folder)
    plain = "Write" if tool == "Write" else "Change"
    if not isinstance(diff, str):
        return Words(plain, name, _length(values) if tool == "Write" and folder is not None else "")
    if diff.startswith("(no change)"):
        return Words("Write", name, " as it is", whole=True)
    if diff.startswith("(a new file, empty)"):
        return Words("Create", name, ", empty", whole=True)
    counted = changed_lines(diff)
    if counted is None:
        return Words(plain, name)
    if tool == "Write" and "\n@@ -0,0 " in f"\n{diff}":  # a new file, or one that is empty
        return Words("Write", name, f", {_lines(counted[0])}", whole=True)
    return Words("Rewrite" if tool == "Write" else "Change", name, changes=counted, whole=True)


def _length(values: Mapping[str, object]) -> str:
    content = _text(values, "content")
    return f", {_lines(content.removesuffix(chr(10)).count(chr(10)) + 1)}" if content else ", empty"


def _lines(count: int) -> str:
    return f"{count:,} line{'' if count == 1 else 's'}"


def _file(call: Document, values: Mapping[str, object], folder: str | None) -> str:
    """The file: from `folder` on, else its own name; where the call names a path, the resolved one below says which
    file that is."""
    if folder is not None:
        return _within(_text(values, "file_path") or _text(values, "path"), folder)
    path = str(call.get("resolved_path") or _text(values, "file_path"))
    return path.rstrip("/").rpartition("/")[2] or path


def _within(path: str, folder: str) -> str:
    """A path as a person names it: from the run's folder on, or as it is."""
    if folder and path == folder:
        return folder.rpartition("/")[2]
    if folder and path.startswith(f"{folder}/"):
        return path[len(folder) + 1 :]
    return path.removeprefix(_WORKSPACE)


def _range(values: Mapping[str, object]) -> str:
    first, count = (_count(values.get(name)) for name in ("offset", "limit"))
    if count:
        return f", lines {first or 1:,} to {(first or 1) + count - 1:,}"
    return f", from line {first:,}" if first else ""


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MOST else 0


def _below(values: Mapping[str, object], folder: str | None) -> str:
    path = _text(values, "path")
    if folder is not None:
        path = _within(path, folder)
    return "" if path in ("", ".") else f" below {word(path, limit=NAME)}"


def _text(values: Mapping[str, object], name: str) -> str:
    value = values.get(name)
    return value if isinstance(value, str) else ""
