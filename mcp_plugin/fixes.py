"""A fix in the words of a session: what a tool of ours does is named as its call, all else is the person's. Pure.

The one notation of a fix is a command in backticks (`dispatch inbox`), as the command line and the page show it. An
agent's session has no command line of its own, and its shell is not to decide anything (shell.py). So a command becomes
the call that does the same; one that no tool does is marked as the person's, to be run in a terminal.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from peer.protocol.documents import Document

PERSONS: Final = " (the person does this in a terminal)"

_COMMAND: Final = re.compile(r"`((?:dispatch|dispatch-daemon|\S*/python[0-9.]*|uv|pipx|sudo|export)(?: [^`]*)?)`")


def _read(what: str) -> Callable[[Sequence[str]], str | None]:
    return lambda rest: None if rest else _written("dispatch_read", {"what": what})


def _call(tool: str, *named: str, **fixed: str) -> Callable[[Sequence[str]], str | None]:
    """The call of a tool with arguments of these names, in the order of the command's own."""

    def words(rest: Sequence[str]) -> str | None:
        if len(rest) > len(named):
            return None
        given = {**fixed, **dict(zip(named, rest, strict=False))}
        return _written(tool, given)

    return words


def _written(tool: str, given: Mapping[str, str]) -> str:
    return f"{tool}({', '.join(name + '=' + json.dumps(value, ensure_ascii=False) for name, value in given.items())})"


def _edit(rest: Sequence[str]) -> str | None:
    """`trust edit PEER --mcp-servers …`: options are arguments of the same names, their values what they say or `…`."""
    given, name = {"action": "edit"}, "peer"
    for word in rest:
        if word.startswith("--"):
            name = word.removeprefix("--").replace("-", "_")
            given[name] = "…"
        elif name:
            given[name], name = word, ""
        else:
            return None
    return _written("dispatch_trust", given)


CALLS: Final[Mapping[tuple[str, ...], Callable[[Sequence[str]], str | None]]] = {
    **{(what,): _read(what) for what in ("inbox", "sent", "contacts", "invitations", "approvals", "whoami")},
    ("status",): _call("dispatch_read", "dispatch_id", what="status"),
    ("send",): _call("dispatch_send", "recipient", "task"),
    ("invite",): _call("dispatch_invite", "to_email", action="send"),
    ("decline-invitation",): _call("dispatch_invite", "token", action="decline"),
    ("trust", "show"): _call("dispatch_trust", "peer", action="edit"),
    ("trust", "edit"): _edit,
    ("trust", "revoke"): _call("dispatch_trust", "peer", action="revoke"),
    ("changes",): _call("dispatch_read", "dispatch_id", what="changes"),
    **{
        (action,): _call("dispatch_act", "dispatch_id", action=action)
        for action in ("accept", "decline", "cancel", "discard", "undo", "release")
    },
}
"""Commands that a tool does: their words → the call, from the words after them; None where these say more."""
TERMINAL: Final = frozenset(
    {
        "setup",
        "join",
        "login",
        "logout",
        "broker",
        "config",
        "plugin",
        "mcp-config",
        "doctor",
        "open",
        "service",
        "block",
        "unblock",
        "approve",
        "deny",
    }
) | {"accept-invitation", "trust forget-key"}
"""Commands that are the person's alone: no tool does them, or not without the person's own word."""


def for_host(fix: str) -> str:
    """Return the fix with calls in place of commands, and the rest marked as the person's.

    One that speaks of a terminal itself stays: there the person's own word is the point (consent.py).
    """
    if "in a terminal" in fix:
        return fix
    left = False

    def words(match: re.Match[str]) -> str:
        nonlocal left
        if (call := call_of(match[1])) is not None:
            return call
        left = True
        return match[0]

    shown = _COMMAND.sub(words, fix)
    return shown + PERSONS if left else shown


def call_of(command: str) -> str | None:
    """Return the call that does what a command does; None where the person has to."""
    try:
        program, *given = shlex.split(command)
    except ValueError:
        return None
    if program != "dispatch":
        return None
    if "--help" in given:
        return "the description of this tool's arguments"
    given = [word for word in given if word != "--json"]
    for length in (2, 1):
        if words := CALLS.get(tuple(given[:length])):
            return words(given[length:])
    return None


def in_document(document: Document) -> Document:
    """Return a document of this machine's own words with every fix in it in those of a session."""
    return {
        name: in_document(value)
        if isinstance(value, dict)
        else for_host(value)
        if name in ("fix", "login_fix") and isinstance(value, str)
        else value
        for name, value in document.items()
    }
