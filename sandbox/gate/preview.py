"""What a person is shown beside a tool call before they answer: the diff of a write, and what is unusual about it.

It decides nothing: a command can hide what it does from any pattern here, and the sandbox confines it either way. It
reads files of this machine, so it is given only paths that `sandbox.policy` has resolved and found inside the scope.
"""

from __future__ import annotations

import difflib
import os
import posixpath
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sandbox.policy.decision import Resolve, Scope, inside

DIFFERING_TOOLS: Final = frozenset({"Write", "Edit"})
DIFF_LIMIT: Final = 256 * 1024
"""Bytes of a file, old or new, up to which a diff is made: difflib is quadratic, and would delay the run."""

_DELETES: Final = re.compile(
    r"\b(rm|rmdir|unlink|shred|truncate)\b|-delete\b"
    r"|\bgit\s+(clean|rm|reset\s+--hard|checkout\s+--|restore)\b"
)
_NETWORK: Final = re.compile(
    r"\b(curl|wget|nc|ncat|netcat|socat|ssh|scp|sftp|rsync|telnet|ftp|dig|nslookup|ping)\b"
    r"|\bgit\s+(push|pull|fetch|clone|ls-remote)\b"
    r"|\b(pip3?|npm|pnpm|yarn|cargo|gem|apt|apt-get|go)\s+(install|add|get)\b"
    r"|[a-z]+://|/dev/(tcp|udp)/"
)
_PATH_WORD: Final = re.compile(r"(?<![\w.~/-])(?:~[\w-]*|\.\.|/)(?:/?[^\s'\"`;|&<>()$]*)")
_ORDINARY: Final = ("/bin", "/dev/null", "/sbin", "/tmp", "/usr")  # noqa: S108 - the run's own, private /tmp


def diff(tool: str, arguments: Mapping[str, object], path: str) -> str | None:
    """A unified diff of what Write or Edit would change in the file at `path`; None for other tools.

    `arguments` are those of a call that `policy.decision` did not deny. Where no true diff can be made (too large, not
    text, text to replace not found) it is one line in parentheses with the reason.
    """
    if tool not in DIFFERING_TOOLS:
        return None
    try:
        old = _content(path)
    except OSError as error:
        return f"(the file cannot be read: {error.strerror})"
    if old is None:
        return "(too large for a diff)"
    if tool == "Write":
        new = str(arguments["content"])
    else:
        before, after = str(arguments["old_string"]), str(arguments["new_string"])
        if before not in old:
            return "(the text to be replaced is not in the file)"
        new = old.replace(before, after, -1 if arguments.get("replace_all") is True else 1)
    if len(new) > DIFF_LIMIT:
        return "(too large for a diff)"
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), path, path, lineterm="")
    return "\n".join(lines) or "(no change)"


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
            marks.append("looks for the network, which a run does not have")
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


def _content(path: str) -> str | None:
    """The text at `path`, "" when there is no file yet, None when larger than `DIFF_LIMIT`. OSError otherwise."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        # The run may swap a folder for a link between the check of the path and its opening here, outside its
        # sandbox. What was opened must be what was checked.
        if Path(f"/proc/self/fd/{descriptor}").readlink() != Path(path):
            raise OSError(0, "it moved meanwhile")
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "not a regular file")
        if status.st_size > DIFF_LIMIT:
            return None
        return file.read(DIFF_LIMIT).decode(errors="replace")
