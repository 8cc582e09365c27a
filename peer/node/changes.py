"""Change notification for live views: events to wait for, and a numbered log of what changed.

The data itself is in the store only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final, Literal, NamedTuple
from weakref import WeakValueDictionary

import trio

Kind = Literal["dispatch", "trust", "invitations", "settings", "setup"]
KEPT: Final = 2_000
"""Changes kept for a view that reconnects. One that missed more reads everything again, which costs less."""


class ChangeSignal:
    """Wakes waiting views after a step is durable. Take the event before reading the store, so no change is missed."""

    def __init__(self) -> None:
        self._events: WeakValueDictionary[str, trio.Event] = WeakValueDictionary()
        """Only what somebody waits for: an event that its last waiter dropped is gone, whether it was set or not."""
        self._any = trio.Event()

    def of(self, dispatch_id: str) -> trio.Event:
        """Return the event that the next change of this dispatch sets."""
        return self._events.setdefault(dispatch_id, trio.Event())

    @property
    def any(self) -> trio.Event:
        """Return the event that the next change of anything sets."""
        return self._any

    def notify(self, dispatch_ids: Iterable[str] = ()) -> None:
        """Set the events of these dispatches and the event of any change."""
        for dispatch_id in dispatch_ids:
            # Removed, because an event is set once; the next waiter makes a new one.
            event = self._events.pop(dispatch_id, None)
            if event is not None:
                event.set()
        self._any.set()
        self._any = trio.Event()


class Change(NamedTuple):
    """One logged change: its number, the kind of thing, and its key (a dispatch's id; "" for the other kinds)."""

    number: int
    kind: Kind
    key: str


class ChangeLog:
    """The latest changes, numbered, so that a view that reconnects need not read everything again.

    Numbers start at 1 in every process of a node; `life` is random and identifies the process.
    """

    def __init__(self, life: str) -> None:
        self.life = life
        self._changes: deque[Change] = deque(maxlen=KEPT)
        self._last = 0

    @property
    def last(self) -> int:
        """The number of the newest change; 0 for none yet."""
        return self._last

    def note(self, kind: Kind, key: str = "") -> None:
        """Log a durable change."""
        self._last += 1
        self._changes.append(Change(self._last, kind, key))

    def since(self, number: int) -> list[Change] | None:
        """Return the changes after `number`, only the newest of each thing; None if `number` is too old or too high."""
        missed = self._last - number
        if not 0 <= missed <= len(self._changes):
            return None
        newest = {(item.kind, item.key): item for item in list(self._changes)[len(self._changes) - missed :]}
        return sorted(newest.values())


class OpenPages:
    """Counts open browser tabs that show notifications. While there is one, the daemon shows none."""

    def __init__(self) -> None:
        self._open = 0

    @property
    def notify(self) -> bool:
        """Whether a page shows notifications."""
        return self._open > 0

    @contextmanager
    def opened(self, *, notifies: bool) -> Iterator[None]:
        """Count a page as open while the block runs."""
        self._open += notifies
        try:
            yield
        finally:
            self._open -= notifies
