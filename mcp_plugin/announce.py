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

from peer.client.blocking import Client, Document
from peer.machine.state_folder import StateFolder
from peer.protocol.errors import DispatchError

SESSION_START_SECONDS = 3
"""The hook gives up in silence after this; Claude Code would after 5, with words."""
NODE_SECONDS, NO_NODE_SECONDS = 2.0, 5.0
"""Seconds between two looks while a node runs: two reads of its store; and while none does: one file."""
PATIENCE_SECONDS = 10.0
"""A call is announced when it has waited this long: what the session itself asks about is mostly answered by then."""
MARGIN_SECONDS = 10.0
"""What the hook may have been too early to see, the monitor says, although that may be once too often."""
LINES = 10
"""At most so many lines at a time: a contact with many dispatches must not fill a session."""
PAGE = 200

_ID = re.compile(r"[0-9a-f-]{36}", re.ASCII)
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}", re.ASCII)
_ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9.-]{1,190}", re.ASCII)
_NOBODY = "somebody whose address cannot be shown"
_CALL = "call "


class Key(NamedTuple):
    """What is announced once: a dispatch in one of its attempts, or one waiting call of it."""

    dispatch_id: str
    detail: str


class Waiting(NamedTuple):
    """One thing that waits for the person: its line, and since when (RFC 3339, UTC; empty for a call)."""

    line: str
    since: str


class Source(Protocol):
    """What of the daemon's client is used here."""

    def dispatches(self, box: str, *, status: str | None = None, limit: int | None = None) -> Document: ...

    def approvals(self) -> list[Document]: ...


def look(source: Source) -> dict[Key, Waiting]:
    """Return what waits for the person now, dispatches first. Raises DispatchError."""
    found: dict[Key, Waiting] = {}
    for row in source.dispatches("inbox", status="pending", limit=PAGE)["dispatches"]:
        identity = str(row.get("dispatch_id"))
        if row.get("status") == "pending" and _ID.fullmatch(identity):
            line = f"dispatch {identity} from {sender(row)} waits in the inbox"
            found[Key(identity, f"attempt {row.get('attempt')}")] = Waiting(line, str(row.get("updated")))
    for call in source.approvals()[:PAGE]:
        identity, request = str(call.get("dispatch_id")), str(call.get("request_id"))
        if _ID.fullmatch(identity) and _REQUEST_ID.fullmatch(request):
            line = f"call {request} of dispatch {identity} from {sender(call)} waits for an answer"
            found[Key(identity, f"{_CALL}{request}")] = Waiting(line, "")
    return found


def sender(document: Document) -> str:
    """Return who sent it, if that is a plain address and so can hold no sentence."""
    named = str(document.get("sender_id") or "")
    return named if _ADDRESS.fullmatch(named) else _NOBODY


def bounded(lines: Sequence[str]) -> list[str]:
    """Return at most LINES lines, the last of which says how many more there are."""
    if len(lines) <= LINES:
        return list(lines)
    return [*lines[: LINES - 1], f"and {len(lines) - LINES + 1} more that wait"]


class News:
    """What was said already. Pure: what waits and the time (seconds, of any steady clock) are arguments."""

    def __init__(self) -> None:
        self._said: set[Key] = set()
        self._seen: dict[Key, float] = {}

    def know(self, waiting: Mapping[Key, Waiting], before: str) -> None:
        """Take the dispatches that came before this time as said: the hook said them."""
        self._said.update(key for key, item in waiting.items() if item.since and item.since < before)

    def tell(self, waiting: Mapping[Key, Waiting], now: float) -> list[str]:
        """Return the lines that are new. What no longer waits is forgotten, so this stays as small as the inbox."""
        self._said &= waiting.keys()
        self._seen = {key: self._seen.get(key, now) for key in waiting if key not in self._said}
        due = [key for key, seen in self._seen.items() if now - seen >= _patience(key)]
        self._said.update(due)
        return bounded([waiting[key].line for key in due])


def _patience(key: Key) -> float:
    return PATIENCE_SECONDS if key.detail.startswith(_CALL) else 0.0


def session_start(source: Source) -> str:
    """Return what the SessionStart hook prints: one JSON document for the person and the model, or nothing."""
    lines = bounded([item.line for item in look(source).values()])
    if not lines:
        return ""
    told = "\n".join(lines)
    output = {"hookEventName": "SessionStart", "additionalContext": f"Announced by dispatch:\n{told}"}
    return json.dumps({"systemMessage": f"dispatch: {told}", "hookSpecificOutput": output}) + "\n"


def follow(folder: StateFolder) -> None:
    """Print one line for each dispatch that comes and each call that waits, until the session is gone."""
    source, news, started, parent = Client(folder), News(), time.time(), os.getppid()
    first, pause = True, NODE_SECONDS
    reader = select.poll()
    reader.register(1, 0)  # no event wanted: an error is told anyway, when nobody reads any more
    while os.getppid() == parent:
        lines: list[str] = []
        try:
            waiting = look(source)
            if first and _node_was_there(folder, started - MARGIN_SECONDS):
                news.know(waiting, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(started - MARGIN_SECONDS)))
            lines, pause = news.tell(waiting, time.monotonic()), NODE_SECONDS
        except DispatchError:
            pause = NO_NODE_SECONDS
        first = False
        if lines:
            sys.stdout.write("\n".join(lines) + "\n")
            sys.stdout.flush()
        if reader.poll(pause * 1000):
            return


def _node_was_there(folder: StateFolder, when: float) -> bool:
    """Whether the node that runs now ran at that time already (seconds since the epoch)."""
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
            sys.stdout.write(session_start(Client(folder)))
            sys.stdout.flush()
    except Exception:  # noqa: S110 - see above
        pass
    os._exit(0)
