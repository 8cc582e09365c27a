"""`dispatch-mcp witness`: whether a tool call follows from what its person was shown and chose in the host's picker.

The host's model reads texts of senders, and a host may permit calls by itself: by a rule of the person's, or in a mode
that answers for them. So hooks of the plugin check:

- `--calling`, before the picker: stores the question that is about to be shown.
- `--picked`, after it: stores the answer, if a person can have read the question by then.
- `--calling`, before a call that changes something: composes the question about exactly this call (questions.py). Where
  that was asked, word for word, and the answer permits exactly this call, the call is allowed, and nobody is asked
  twice. A call that the server itself asks about, in a form, or refuses where it has none, is allowed, and so is one
  that changes nothing. Else the host asks (`ask`), whatever its mode or rules, with our own words, all arguments in
  them.
- `--shell`, before a command of the host's shell and a file that it reads or writes: asks, if it decides with our
  programs or is about the state folder, where answers and the token are kept (shell.py).

What was judged is what runs: folders and files go into the call as they were shown. What cannot be checked is asked.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple, NoReturn, Protocol

from mcp_plugin import ids, questions, shell
from mcp_plugin.open_questions import KEPT_SECONDS, kept
from mcp_plugin.questions import Effect, Question
from peer.client import sign_in
from peer.client.blocking import Client, Direction, Document
from peer.dispatches.asking import offered_rules, rule_text
from peer.dispatches.text import line
from peer.machine.state_folder import StateFolder
from peer.protocol.errors import DispatchError

PREFIX = "mcp__plugin_dispatch_dispatch__"
PICKER = "AskUserQuestion"
SHELLS = ("Bash", "PowerShell", "Monitor")
MAX_INPUT = 4 * 1024 * 1024
"""Bytes of an event: a call of one of our tools has at most a task and its background."""
MAX_QUESTION = 60_000
PERSON_SECONDS = 1.2
"""A person takes at least this long to read a question and answer it."""
CHECK_SECONDS = 8
"""After that the person is asked. The host stops waiting for a hook after 15 seconds and goes on without it."""

Option = Literal["--calling", "--picked", "--shell"]


class Source(Protocol):
    """The methods of peer.client.blocking.Client that are used here."""

    def dispatch(self, dispatch_id: str) -> Document: ...

    def approvals(self) -> list[Document]: ...

    def contacts(self) -> Document: ...

    def folder(self, dispatch_id: str, cwd: str) -> Document: ...

    def dispatches(self, direction: Direction, *, limit: int | None = None) -> Document: ...


class Requirement(NamedTuple):
    """What a call needs: the question whose answer permits it, if there is one, and the words to ask with otherwise.

    `effect` is compared with what the answer permits; `exact` replaces arguments by what was shown.
    """

    question: Question | None
    effect: Effect
    text: str
    exact: Document


def requirement(source: Source, tool: str, given: Mapping[str, object], started_in: Path) -> Requirement:
    """Return what a call of one of our tools needs that changes something.

    Raises DispatchError, KeyError, StopIteration where that cannot be found out.
    """
    effect = questions.effect(tool, given)
    identity: Document = {}
    if len(part := str(effect.get("dispatch_id", "x" * ids.WHOLE))) < ids.WHOLE:
        directions: tuple[Direction, ...] = ("received", "sent")
        pages = [source.dispatches(direction, limit=ids.PAGE)["dispatches"] for direction in directions]
        identity["dispatch_id"] = ids.the_one(part, [str(row["dispatch_id"]) for rows in pages for row in rows])
        effect |= identity
    match tool, effect.get("action"):
        case "dispatch_send", _:
            exact = _exact(source, given, started_in)
            shown = {**effect, **exact, "files": [_described(path) for path in exact.get("files", ())]}
            text = questions.call_text(tool, {name: value for name, value in shown.items() if value != []})
            return Requirement(None, effect, text, exact)
        case "dispatch_act", "accept":
            document = source.dispatch(str(effect["dispatch_id"]))
            folder = str(effect.setdefault("cwd", questions.folder(document)))
            found = _looked(source, str(effect["dispatch_id"]), folder)
            extra = {name: value for name, value in effect.items() if name not in ("action", "dispatch_id", "cwd")}
            text = questions.accept_text(document, folder, found["obstacles"], extra, toolchains=found["toolchains"])
            waits = document["status"] == "pending"
            question = questions.accept(document)
            if found["obstacles"] and folder not in (questions.folder(document), questions.offered_folder(document)):
                question = questions.accept_in(document, folder, found["obstacles"], toolchains=found["toolchains"])
            return Requirement(
                question if waits else None,
                effect,
                text,
                {**identity, "cwd": folder} if waits else identity,
            )
        case "dispatch_act" | "dispatch_approve", "approve" | "deny":
            wanted = (effect["dispatch_id"], effect["request_id"])
            row = next(row for row in source.approvals() if (row["dispatch_id"], row["request_id"]) == wanted)
            more = {name: value for name, value in effect.items() if name not in ("dispatch_id", "request_id")}
            if effect.get("grant") in ("always", "session") and (rules := offered_rules(row)):
                number = effect.get("rule")
                more["rule"] = rule_text(rules[number]) if isinstance(number, int) else number
            text = "\n".join(["Pass on this answer?", *questions.facts(more, ""), questions.gate_text(row)])
            return Requirement(questions.gate(row), effect, text, identity)
        case "dispatch_act", "decline":
            document = source.dispatch(str(effect["dispatch_id"]))
            text = questions.call_text(tool, {**effect, "sender": document["sender_id"], "task": document["task"]})
            waits = document["status"] == "pending"
            return Requirement(questions.accept(document) if waits else None, effect, text, identity)
    return Requirement(None, effect, questions.call_text(tool, effect), identity)


def _looked(source: Source, dispatch_id: str, folder: str) -> dict[str, list[str]]:
    """Return {obstacles, toolchains} of a folder; nothing of one that the call itself will be refused for."""
    try:
        found = source.folder(dispatch_id, folder) if folder else {}
    except DispatchError:
        found = {}
    return {name: list(found.get(name) or []) for name in ("obstacles", "toolchains")}


def _exact(source: Source, given: Mapping[str, object], started_in: Path) -> Document:
    """Return the recipient's address in place of an alias, and each file's own path in place of what leads to it."""
    named = str(given["recipient"])
    peers = {str(row["peer"]) for row in source.contacts()["trust"] if row.get("alias") == named}
    exact: Document = {"recipient": peers.pop()} if len(peers) == 1 else {}
    files = given.get("files")
    if isinstance(files, list) and files:
        exact["files"] = [str((started_in / Path(str(name)).expanduser()).resolve()) for name in files]
    return exact


def _described(path: str) -> str:
    try:
        return f"{path} ({Path(path).stat().st_size:,} bytes)"
    except OSError:
        return f"{path} (cannot be read)"


# --- answers


def shown(event: Document, now: float) -> Document | None:
    """Return the entry for a picker that is about to be shown: {session, call, at, asked, answer: None}.

    None where it is no single question, or where the model wrote more than questions, such as the answers.
    """
    given = event["tool_input"]
    if set(given) != {"questions"} or len(given["questions"]) != 1:
        return None
    (asked,) = given["questions"]
    if len(json.dumps(asked)) > MAX_QUESTION:
        return None
    session, call = str(event["session_id"]), str(event["tool_use_id"])
    return {"session": session, "call": call, "at": now, "asked": asked, "answer": None}


def answered(entry: Document, event: Document, now: float) -> Document | None:
    """Return the entry with its answer; None where the answer is of another question, or faster than a person."""
    if entry["answer"] is not None or now - entry["at"] < PERSON_SECONDS:
        return None
    if event["tool_input"]["questions"] != [entry["asked"]]:
        return None
    answer = event["tool_response"]["answers"].get(entry["asked"]["question"])
    return {**entry, "at": now, "answer": answer} if isinstance(answer, str) else None


def matching(entries: list[Document], required: Requirement, session: str, now: float) -> Document | None:
    """Return the answer of this session, at most KEPT_SECONDS old, that permits exactly this call."""
    question = required.question
    if question is None:
        return None
    for entry in entries:
        if (
            entry["session"] == session
            and 0 <= now - entry["at"] <= KEPT_SECONDS
            and entry["asked"] == question.picker()
            and question.permitted(entry["answer"]) == required.effect
        ):
            return entry
    return None


# --- events


def handle(folder: StateFolder, option: Option, event: Document, now: float) -> str:
    """Handle one event; return what the hook prints. `now`: seconds of a clock that all hooks of a machine share."""
    if option == "--shell":
        return _shell(folder, event)
    if option == "--picked":
        with kept(folder) as entries:
            entry = next(entry for entry in entries if entry["call"] == str(event["tool_use_id"]))
            entries.remove(entry)
            if (new := answered(entry, event, now)) is not None:
                entries.append(new)
        return ""
    if event["tool_name"] == PICKER:
        if (new := shown(event, now)) is not None:
            with kept(folder) as entries:
                entries.append(new)
        return ""
    return _called(folder, event, now)


def _called(folder: StateFolder, event: Document, now: float) -> str:
    tool, given = str(event["tool_name"]).removeprefix(PREFIX), event["tool_input"]
    if questions.reads(tool, given):
        return ruling("allow", "it changes nothing")
    if (tool, given.get("action")) in questions.ASKED_IN_A_FORM:
        return ruling("allow", "the server asks in a form of its own, or does nothing")
    started_in = Path(os.environ.get("CLAUDE_PROJECT_DIR") or event["cwd"])
    required = requirement(Client(folder, sign_in.named(folder)), tool, given, started_in)
    replaced = {**given, **required.exact} if required.exact else None
    with kept(folder) as entries:
        entry = matching(entries, required, str(event["session_id"]), now)
        if entry is None:
            return ruling("ask", questions.in_dialog(f"dispatch: {required.text}"), replaced)
        entries.remove(entry)  # each yes counts for one call
    return ruling("allow", "the picker asked for exactly this", replaced)


def _shell(folder: StateFolder, event: Document) -> str:
    tool, given = str(event["tool_name"]), event["tool_input"]
    if tool in SHELLS:
        commands = list(questions.leaves(given))
        if not any(shell.decides(command, folder.path, Path.home()) for command in commands):
            return ""
        what = "This command makes a decision in dispatch, or touches dispatch's own data:"
        asked = "\n".join([f"dispatch: {what}", *questions.facts(given, "the command itself")])
        return ruling("ask", questions.in_dialog(asked))
    named = next((str(given[name]) for name in ("file_path", "notebook_path", "path") if given.get(name)), "/")
    path = Path(str(event.get("cwd") or "/")) / Path(named).expanduser()
    if path.resolve().is_relative_to(folder.path.resolve()):
        return ruling("ask", f"dispatch: {line(tool)} would read or write in dispatch's own folder: {line(str(path))}")
    return ""


def ruling(decision: Literal["ask", "allow"], reason: str, replaced: Mapping[str, object] | None = None) -> str:
    """Return the output by which the host asks the person, or lets the call run. `replaced`: the call's new input."""
    document: Document = {
        "hookEventName": "PreToolUse",
        "permissionDecision": decision,
        "permissionDecisionReason": reason,
    }
    if replaced is not None:
        document["updatedInput"] = replaced
    return json.dumps({"hookSpecificOutput": document}) + "\n"


def run(option: Option) -> NoReturn:
    """Handle one hook event from standard input, then exit with 0; an error before a call has the person asked."""
    unsure = ruling("ask", "dispatch: could not find out what this call is about")

    def late(*_: object) -> NoReturn:
        raise TimeoutError

    signal.signal(signal.SIGALRM, late)
    signal.alarm(CHECK_SECONDS)
    output = "" if option == "--picked" else unsure
    try:
        event = json.loads(sys.stdin.buffer.read(MAX_INPUT))
        if event["tool_name"] == PICKER:
            output = ""  # an unrecorded question permits nothing
        output = handle(StateFolder.locate(), option, event, time.time())
    except Exception:  # noqa: S110 - see above: what could not be judged is asked
        pass
    signal.alarm(0)
    sys.stdout.write(output)
    sys.stdout.flush()
    os._exit(0)
