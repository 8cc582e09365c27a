"""Whether a command for the host's shell decides something with dispatch's own programs. Pure; a bound, not a proof.

Quotes, backslashes and line continuations are taken off, `$'…'` is written out, and what the shell would fill in
(variables, substitutions, braces, globs) counts as any text: a word that may become one of our programs is one. So one
spelling of a command is like another. What another program puts together is not seen, no more than a script that hides
what it starts, or a program that reads `local.token`: docs/security.md has this limit.

`plugin/programs/shell.sh` lets through to this whatever may be one; a test compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

PROGRAMS = {"dispatch", "dispatch-mcp", "cli.main", "mcp_plugin.main"}
"""By which a person decides: the console scripts and the modules behind them."""
READING = {
    *("whoami", "doctor", "contacts", "invitations", "sent", "inbox", "status", "man"),
    *("fetch", "receipt", "verify-receipt", "completion", "demo", "changes", "help", "version"),
    "mcp-config",
}
"""Commands that change nothing about people, dispatches or this device."""
CHANGING = {
    *(
        "setup",
        "join",
        "login",
        "logout",
        "broker",
        "open",
        "config",
        "service",
        "plugin",
        "alias",
        "invite",
        "accept-invitation",
        "decline-invitation",
    ),
    *("block", "unblock", "trust", "send", "cancel", "accept", "decline", "approve", "deny", "witness"),
    *("apply", "discard", "undo", "release"),
    *("approvals", "watch"),  # on a terminal, which a session can make itself, they take answers
}
"""Every other command. A test compares the two with the table of commands."""

PASSING_ON = {"xargs", "parallel", "ln", "cp", "mv", "install"}
"""Programs that take a command's words from elsewhere, or give a program another name."""
FILES = {"local.token", "picks.json"}

_CONTINUED = re.compile(r"\\\n")
_ANSI_QUOTED = re.compile(r"\$'((?:[^'\\]|\\.)*)'", re.DOTALL)
_ANSI_CODE = re.compile(r"\\(?:x([0-9a-fA-F]{1,2})|[uU]([0-9a-fA-F]{1,8})|([0-7]{1,3}))")
_QUOTES = re.compile(r"[\"'\\]")
_WORD = re.compile(r"[^\s;|&()<>{}=,:`$]+")
_FILLED_IN = re.compile(r"\$\([^()]*\)|\$?\{[^{}\s]*\}|`[^`]*`|\$(?:\w+|[@*#?!$-])")
_PATTERN = re.compile(r"[^\s;|&()<>{}=,:`$/]+")
_EXPANDED = re.compile(r"[$`*?\[{]")
_ROUTE = re.compile(r"/v1/(?:dispatches|approvals|invitations|trust|contacts|block|page)\b")
_IMPORTED = re.compile(r"\b(?:from\s+(?:cli|peer|mcp_plugin)\b[\w.]*\s+import|import\s+(?:cli|peer|mcp_plugin))\b")


def decides(command: str, state: Path, home: Path) -> bool:
    """Whether a command may decide something, or touches the state folder, where answers and the token are kept."""
    flat = _QUOTES.sub("", _ANSI_QUOTED.sub(_written_out, _CONTINUED.sub("", command)))
    if any(str(folder) in flat for folder in _spellings(state, home)):
        return True
    if _IMPORTED.search(flat) or _ROUTE.search(flat):
        return True
    words = {word.rpartition("/")[2] for word in _WORD.findall(flat)}
    patterns = {word for word in _PATTERN.findall(_FILLED_IN.sub("*", flat)) if re.search("[*?[]", word)}
    own_folder = {state.name} if state.name.startswith(".") else set()
    if words & FILES or own_folder & set(_PATTERN.findall(flat)) or _may_become(own_folder, patterns, 1):
        return True
    if words & PROGRAMS:
        return bool(words & (CHANGING | PASSING_ON) or _EXPANDED.search(flat))
    if words & CHANGING:
        return _may_become(PROGRAMS, patterns, 1)
    return _may_become(PROGRAMS, patterns, 3) and _may_become(CHANGING, patterns, 3)


def _written_out(quoted: re.Match[str]) -> str:
    """Return what a `$'…'` stands for; what is no character becomes a question mark."""

    def character(found: re.Match[str]) -> str:
        by_16 = found[1] or found[2]
        code = int(by_16, 16) if by_16 else int(found[3], 8)
        return chr(code) if 0 < code < 0x110000 else "?"

    return _ANSI_CODE.sub(character, quoted[1])


def _may_become(names: Iterable[str], patterns: Iterable[str], letters: int) -> bool:
    """Whether the shell may fill in a pattern that has so many letters and get one of the names."""
    named = [each for each in patterns if sum(map(str.isalpha, each)) >= letters]
    return any(fnmatchcase(name, each) for name in names for each in named)


def _spellings(state: Path, home: Path) -> set[str]:
    """Return how the state folder may be written."""
    real = state.resolve()
    inside = {path.relative_to(base) for path in (state, real) for base in (home, home.resolve())
              if path.is_relative_to(base)}  # fmt: skip
    relative = {f"{start}/{path}" for path in inside for start in ("~", "$HOME", "${HOME}")}
    return {str(state), str(real), *relative}
