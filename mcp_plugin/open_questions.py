"""The questions that sessions ask their person right now, in a file of the state folder that hooks and server share.

A hook stores the picker before it is shown and its answer after it (witness.py), the server a form while it is open:
what is being asked is not announced beside it. One process at a time changes the file.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from peer.client.blocking import Document
from peer.machine.state_folder import StateFolder, read_private
from peer.protocol.errors import DispatchError

MAX_KEPT = 8
KEPT_SECONDS = 600.0
"""How long an answer counts: a call waits two minutes, but a person may read details before they accept."""
MEMBERS = {"session", "call", "at", "asked", "answer"}
FORM = "form"
"""The session of an entry that is a form of the server's: no answer is ever stored with it."""


@contextmanager
def kept(folder: StateFolder) -> Iterator[list[Document]]:
    """Yield the stored entries, to be changed in place; afterwards the newest MAX_KEPT are stored.

    One hook at a time, so that two calls at once do not both find the same answer. Raises DispatchError for a file
    that others can read, ValueError for a broken one.
    """
    lock = os.open(folder.picks.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # bounded by the alarm of `run`
        found = json.loads(read_private(folder.picks)) if folder.picks.exists() else []
        entries = [entry for entry in found if isinstance(entry, dict) and entry.keys() == MEMBERS]
        before = json.dumps(entries)
        yield entries
        if json.dumps(entries) != before:
            folder.write_private(folder.picks, json.dumps(entries[-MAX_KEPT:]).encode())
    finally:
        os.close(lock)


def questions_open(folder: StateFolder, now: float) -> list[str]:
    """Return the texts of the questions that nobody has answered yet. `now`: seconds since the epoch."""
    try:
        found = json.loads(read_private(folder.picks)) if folder.picks.exists() else []
        return [
            str(entry["asked"]["question"])
            for entry in found
            if entry["answer"] is None and 0 <= now - entry["at"] <= KEPT_SECONDS
        ]
    except (DispatchError, ValueError, TypeError, KeyError):
        return []


def form_opened(folder: StateFolder, text: str) -> str:
    """Note a form that is shown; return the name by which `form_closed` forgets it. Never raises."""
    name = secrets.token_hex(8)
    entry = {"session": FORM, "call": name, "at": time.time(), "asked": {"question": text}, "answer": None}
    with suppress(DispatchError, OSError, ValueError), kept(folder) as entries:
        entries.append(entry)
    return name


def form_closed(folder: StateFolder, name: str) -> None:
    """Forget a form. Never raises."""
    with suppress(DispatchError, OSError, ValueError), kept(folder) as entries:
        entries[:] = [entry for entry in entries if entry["call"] != name]
