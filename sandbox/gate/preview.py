"""What a person is shown beside a tool call before they answer: the diff of a write, and what is unusual about it.

It decides nothing: a command can hide what it does from any pattern here, and the sandbox confines it either way. What
it reads is what the run sees (paths.py), of paths that `sandbox.policy` has resolved and found inside the scope.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Mapping
from typing import Final

from sandbox.gate import line_diff
from sandbox.gate.paths import OpenFile
from sandbox.gate.written import NotComputedError, decode, written
from sandbox.policy.decision import Resolve, Scope, inside

DIFFERING_TOOLS: Final = frozenset({"Write", "Edit"})
DIFF_LIMIT: Final = 256 * 1024
"""Bytes of a file, before or after, up to which a diff is made: nobody reads more before an answer."""

_DELETES: Final = re.compile(
    r"\b(rm|rmdir|unlink|shred|truncate)\b|-delete\b"
    r"|\bgit\s+(clean|rm|reset\s+--hard|checkout\s+--|restore)\b"
)
# An address is found at its `://`: looked for from its first letter, a long word is walked through again from each one.
_NETWORK: Final = re.compile(
    r"\b(curl|wget|nc|ncat|netcat|socat|ssh|scp|sftp|rsync|telnet|ftp|dig|nslookup|ping)\b"
    r"|\bgit\s+(push|pull|fetch|clone|ls-remote)\b"
    r"|\b(pip3?|npm|pnpm|yarn|cargo|gem|apt|apt-get|go)\s+(install|add|get)\b"
    r"|(?<=[a-z])://|/dev/(tcp|udp)/"
)
_PATH_WORD: Final = re.compile(r"(?<![\w.~/-])(?:~[\w-]*|\.\.|/)(?:/?[^\s'\"`;|&<>()$]*)")
_ORDINARY: Final = ("/bin", "/dev/null", "/sbin", "/tmp", "/usr")  # noqa: S108 - the run's own, private /tmp


def diff(tool: str, arguments: Mapping[str, object], path: str, open_file: OpenFile) -> str | None:
    """A unified diff of what Write or Edit would change in the file at `path`; None for other tools.

    `arguments` are those of a call that `policy.decision` did not deny. `path` is shown, `open_file` opens it. What
    changes and is no line (line ends, the encoding) stands above it, in parentheses; so does the reason where no true
    diff can be made.
    """
    if tool not in DIFFERING_TOOLS:
        return None
    try:
        before = _content(path, open_file)
    except OSError as error:
        return f"(the change cannot be shown: the file cannot be read: {error.strerror})"
    if before is not None and len(before) > DIFF_LIMIT:
        return f"(the change cannot be shown: the file is larger than {DIFF_LIMIT:,} bytes)"
    try:
        after = written(tool, arguments, before)
        old, new = decode(before or b"")[0], decode(after)[0]
    except NotComputedError as reason:
        return f"(the change cannot be shown: {reason})"
    if len(after) > DIFF_LIMIT:
        return f"(the change cannot be shown: {len(after):,} bytes are written)"
    if before is None and not after:
        return "(a new file, empty)"
    if before == after:
        return "(no change)"
    notes = [] if before is None else _changes_that_are_no_lines(before, after, old, new)
    if _ends(old) == _ends(new) == {"CR LF"}:
        old, new = old.replace("\r\n", "\n"), new.replace("\r\n", "\n")
    hunks = line_diff.unified(line_diff.lines(old), line_diff.lines(new), line_diff.Matching())
    return "".join((*(f"({note})\n" for note in notes), f"--- {path}\n+++ {path}\n", *hunks)).removesuffix("\n")


def _changes_that_are_no_lines(before: bytes, after: bytes, old: str, new: str) -> list[str]:
    notes = []
    if old and new and _ends(old) and _ends(new) and _ends(old) != _ends(new):
        notes.append(f"line endings change: {' and '.join(sorted(_ends(old)))} → {' and '.join(sorted(_ends(new)))}")
    was, becomes = (decode(content)[1:] for content in (before, after))
    if before and was != becomes:
        notes.append(f"the encoding changes: {_named(*was)} → {_named(*becomes)}")
    return notes


def _ends(text: str) -> set[str]:
    """The kinds of line end in a text."""
    crlf = text.count("\r\n")
    found = {"CR LF": crlf, "LF": text.count("\n") - crlf, "CR": text.count("\r") - crlf}
    return {name for name, count in found.items() if count}


def _named(encoding: str, mark: bytes) -> str:
    return encoding.upper() + (" with a byte-order mark" if mark else "")


def unusual(
    scope: Scope,
    tool: str,
    arguments: Mapping[str, object],
    path: str | None,
    *,
    resolve: Resolve,
    cwd: str | None = None,
) -> list[str]:
    """What a person should not overlook, as short phrases: outside the project, deletions, network.

    What hides in the text itself is marked where it is made safe to show, by the node.

    `cwd`: the inside folder in which a command starts, where it is not `scope.cwd`.
    """
    marks = []
    if path is not None and not inside(path, (scope.project, scope.workspace)):
        marks.append("outside the project folder")
    if tool == "Bash":
        command = str(arguments["command"])
        if cwd not in (None, scope.cwd):
            marks.append(f"starts in {cwd}")
        if any(_leaves(word, cwd or scope.cwd, scope, resolve) for word in _PATH_WORD.findall(command)):
            marks.append("outside the project folder")
        if _DELETES.search(command):
            marks.append("deletes")
        if _NETWORK.search(command):
            marks.append(
                "uses the network" if scope.network else ("seems to need the network, which a run does not have")
            )
    if tool == "Write" and not arguments["content"]:
        marks.append("empties a file")
    return marks


def _leaves(word: str, cwd: str, scope: Scope, resolve: Resolve) -> bool:
    if word.startswith("~"):
        return True
    named = posixpath.normpath("/" + posixpath.join(cwd, word).lstrip("/"))
    if inside(named, _ORDINARY):
        return False
    meant = resolve(named)
    return meant is None or not inside(meant, (scope.project, scope.workspace))


def _content(path: str, open_file: OpenFile) -> bytes | None:
    """The bytes at `path`, one more than `DIFF_LIMIT` at most; None when there is no file yet. OSError otherwise."""
    try:
        descriptor = open_file(path)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "not a regular file")
        return file.read(DIFF_LIMIT + 1)
