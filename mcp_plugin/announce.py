"""`dispatch-mcp announce`: prints what waits for the person, for a Claude Code session. Ids and senders, never a task.

The plugin's SessionStart hook runs it once (`--session-start`), its monitor for as long as the session lasts
(`--follow`). Both attach to a running node and start none; without one, or without a sign-in, they print nothing. The
host's model reads the output, so it holds no text that a sender can choose: identifiers of a strict form and an
address. Imports only what loads in a few milliseconds (no click, no SDK): a session waits for the hook.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, NoReturn, Protocol

from peer.client import sign_in
from peer.client.blocking import Client, Direction, Document
from peer.machine.state_folder import StateFolder
from peer.protocol.errors import DispatchError

SESSION_START_SECONDS = 3
"""The hook ends without output after this; Claude Code stops waiting after 5 and shows an error."""
NODE_SECONDS, NO_NODE_SECONDS = 2.0, 5.0
"""Seconds between two looks: while a node runs, two requests to it; while none does, one file is read."""
PATIENCE_SECONDS = 10.0
"""A call is announced after it has waited this long: by then the session has answered most of its own."""
MARGIN_SECONDS = 10.0
"""The monitor repeats what arrived in this time before its start, since the hook may have looked before that."""
LINES = 10
"""Lines printed at a time, so that a contact with many dispatches does not fill the session."""
PAGE = 200

_ID = re.compile(r"[0-9a-f-]{36}", re.ASCII)
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}", re.ASCII)
_ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9.-]{1,190}", re.ASCII)
_UNSHOWN = "somebody whose address cannot be shown"
_CALL = "call "


class Key(NamedTuple):
    """What is announced once: one attempt of a dispatch, or one waiting call of its run."""

    dispatch_id: str
    detail: str


class Waiting(NamedTuple):
    """One item that waits for the person: its line, and since when (RFC 3339, UTC; empty for a call)."""

    line: str
    since: str


class Source(Protocol):
    """The methods of peer.client.blocking.Client that are used here."""

    def dispatches(self, direction: Direction, *, status: str | None = None, limit: int | None = None) -> Document: ...

    def approvals(self) -> list[Document]: ...


def waiting_items(source: Source) -> dict[Key, Waiting]:
    """Return what waits for the person now, dispatches first. Raises DispatchError."""
    found: dict[Key, Waiting] = {}
    for row in source.dispatches("received", status="pending", limit=PAGE)["dispatches"]:
        identity = str(row.get("dispatch_id"))
        if row.get("status") == "pending" and _ID.fullmatch(identity):
            line = f"dispatch {identity} from {shown_sender(row)} waits in the inbox"
            found[Key(identity, f"attempt {row.get('attempt')}")] = Waiting(line, str(row.get("updated")))
    for call in source.approvals()[:PAGE]:
        identity, request = str(call.get("dispatch_id")), str(call.get("request_id"))
        if _ID.fullmatch(identity) and _REQUEST_ID.fullmatch(request):
            line = f"call {request} of dispatch {identity} from {shown_sender(call)} waits for an answer"
            found[Key(identity, f"{_CALL}{request}")] = Waiting(line, "")
    return found


def shown_sender(document: Document) -> str:
    """Return the sender's address if it has the plain form, in which no sentence can be written."""
    address = str(document.get("sender_id") or "")
    return address if _ADDRESS.fullmatch(address) else _UNSHOWN


def bounded(lines: Sequence[str]) -> list[str]:
    """Return at most LINES lines; the last one counts those left out."""
    if len(lines) <= LINES:
        return list(lines)
    return [*lines[: LINES - 1], f"and {len(lines) - LINES + 1} more that wait"]


class Announcements:
    """What was announced already. Pure: what waits and the time (seconds of a monotonic clock) are arguments."""

    def __init__(self) -> None:
        self._done: set[Key] = set()
        self._seen: dict[Key, float] = {}

    def skip_older(self, waiting: Mapping[Key, Waiting], before: str) -> None:
        """Count the dispatches that came before this time as announced, which the hook did."""
        self._done.update(key for key, item in waiting.items() if item.since and item.since < before)

    def due(self, waiting: Mapping[Key, Waiting], now: float) -> list[str]:
        """Return the lines to announce now. Items that no longer wait are forgotten, which bounds the memory."""
        self._done &= waiting.keys()
        self._seen = {key: self._seen.get(key, now) for key in waiting if key not in self._done}
        due = [key for key, seen in self._seen.items() if now - seen >= _patience(key)]
        self._done.update(due)
        return bounded([waiting[key].line for key in due])


def _patience(key: Key) -> float:
    return PATIENCE_SECONDS if key.detail.startswith(_CALL) else 0.0


def session_start(source: Source) -> str:
    """Return the output of the SessionStart hook: one JSON document for the person and the model, or nothing."""
    lines = bounded([item.line for item in waiting_items(source).values()])
    if not lines:
        return ""
    text = "\n".join(lines)
    output = {"hookEventName": "SessionStart", "additionalContext": f"Announced by dispatch:\n{text}"}
    return json.dumps({"systemMessage": f"dispatch: {text}", "hookSpecificOutput": output}) + "\n"


def follow(folder: StateFolder) -> None:
    """Print one line for each dispatch that arrives and each call that waits, until the session has ended."""
    source, announcements, parent = Client(folder, sign_in.named(folder)), Announcements(), os.getppid()
    seen_by_hook = time.time() - MARGIN_SECONDS
    first, pause = True, NODE_SECONDS
    reader = select.poll()
    reader.register(1, 0)  # without events: POLLERR is reported anyway, when the reader has closed
    while os.getppid() == parent:
        lines: list[str] = []
        try:
            waiting = waiting_items(source)
            if first and _node_ran_at(folder, seen_by_hook):
                announcements.skip_older(waiting, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seen_by_hook)))
            lines, pause = announcements.due(waiting, time.monotonic()), NODE_SECONDS
        except DispatchError:
            pause = NO_NODE_SECONDS
        first = False
        if lines:
            sys.stdout.write("\n".join(lines) + "\n")
            sys.stdout.flush()
        if reader.poll(pause * 1000):
            return


def _node_ran_at(folder: StateFolder, when: float) -> bool:
    """Whether the node that runs now had started by then (seconds since the epoch)."""
    try:
        return folder.daemon_json.stat().st_mtime < when
    except OSError:
        return False


def run(option: Literal["--session-start", "--follow"]) -> NoReturn:
    """Run as the hook or the monitor, then exit with 0, also after an error: an error is not shown in the session."""
    for ending in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM, signal.SIGHUP):
        signal.signal(ending, lambda *_: os._exit(0))
    try:
        folder = StateFolder.locate()
        if option == "--follow":
            follow(folder)
        else:
            signal.alarm(SESSION_START_SECONDS)
            sys.stdout.write(session_start(Client(folder, sign_in.named(folder))))
            sys.stdout.flush()
    except Exception:  # noqa: S110 - see above
        pass
    os._exit(0)
