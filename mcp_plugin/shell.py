"""Whether a command for the host's shell decides something with dispatch's own programs. Pure; a bound, not a proof.

Quotes and backslashes are taken off, and what is left is looked at word by word, so that one spelling of a command is
like another. What a shell or another program puts together only while it runs is not seen, no more than a program that
reads `local.token`: docs/security.md has this limit.
"""

from __future__ import annotations

import re
from pathlib import Path

PROGRAMS = {"dispatch", "dispatch-mcp", "cli.main", "mcp_plugin.main"}
"""By which a person decides: the console scripts and the modules behind them."""
READING = {
    *("whoami", "doctor", "contacts", "invitations", "sent", "inbox", "status", "watch", "approvals"),
    *("fetch", "receipt", "verify-receipt", "completion", "demo", "changes"),
}
"""Commands that change nothing about people, dispatches or this device."""
CHANGING = {
    *("login", "logout", "open", "config", "plugin", "alias", "invite", "accept-invitation", "decline-invitation"),
    *("block", "unblock", "trust", "send", "cancel", "accept", "decline", "approve", "deny", "witness"),
    *("apply", "discard", "undo", "release"),
}
"""Every other command. A test compares the two with the table of commands."""

_QUOTES = re.compile(r"\\\n|[\"'\\]")
_WORD = re.compile(r"[^\s;|&()<>{}=,:`$]+")
_EXPANDED = re.compile(r"[$`*?\[]")


def decides(command: str, state: Path, home: Path) -> bool:
    """Whether a command may decide something, or touches the state folder, where answers and the token are kept."""
    flat = _QUOTES.sub("", command)
    if any(str(folder) in flat for folder in _spellings(state, home)):
        return True
    words = {word.rpartition("/")[2] for word in _WORD.findall(flat)}
    return bool(words & PROGRAMS) and bool(words & CHANGING or _EXPANDED.search(flat))


def _spellings(state: Path, home: Path) -> set[str]:
    """Return how the state folder may be written."""
    real = state.resolve()
    inside = {path.relative_to(base) for path in (state, real) for base in (home, home.resolve())
              if path.is_relative_to(base)}  # fmt: skip
    relative = {f"{start}/{path}" for path in inside for start in ("~", "$HOME", "${HOME}")}
    return {str(state), str(real), *relative, f"{state.name}/local.token", f"{state.name}/picks.json"}
