"""Desktop notifications by the daemon while no page is open: what is worth one, what it says, and how it is shown.

A notification names the other person, never what they wrote: it may be shown on a locked screen. The desktop is reached
through `notify-send` (freedesktop.org, Desktop Notifications Specification), on a Mac through `osascript`; where there
is neither, or it shows nothing, nothing else changes: the node never waits for it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

import structlog
import trio

from peer.dispatches import text
from peer.node.changes import ChangeLog, ChangeSignal, OpenPages
from peer.steps.context import Context
from peer.store import dispatches, rows, trace

log = structlog.get_logger(__name__)

SHOW_SECONDS: Final = 5.0
"""How long the program may take: it hands the words to the desktop and ends."""
MOST_A_MINUTE: Final = 10
"""A contact that floods the inbox does not flood the desktop; the inbox has them all."""
REMEMBERED: Final = 4_000
MOST_LOOKED_AT: Final = 200
"""Dispatches looked at after one ring of the bell; where more changed, the rest goes unsaid."""
NAME_LENGTH: Final = 80
PASSED_ON: Final = ("DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "HOME", "LANG", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR")
"""Variables of the daemon's that the program gets: what leads to the desktop, and no other."""
SAYS: Final[Mapping[str, str]] = {
    "arrived": "{peer} sent you a dispatch",
    "asks": "A run for {peer} waits for your answer",
    "completed": "{peer}'s machine has a result for you",
    "failed": "Your dispatch to {peer} failed",
    "declined": "{peer} declined your dispatch",
    "rejected": "{peer}'s machine refused your dispatch",
}


class Event(NamedTuple):
    """One thing worth a notification: what (a key of SAYS), about whom, and what makes it this one and no other."""

    what: str
    peer: str
    key: str


def worth_telling(row: rows.Dispatch, waiting: list[rows.Approval], *, since: int) -> Iterator[Event]:
    """Yield what of a dispatch came about since a time (ms). Pure."""
    if row.direction == "received" and row.state == "pending" and row.updated >= since:
        yield Event("arrived", row.peer, f"{row.dispatch_id} arrived {row.interrupted}")
    if row.direction == "sent" and row.state in SAYS and row.updated >= since:
        yield Event(row.state, row.peer, f"{row.dispatch_id} {row.state}")
    for item in waiting:
        if item.asked >= since:
            yield Event("asks", row.peer, f"{row.dispatch_id} asks {item.attempt} {item.request_id}")


def words(event: Event) -> str:
    """Return what a notification says, on one line of bounded length."""
    return SAYS[event.what].format(peer=text.line(event.peer, limit=NAME_LENGTH))


def command(said: str, platform: str = sys.platform) -> list[str] | None:
    """Return the words that have the desktop show it, None where nothing can. What others chose comes last, as data.

    notify-send: all of it is the summary; a body may hold markup (Desktop Notifications Specification, section 4).
    osascript: an argument of the script, behind one that is no option.
    """
    if platform == "darwin":
        program = shutil.which("osascript")
        lines = ("on run words", 'display notification (item 2 of words) with title "dispatch"', "end run")
        return [program, *(word for each in lines for word in ("-e", each)), "dispatch", said] if program else None
    program = shutil.which("notify-send") if platform.startswith(("linux", "freebsd")) else None
    return [program, "--app-name=dispatch", "--expire-time=15000", "--", said] if program else None


class Notifier:
    """Watches the node's changes and says what is worth it."""

    def __init__(self, *, context: Context, changes: ChangeLog, signal: ChangeSignal, pages: OpenPages) -> None:
        self._context = context
        self._changes = changes
        self._signal = signal
        self._pages = pages
        self._said: OrderedDict[str, None] = OrderedDict()
        self._times: deque[float] = deque(maxlen=MOST_A_MINUTE)
        self._since = context.clock()

    async def run(self, setting: Callable[[], str]) -> None:
        """Notify of what happens from now on, while `setting` gives "on"."""
        seen = self._changes.last
        while True:
            bell = self._signal.any
            notes = self._changes.since(seen)
            seen = self._changes.last
            for note in (notes or [])[-MOST_LOOKED_AT:]:
                if note.kind == "dispatch":
                    await self._look_at(note.key, quiet=setting() != "on" or self._pages.notify)
            await bell.wait()

    async def _look_at(self, dispatch_id: str, *, quiet: bool) -> None:
        def query(db: sqlite3.Connection) -> tuple[rows.Dispatch | None, list[rows.Approval]]:
            row = dispatches.get(db, dispatch_id)
            return row, [item for item in trace.open_approvals(db) if item.dispatch_id == dispatch_id]

        row, waiting = await self._context.store.read(query)
        for event in () if row is None else worth_telling(row, waiting, since=self._since):
            if event.key in self._said:
                continue
            self._said[event.key] = None
            while len(self._said) > REMEMBERED:
                self._said.popitem(last=False)
            # Said by a page, or not wanted: it is not said again when the page closes.
            if not quiet and not self._too_many():
                await self._show(words(event))

    def _too_many(self) -> bool:
        now = trio.current_time()
        if len(self._times) == MOST_A_MINUTE and now - self._times[0] < 60:
            return True
        self._times.append(now)
        return False

    async def _show(self, said: str) -> None:
        if (shows := command(said)) is None:
            return
        environment = {name: value for name in PASSED_ON if (value := os.environ.get(name))}
        try:
            with trio.move_on_after(SHOW_SECONDS) as limit:
                done = await trio.run_process(
                    shows,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={"PATH": "/usr/local/bin:/usr/bin:/bin", **environment},
                    check=False,
                    start_new_session=True,
                )
        except OSError as error:
            log.info("notification.failed", error=type(error).__name__)
            return
        if limit.cancelled_caught or done.returncode != 0:
            log.info("notification.failed", timed_out=limit.cancelled_caught)
