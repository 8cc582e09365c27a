"""`dispatch-mcp witness`: whether a tool call follows from what its person was shown and chose in the host's picker.

The host's model reads texts of senders, and a host may permit calls by itself: by a rule of the person's, or in a mode
that answers for them. So two hooks of the plugin check. `--picked` (after the picker) stores what was asked and chosen;
`--calling` (before a call that stands for a person's yes) compares. A call without a matching answer is not refused:
the hook has the host ask the person itself (`ask`), whatever its mode or rules. Whatever cannot be checked is asked.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NoReturn, Protocol

from peer.client.blocking import Client, Document
from peer.dispatches.text import block, line
from peer.machine.state_folder import StateFolder, read_private

PREFIX = "mcp__plugin_dispatch_dispatch__"
LABELS = {"Allow once": "once", "Always allow": "always", "Allow for this session": "session"}
ACCEPT, YES = "Accept", "Yes"
MAX_INPUT = 4 * 1024 * 1024
"""Bytes of what a hook is told: a call of ours has at most a task and its background."""
MAX_KEPT, MAX_QUESTION = 8, 20_000
KEPT_SECONDS = 600.0
"""A yes is for now: a call has two minutes, and a person may look at details before they accept."""
JUDGING_SECONDS = 8
"""Then the person is asked; the host would give up on the hook after 15, and go on without it."""
SHOWN = 300
"""Characters of a call in the host's own question."""


class Source(Protocol):
    """What of the daemon's client is used here."""

    def dispatch(self, dispatch_id: str) -> Document: ...

    def approvals(self) -> list[Document]: ...


class Stake:
    """What a call agrees to: the texts that a person must have been shown, the answers that mean it, and a line."""

    def __init__(self, texts: list[str], answers: set[str], told: str) -> None:
        self.texts = texts
        self.answers = answers
        self.told = line(told, limit=SHOWN)


def stake(source: Source, tool: str, given: Mapping[str, Any]) -> Stake | None:
    """Return what is at stake in a call of ours; None where it agrees to nothing. Raises DispatchError, KeyError."""
    action = given.get("action")
    if tool == "dispatch_send":
        recipient, task = str(given["recipient"]), str(given["task"])
        return Stake([recipient, task], {YES}, f"send to {recipient}: {task}")
    if tool == "dispatch_act" and action == "accept":
        row = source.dispatch(str(given["dispatch_id"]))
        return Stake([row["sender_id"], row["task"]], {ACCEPT}, f"run a task of {row['sender_id']}: {row['task']}")
    if (tool, action) == ("dispatch_act", "approve") or (tool, given.get("decision")) == ("dispatch_approve", "allow"):
        wanted = (given["dispatch_id"], given["request_id"])
        row = next(row for row in source.approvals() if (row["dispatch_id"], row["request_id"]) == wanted)
        grant = given.get("grant") or "once"
        call = json.dumps(row["input"], ensure_ascii=False)
        return Stake(
            [row["sender_id"], row["tool"], *leaves(row["input"])],
            {label for label, means in LABELS.items() if means == grant},
            f"allow ({grant}) a call of {row['sender_id']}: {row['tool']} {call}",
        )
    return None


def leaves(value: Any) -> Iterator[str]:
    """Yield every text and number of an input."""
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    elif isinstance(value, str):
        yield value
    elif value is not None:
        yield json.dumps(value)


def shows(question: str, text: str) -> bool:
    """Whether a question has a text in it, as it is, neutralised, or as JSON writes it. White space does not count."""
    asked = _dense(question)
    forms = [form for plain in (text, block(text)) for form in (plain, json.dumps(plain)[1:-1], _json(plain))]
    return any(_dense(form) in asked for form in forms)


def agreed(picks: list[Document], what: Stake, session: str, now: float) -> Document | None:
    """Return the pick of this session, fresh, in which the person was shown all of it and chose that answer."""
    for pick in picks:
        fresh = pick["session"] == session and 0 <= now - pick["at"] <= KEPT_SECONDS
        if fresh and pick["answer"] in what.answers and all(shows(pick["question"], text) for text in what.texts):
            return pick
    return None


def picked(event: Document, now: float) -> list[Document]:
    """Return what was answered in a picker that could be one of ours: [{session, at, question, answer}]."""
    answers = event["tool_response"]["answers"]
    found = []
    for asked in event["tool_input"]["questions"]:
        question, answer = str(asked["question"])[:MAX_QUESTION], answers.get(asked["question"])
        if answer in (*LABELS, ACCEPT, YES):
            found.append({"session": str(event["session_id"]), "at": now, "question": question, "answer": answer})
    return found


def keep(folder: StateFolder, picks: list[Document]) -> None:
    """Keep these picks, the newest MAX_KEPT of them."""
    folder.write_private(folder.picks, json.dumps(picks[-MAX_KEPT:]).encode())


def kept(folder: StateFolder) -> list[Document]:
    """Return the picks that are kept."""
    if not folder.picks.exists():
        return []
    found = json.loads(read_private(folder.picks))
    return [pick for pick in found if isinstance(pick, dict)]


def look_on(folder: StateFolder, wanted: str, event: Document) -> str:
    """Do what a hook is for; return what it prints."""
    now = time.time()
    if wanted == "--picked":
        if new := picked(event, now):
            keep(folder, [*kept(folder), *new])
        return ""
    what = stake(Client(folder), str(event["tool_name"]).removeprefix(PREFIX), event["tool_input"])
    if what is None:
        return ""
    picks = kept(folder)
    pick = agreed(picks, what, str(event["session_id"]), now)
    if pick is None:
        return ask(what.told)
    keep(folder, [other for other in picks if other is not pick])  # one yes is for one call
    return ""


def ask(told: str) -> str:
    """Return the ruling that has the host ask the person."""
    reason = f"dispatch: the picker has not asked you about this yet: {told}"
    ruling = {"hookEventName": "PreToolUse", "permissionDecision": "ask", "permissionDecisionReason": reason}
    return json.dumps({"hookSpecificOutput": ruling}) + "\n"


def run(option: Literal["--picked", "--calling"]) -> NoReturn:
    """Handle one hook event from standard input, then exit with 0; an error on `--calling` has the person asked."""
    unsure = ask("what it is about could not be found out") if option == "--calling" else ""

    def late(*_: object) -> NoReturn:
        raise TimeoutError

    signal.signal(signal.SIGALRM, late)
    signal.alarm(JUDGING_SECONDS)
    try:
        said = look_on(StateFolder.locate(), option, json.loads(sys.stdin.buffer.read(MAX_INPUT)))
    except Exception:
        said = unsure
    signal.alarm(0)
    sys.stdout.write(said)
    sys.stdout.flush()
    os._exit(0)


def _dense(text: str) -> str:
    return "".join(text.split())


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]
