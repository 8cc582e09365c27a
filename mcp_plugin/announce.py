"""`dispatch-mcp announce`: says what waits for the person, in a Claude Code session. Counts and senders, never a task.

The plugin's SessionStart hook runs it once (`--session-start`), its monitor for as long as the session lasts
(`--follow`). Both attach to a running node and start none; without one, or without a sign-in, they print nothing. The
host's model reads the output, so it holds no text that a sender can choose but an address of a strict form. Imports
only what loads in a few milliseconds (no click, no SDK): a session waits for the hook.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, NoReturn, Protocol

from mcp_plugin.open_questions import questions_open
from peer.client import sign_in
from peer.client.blocking import Client, Direction, Document
from peer.machine.state_folder import StateFolder, read_private
from peer.protocol.errors import DispatchError

SESSION_START_SECONDS = 3
"""The hook ends without output after this; Claude Code stops waiting after 5 and shows an error."""
NODE_SECONDS, NO_NODE_SECONDS = 2.0, 5.0
"""Seconds between two looks: while a node runs, two requests to it; while none does, one file is read."""
PATIENCE_SECONDS = 10.0
"""A call is announced after it has waited this long: by then the session has answered most of its own."""
MARGIN_SECONDS = 10.0
"""The monitor repeats what arrived in this time before its start, since the hook may have looked before that."""
NAMES = 5
"""Senders named in a line."""
PAGE = 200

_ID = re.compile(r"[0-9a-f-]{36}", re.ASCII)
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}", re.ASCII)
_ADDRESS = re.compile(r"([A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64})@[A-Za-z0-9.-]{1,190}", re.ASCII)
_UNSHOWN = "somebody whose address cannot be shown"
_CALL = "call "
INBOX = "/dispatch:inbox"


class Key(NamedTuple):
    """What is announced once: one attempt of a dispatch, or one waiting call of its run."""

    dispatch_id: str
    detail: str

    @property
    def is_call(self) -> bool:
        return self.detail.startswith(_CALL)


class Waiting(NamedTuple):
    """One item that waits for the person: its sender's address, and since when (RFC 3339, UTC; empty for a call)."""

    sender: str
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
            key = Key(identity, f"attempt {row.get('attempt')}")
            found[key] = Waiting(shown_sender(row), str(row.get("updated")))
    for call in source.approvals()[:PAGE]:
        identity, request = str(call.get("dispatch_id")), str(call.get("request_id"))
        if _ID.fullmatch(identity) and _REQUEST_ID.fullmatch(request):
            found[Key(identity, f"{_CALL}{request}")] = Waiting(shown_sender(call), "")
    return found


def shown_sender(document: Document) -> str:
    """Return the sender's address if it has the plain form, in which no sentence can be written."""
    address = str(document.get("sender_id") or "")
    return address if _ADDRESS.fullmatch(address) else _UNSHOWN


def sentence(waiting: Mapping[Key, Waiting]) -> str:
    """Return one line about what waits: how many of each kind, from whom, and where to look; "" for nothing."""
    tasks = [item.sender for key, item in waiting.items() if not key.is_call]
    calls = [item.sender for key, item in waiting.items() if key.is_call]
    parts = []
    if tasks:
        parts.append(f"{len(tasks)} {'task waits' if len(tasks) == 1 else 'tasks wait'} ({senders(tasks)})")
    if calls:
        what = "call of a run waits" if len(calls) == 1 else "calls of runs wait"
        parts.append(f"{len(calls)} {what} for an answer ({senders(calls)})")
    return f"{', '.join(parts)}: {INBOX}" if parts else ""


def senders(addresses: Sequence[str]) -> str:
    """Return who: `alice, bob ×2`, by the part before the @ where that names one of them alone; at most NAMES."""
    counts = Counter(addresses)
    parts = Counter(address.partition("@")[0] for address in counts)
    shown = []
    for address, count in counts.most_common():
        part = address.partition("@")[0]
        shown.append((part if parts[part] == 1 else address) + (f" ×{count}" if count > 1 else ""))
    return ", ".join([*shown[:NAMES], *([f"{len(shown) - NAMES} more"] if len(shown) > NAMES else [])])


class Announcements:
    """What was announced already. Pure: what waits and the time (seconds of a monotonic clock) are arguments."""

    def __init__(self) -> None:
        self._done: set[Key] = set()
        self._seen: dict[Key, float] = {}

    def skip_older(self, waiting: Mapping[Key, Waiting], before: str) -> None:
        """Count the dispatches that came before this time as announced, which the hook did."""
        self._done.update(key for key, item in waiting.items() if item.since and item.since < before)

    def due(self, waiting: Mapping[Key, Waiting], now: float) -> dict[Key, Waiting]:
        """Return what to announce now. Items that no longer wait are forgotten, which bounds the memory."""
        self._done &= waiting.keys()
        self._seen = {key: self._seen.get(key, now) for key in waiting if key not in self._done}
        due = [key for key, seen in self._seen.items() if now - seen >= (PATIENCE_SECONDS if key.is_call else 0.0)]
        self._done.update(due)
        return {key: waiting[key] for key in due}


def session_start(source: Source) -> str:
    """Return the output of the SessionStart hook: one JSON document for the person and the model, or nothing.

    Neither part of it begins a turn of the model's.
    """
    text = sentence(waiting_items(source))
    if not text:
        return ""
    output = {"hookEventName": "SessionStart", "additionalContext": f"Announced by dispatch: {text}"}
    return json.dumps({"systemMessage": f"dispatch: {text}", "hookSpecificOutput": output}) + "\n"


def without_asked(waiting: Mapping[Key, Waiting], asked: Sequence[str]) -> dict[Key, Waiting]:
    """Return what waits without the calls that a session asks about right now. `asked`: the texts of its questions."""
    return {
        key: item
        for key, item in waiting.items()
        if not key.is_call
        or not any(
            f"Call {key.detail.removeprefix(_CALL)} of dispatch {key.dispatch_id[-8:]}." in text for text in asked
        )
    }


def wanted(folder: StateFolder) -> bool:
    """Whether the person wants their session's model told of what comes, which costs them a turn of it each time.

    Read as plain JSON: loading the settings with their checks takes longer than a session waits. Anything that is not
    `on` is off.
    """
    try:
        return bool(json.loads(read_private(folder.config)).get("session_events") == "on")
    except (DispatchError, ValueError, AttributeError):
        return False


def follow(folder: StateFolder) -> None:
    """Print a line for what comes, while the person wants it, until the session has ended; else nothing.

    Each line is an event for the host, and begins a turn of its model's.
    """
    source, announcements, parent = Client(folder, sign_in.named(folder)), Announcements(), os.getppid()
    seen_by_hook = time.time() - MARGIN_SECONDS
    first, pause = True, NODE_SECONDS
    reader = select.poll()
    reader.register(1, 0)  # without events: POLLERR is reported anyway, when the reader has closed
    while os.getppid() == parent:
        text = ""
        if not wanted(folder):
            # Still here, since a monitor that ends is an event, too. What comes meanwhile is no news later.
            first, pause, seen_by_hook = True, NO_NODE_SECONDS, time.time() - MARGIN_SECONDS
        else:
            try:
                waiting = without_asked(waiting_items(source), questions_open(folder, time.time()))
                if first and _node_ran_at(folder, seen_by_hook):
                    announcements.skip_older(waiting, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seen_by_hook)))
                text, pause = sentence(announcements.due(waiting, time.monotonic())), NODE_SECONDS
            except DispatchError:
                pause = NO_NODE_SECONDS
            first = False
        if text:
            sys.stdout.write(text + "\n")
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
