"""What the host's model cannot agree to alone, and how a person does: a form of the host's, else a command.

The model reads what senders wrote, so its word is nobody's. An `always`, an accepted invitation and a wider edge are
done only after the person chose so in a form that this server asked for; where there is none, the refusal names the
command for a terminal, and nothing is granted.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from mcp_plugin.call import Answer, Call
from peer.dispatches.text import line
from peer.protocol.errors import Forbidden

YES = "grant"
Document = Mapping[str, Any]


async def confirm(call: Call, question: str, *, yes: str, command: Sequence[str], what: str) -> None:
    """Ask the person; return when they agree. Raises Forbidden, with the command that does it instead."""
    options = [(YES, yes), ("refuse", "No: change nothing")]
    answer = await call.ask(question, options)
    if answer == Answer("chosen", YES):
        return
    if answer.kind == "declined" or answer.value == "refuse":
        raise Forbidden(f"the person did not agree: {what} was not done", fix="leave it; do not ask again by yourself")
    if answer.kind == "too fast":
        why = "the form was answered faster than a person can read it"
    else:
        why = "this session has no form that a person could answer"
    raise Forbidden(
        f"{what} needs the person's own word, and {why}; nothing was changed",
        fix=f"the person runs this in a terminal: `{shlex.join(command)}`",
    )


def scope_lines(document: Document) -> list[str]:
    """Return what a confirmation is about, a fact a line. `document`: the API's confirmation_required."""
    scope = document["scopes"]
    budget = scope.get("budget") or {}
    lines = [
        f"Tools: {_listed(scope['tools'])}",
        f"MCP servers: {_listed(scope['mcp_servers'])}",
        f"Folders: {_listed(scope['paths']) if scope['paths'] else 'only the one confirmed at each accept'}",
        f"Calls: {'each one is asked about' if scope['approval'] == 'manual' else 'run without asking'}",
        f"At most {scope['max_per_day']} a day, {budget.get('minutes')} minutes a run; results {scope['results']}",
    ]
    key = document.get("fingerprint")
    if document.get("verified"):
        lines.append("Their key is verified.")
    else:
        lines.append(f"Their key is UNVERIFIED: {key}. Compare it with them by another way first.")
    if document.get("powerful"):
        lines.append(f"Grants with power over this machine: {_listed(document['powerful'])}")
    return lines


def scope_flags(changes: Document) -> list[str]:
    """Return a scope's fields as flags of `dispatch accept-invitation` and `dispatch trust edit`."""
    flags: list[str] = []
    for name, value in changes.items():
        text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        flags += [f"--{name.replace('_', '-')}", text or "none"]
    return flags


def _listed(values: Any) -> str:
    return ", ".join(line(str(value), limit=200) for value in values) or "none"
