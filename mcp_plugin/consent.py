"""What the host's model cannot agree to alone, and how a person does: in a form of the host's, else by a command.

The model reads texts of senders, so its word is no consent. An `always`, an accepted invitation and a wider edge need
the person's choice in a form that this server asked for. Where the host has no form, the refusal names the command for
a terminal, and nothing is granted.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence

from mcp_plugin.call import Call, FormAnswer
from mcp_plugin.session import Option
from peer.client.blocking import Document
from peer.dispatches.asking import rule_text
from peer.dispatches.text import line
from peer.protocol.errors import Forbidden
from peer.trust.menu import FOLDERS
from peer.trust.network_words import sentences

YES, NO = "grant", "refuse"

CALLS = {
    "manual": "you are asked about each one",
    "review": "run without asking, except those of MCP servers; nothing is sent before you have looked at it",
    "auto": "run without asking",
}

_RULES_SHOWN = 20
_RULE_SHOWN = 300
PHRASE = 1_100
"""Characters, as many as the longest one has: a host's name ends with what tells whose it is."""


async def choose(call: Call, question: str, options: Sequence[Option], *, command: Sequence[str], what: str) -> str:
    """Ask the person; return the value they chose. Raises Forbidden, whose fix is the command that does the same."""
    answer = await call.ask(question, options)
    if answer.kind == "chosen":
        return answer.value
    if answer.kind == "declined":
        raise refused(what)
    raise unanswered(answer, command, what)


async def confirm(call: Call, question: str, *, yes: str, command: Sequence[str], what: str) -> None:
    """Ask the person; return if they agree. Raises Forbidden, whose fix is the command that does the same."""
    answer = await call.ask(question, [(YES, yes), (NO, "No: change nothing")])
    if answer == FormAnswer("chosen", YES):
        return
    if answer.kind == "declined" or answer.value == NO:
        raise refused(what)
    raise unanswered(answer, command, what)


def refused(what: str) -> Forbidden:
    """Return the error for a no."""
    return Forbidden(
        f"the person said no to {what}, so nothing was changed",
        fix="leave it, and do not ask again unless the person wants it",
    )


def unanswered(answer: FormAnswer, command: Sequence[str], what: str) -> Forbidden:
    """Return the error for a question that no person answered: its fix is the command that does the same."""
    if answer.kind == "too fast":
        why = "the form was answered faster than a person can read it"
    else:
        why = "this session cannot show the person a form"
    return Forbidden(
        f"{what} needs the person's own answer, but {why}; nothing was changed",
        fix=f"the person runs this in a terminal: `{shlex.join(command)}`",
    )


def with_key(what: str, document: Document) -> str:
    """Return `what` with the fingerprint to compare, if power would go to an unverified key.

    The command for the terminal never carries --yes-unverified: without it, the terminal shows the key and asks.
    """
    if document.get("verified") or not document.get("powerful"):
        return what
    return f"{what} (their key is unverified; its fingerprint is {document.get('fingerprint')})"


def scope_lines(document: Document) -> list[str]:
    """Return what a confirmation is about, one fact a line. `document`: the API's confirmation_required."""
    scope = document["scopes"]
    budget = scope.get("budget") or {}
    lines = [
        f"Tools: {_listed(scope['tools'])}",
        f"MCP servers: {_listed(scope['mcp_servers'])}",
        f"Folders: {_listed(scope['paths']) if scope['paths'] else 'only the one that you confirm at each accept'}",
        f"There, {FOLDERS}.",
        f"Calls: {CALLS[scope['approval']]}",
        f"Changes in your folders: {'wait for you' if scope['apply'] == 'review' else 'are applied without review'}",
        *(
            [f"Programs in addition to the system's own: {_listed(scope['toolchains'])}"]
            if scope.get("toolchains")
            else []
        ),
        *map(
            line,
            sentences(
                scope["tools"],
                scope.get("network") or [],
                scope.get("registries") or [],
                document.get("by_proxy") or [],
            ),
        ),
        f"At most {scope['max_per_day']} dispatches a day, {budget.get('minutes')} minutes a run; results: "
        f"{scope['results']}",
    ]
    rules = [rule_text(rule) for rule in document.get("rules") or []]
    if rules and scope["approval"] != "auto":
        lines += [
            f"Not asked about, because you always allowed it: {rule[:_RULE_SHOWN]}" for rule in rules[:_RULES_SHOWN]
        ]
        if len(rules) > _RULES_SHOWN:
            lines.append(f"and {len(rules) - _RULES_SHOWN} more rules; `dispatch trust show` lists them all")
    key = document.get("fingerprint")
    if document.get("verified"):
        lines.append("Their key is verified.")
    else:
        lines.append(f"Their key is UNVERIFIED: {key}. Compare it with them first, for example by phone.")
    if document.get("powerful"):
        lines.append(f"Grants with power over this machine: {_listed(document['powerful'], limit=PHRASE)}")
    return lines


def scope_flags(changes: Mapping[str, object]) -> list[str]:
    """Return a scope's fields as flags of `dispatch accept-invitation` and `dispatch trust edit`."""
    flags: list[str] = []
    for name, value in changes.items():
        text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        flags += [f"--{name.replace('_', '-')}", text or "none"]
    return flags


def _listed(values: Iterable[object], *, limit: int = 200) -> str:
    return ", ".join(line(str(value), limit=limit) for value in values) or "none"
