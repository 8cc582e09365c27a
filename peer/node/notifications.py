"""Notifications: for which changes there are any, and those on the desktop, by the daemon while no page is open.

Every way of telling gets what is decided here; those for a person away from the desk are in away.py. A notification
names the other person, never what they wrote: it may be shown on a locked screen. The desktop is reached through
`notify-send` (freedesktop.org, Desktop Notifications Specification), on a Mac through `osascript`. Without either, or
if it fails, there are no notifications and nothing else changes.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import structlog
import trio

from peer.dispatches import text
from peer.node.away import AwayNotifier
from peer.node.changes import ChangeLog, ChangeSignal, OpenPages
from peer.steps.context import Context
from peer.store import change_sets, dispatches, rows, trace

log = structlog.get_logger(__name__)

SHOW_SECONDS: Final = 5.0
"""How long the program may take to pass the text to the desktop."""
MOST_A_MINUTE: Final = 10
"""Bound for a contact that floods the inbox. The inbox still shows everything."""
REMEMBERED: Final = 4_000
MOST_LOOKED_AT: Final = 200
"""Changed dispatches looked at per wake-up; of more at once the oldest get no notification."""
NAME_LENGTH: Final = 80
PASSED_ON: Final = ("DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "HOME", "LANG", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR")
"""The only environment variables passed to the program: those that lead to the desktop."""
SUMMARIES: Final[Mapping[str, str]] = {
    "arrived": "{peer} sent you a dispatch",
    "asks": "A run for {peer} waits for your answer",
    "changed": "A run for {peer} changed files that wait for your review",
    "held": "A run for {peer} has ended: review its result before it is sent",
    "completed": "{peer}'s machine has a result for you",
    "failed": "Your dispatch to {peer} failed",
    "declined": "{peer} declined your dispatch",
    "rejected": "{peer}'s machine refused your dispatch",
}


class Notification(NamedTuple):
    """`what`: a key of SUMMARIES. `key`: identifies the occasion, so that it is notified once."""

    what: str
    peer: str
    key: str


def notifications_for(
    row: rows.Dispatch, waiting: list[rows.Approval], changes: Sequence[rows.ChangeSetRow] = (), *, since: int
) -> Iterator[Notification]:
    """Yield the notifications that a dispatch, its waiting calls and its waiting changes give rise to since a time
    (ms). Pure.
    """
    since = max(since, row.thinned)  # that its events and files were removed is no news
    if row.direction == "received" and row.state == "pending" and row.updated >= since:
        yield Notification("arrived", row.peer, f"{row.dispatch_id} arrived {row.interrupted}")
    if row.direction == "received" and row.state == "held" and row.updated >= since:
        yield Notification("held", row.peer, f"{row.dispatch_id} held {row.attempt}")
    if row.direction == "sent" and row.state in SUMMARIES and row.updated >= since:
        yield Notification(row.state, row.peer, f"{row.dispatch_id} {row.state}")
    for item in waiting:
        if item.asked >= since:
            yield Notification("asks", row.peer, f"{row.dispatch_id} asks {item.attempt} {item.request_id}")
    for kept in changes:
        if kept.state == "waiting" and kept.created >= since:
            yield Notification("changed", row.peer, f"{row.dispatch_id} changed {kept.attempt}")


def summary_of(notification: Notification) -> str:
    """Return the text of a notification, on one line of bounded length."""
    return SUMMARIES[notification.what].format(peer=text.line(notification.peer, limit=NAME_LENGTH))


def command(summary: str, platform: str = sys.platform) -> list[str] | None:
    """Return the argv that shows a notification, None if no program can. Untrusted text comes last, as data.

    notify-send: everything is in the summary, because a body may hold markup (Desktop Notifications Specification,
    section 4). osascript: the text is an argument of the script, after one that cannot be an option.
    """
    if platform == "darwin":
        program = shutil.which("osascript")
        lines = ("on run words", 'display notification (item 2 of words) with title "dispatch"', "end run")
        return [program, *(word for each in lines for word in ("-e", each)), "dispatch", summary] if program else None
    program = shutil.which("notify-send") if platform.startswith(("linux", "freebsd")) else None
    return [program, "--app-name=dispatch", "--expire-time=15000", "--", summary] if program else None


class Notifier:
    """Watches the node's changes and shows notifications."""

    def __init__(
        self, *, context: Context, changes: ChangeLog, signal: ChangeSignal, pages: OpenPages, away: AwayNotifier
    ) -> None:
        self._context = context
        self._changes = changes
        self._signal = signal
        self._pages = pages
        self._away = away
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._times: deque[float] = deque(maxlen=MOST_A_MINUTE)
        self._since = context.clock()

    async def run(self, setting: Callable[[], str]) -> None:
        """Show notifications of new changes while `setting()` is "on". Runs until cancelled."""
        seen = self._changes.last
        while True:
            changed = self._signal.any
            changes = self._changes.since(seen)
            seen = self._changes.last
            for change in (changes or [])[-MOST_LOOKED_AT:]:
                if change.kind == "dispatch":
                    await self._look_at(change.key, quiet=setting() != "on" or self._pages.notify)
            await changed.wait()

    async def _look_at(self, dispatch_id: str, *, quiet: bool) -> None:
        def query(db: sqlite3.Connection) -> tuple[rows.Dispatch | None, list[rows.Approval], list[rows.ChangeSetRow]]:
            row = dispatches.get(db, dispatch_id)
            waiting = [item for item in trace.open_approvals(db) if item.dispatch_id == dispatch_id]
            busy = {each.attempt for each in change_sets.unfinished(db) if each.dispatch_id == dispatch_id}
            kept = [item for item in change_sets.of_dispatch(db, dispatch_id) if item.attempt not in busy]
            return row, waiting, kept

        row, waiting, changes = await self._context.store.read(query)
        self._since = min(self._since, self._context.clock())  # less where the clock was set back
        found = () if row is None else tuple(notifications_for(row, waiting, changes, since=self._since))
        self._away.keep(dispatch_id, {each.key for each in found})
        for notification in found:
            if notification.key in self._seen:
                continue
            self._seen[notification.key] = None
            while len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
            self._away.note(notification.what, notification.peer, notification.key)
            # Marked as seen even if a page showed it or it is not wanted, so that it does not come later.
            if not quiet and not self._too_many():
                await self._show(summary_of(notification))

    def _too_many(self) -> bool:
        now = trio.current_time()
        if len(self._times) == MOST_A_MINUTE and now - self._times[0] < 60:
            return True
        self._times.append(now)
        return False

    async def _show(self, summary: str) -> None:
        if (argv := command(summary)) is None:
            return
        environment = {name: value for name in PASSED_ON if (value := os.environ.get(name))}
        try:
            with trio.move_on_after(SHOW_SECONDS) as limit:
                done = await trio.run_process(
                    argv,
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
