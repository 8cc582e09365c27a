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
from typing import Literal, NamedTuple, NoReturn, Protocol

from peer.client.blocking import Client, Document
from peer.dispatches.text import block, line
from peer.machine.state_folder import StateFolder, read_private

PREFIX = "mcp__plugin_dispatch_dispatch__"
LABELS = {"Allow once": "once", "Always allow": "always", "Allow for this session": "session"}
ACCEPT, YES = "Accept", "Yes"
MAX_INPUT = 4 * 1024 * 1024
"""Bytes of an event: a call of one of our tools has at most a task and its background."""
MAX_KEPT, MAX_QUESTION = 8, 20_000
KEPT_SECONDS = 600.0
"""How long an answer counts: a call waits two minutes, but a person may read details before they accept."""
CHECK_SECONDS = 8
"""After that the person is asked. The host stops waiting for a hook after 15 seconds and goes on without it."""
SHOWN = 300
"""Characters of a call in the host's own question."""


class Source(Protocol):
    """The methods of peer.client.blocking.Client that are used here."""

    def dispatch(self, dispatch_id: str) -> Document: ...

    def approvals(self) -> list[Document]: ...


class Requirement(NamedTuple):
    """What must precede a call: the texts shown to the person, and the answers that mean yes. `summary`: one line."""

    texts: list[str]
    answers: set[str]
    summary: str


def requirement(source: Source, tool: str, given: Mapping[str, object]) -> Requirement | None:
    """Return what must precede a call of one of our tools; None for a call that grants nothing.

    Raises DispatchError, KeyError, StopIteration where that cannot be found out.
    """
    action = given.get("action")
    if tool == "dispatch_send":
        recipient, task = str(given["recipient"]), str(given["task"])
        return Requirement([recipient, task], {YES}, f"send to {recipient}: {task}")
    if tool == "dispatch_act" and action == "accept":
        row = source.dispatch(str(given["dispatch_id"]))
        return Requirement(
            [row["sender_id"], row["task"]], {ACCEPT}, f"run a task of {row['sender_id']}: {row['task']}"
        )
    if (tool, action) == ("dispatch_act", "approve") or (tool, given.get("decision")) == ("dispatch_approve", "allow"):
        wanted = (given["dispatch_id"], given["request_id"])
        row = next(row for row in source.approvals() if (row["dispatch_id"], row["request_id"]) == wanted)
        grant = given.get("grant") or "once"
        call = json.dumps(row["input"], ensure_ascii=False)
        return Requirement(
            [row["sender_id"], row["tool"], *leaves(row["input"])],
            {label for label, means in LABELS.items() if means == grant},
            f"allow ({grant}) a call of {row['sender_id']}: {row['tool']} {call}",
        )
    return None


def leaves(value: object) -> Iterator[str]:
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
    """Whether a question contains a text: verbatim, neutralised, or as a JSON string; white space is ignored."""
    asked = _dense(question)
    forms = [form for plain in (text, block(text)) for form in (plain, json.dumps(plain)[1:-1], _json(plain))]
    return any(_dense(form) in asked for form in forms)


def matching_pick(picks: list[Document], required: Requirement, session: str, now: float) -> Document | None:
    """Return the pick of this session, at most KEPT_SECONDS old, that fulfils the requirement."""
    for pick in picks:
        fresh = pick["session"] == session and 0 <= now - pick["at"] <= KEPT_SECONDS
        if (
            fresh
            and pick["answer"] in required.answers
            and all(shows(pick["question"], text) for text in required.texts)
        ):
            return pick
    return None


def picks_of(event: Document, now: float) -> list[Document]:
    """Return the answers of a PostToolUse event that can mean yes to us: [{session, at, question, answer}]."""
    answers = event["tool_response"]["answers"]
    found = []
    for asked in event["tool_input"]["questions"]:
        question, answer = str(asked["question"])[:MAX_QUESTION], answers.get(asked["question"])
        if answer in (*LABELS, ACCEPT, YES):
            found.append({"session": str(event["session_id"]), "at": now, "question": question, "answer": answer})
    return found


def save_picks(folder: StateFolder, picks: list[Document]) -> None:
    """Store the newest MAX_KEPT of these picks."""
    folder.write_private(folder.picks, json.dumps(picks[-MAX_KEPT:]).encode())


def load_picks(folder: StateFolder) -> list[Document]:
    """Return the stored picks. Raises DispatchError for a file that others can read, ValueError for a broken one."""
    if not folder.picks.exists():
        return []
    found = json.loads(read_private(folder.picks))
    return [pick for pick in found if isinstance(pick, dict)]


def handle(folder: StateFolder, option: str, event: Document) -> str:
    """Handle one event; return what the hook prints."""
    now = time.time()
    if option == "--picked":
        if new := picks_of(event, now):
            save_picks(folder, [*load_picks(folder), *new])
        return ""
    required = requirement(Client(folder), str(event["tool_name"]).removeprefix(PREFIX), event["tool_input"])
    if required is None:
        return ""
    picks = load_picks(folder)
    pick = matching_pick(picks, required, str(event["session_id"]), now)
    if pick is None:
        return ask(line(required.summary, limit=SHOWN))
    save_picks(folder, [other for other in picks if other is not pick])  # each yes counts for one call
    return ""


def ask(summary: str) -> str:
    """Return the output by which the host asks the person."""
    reason = f"dispatch: the picker has not asked you about this yet: {summary}"
    ruling = {"hookEventName": "PreToolUse", "permissionDecision": "ask", "permissionDecisionReason": reason}
    return json.dumps({"hookSpecificOutput": ruling}) + "\n"


def run(option: Literal["--picked", "--calling"]) -> NoReturn:
    """Handle one hook event from standard input, then exit with 0; an error on `--calling` has the person asked."""
    unsure = ask("what it is about could not be found out") if option == "--calling" else ""

    def late(*_: object) -> NoReturn:
        raise TimeoutError

    signal.signal(signal.SIGALRM, late)
    signal.alarm(CHECK_SECONDS)
    try:
        output = handle(StateFolder.locate(), option, json.loads(sys.stdin.buffer.read(MAX_INPUT)))
    except Exception:
        output = unsure
    signal.alarm(0)
    sys.stdout.write(output)
    sys.stdout.flush()
    os._exit(0)


def _dense(text: str) -> str:
    return "".join(text.split())


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]
