"""Who is waiting to see what changed: one bell a dispatch, one for everything, and numbered notes of what it was.

Holds no data: the store does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final, Literal, NamedTuple

import trio

Kind = Literal["dispatch", "trust", "invitations", "settings"]
KEPT: Final = 2_000
"""Notes kept for a view that comes back. One that missed more reads everything anew, which costs less."""


class ChangeSignal:
    """Rung after a step is durable. A waiter takes the bell before it reads, so that no change falls between."""

    def __init__(self) -> None:
        self._bells: dict[str, trio.Event] = {}
        self._any = trio.Event()

    def of(self, dispatch_id: str) -> trio.Event:
        """Return the bell that the next change of this dispatch rings."""
        return self._bells.setdefault(dispatch_id, trio.Event())

    @property
    def any(self) -> trio.Event:
        """Return the bell that the next change of anything rings."""
        return self._any

    def ring(self, dispatch_ids: Iterable[str] = ()) -> None:
        """Wake all who wait for one of these, and for anything."""
        for dispatch_id in dispatch_ids:
            # Popped: a bell is made anew by whoever waits next, so those of old dispatches do not pile up.
            bell = self._bells.pop(dispatch_id, None)
            if bell is not None:
                bell.set()
        self._any.set()
        self._any = trio.Event()


class Note(NamedTuple):
    """Something changed: its number, what kind of thing, and which (a dispatch's id; "" where lists are short)."""

    number: int
    kind: Kind
    key: str


class ChangeLog:
    """What changed lately, numbered, so that a view which was away for a moment need not read everything again.

    The numbers begin anew with every node, and `life` says which node's they are.
    """

    def __init__(self, life: str) -> None:
        self.life = life
        self._notes: deque[Note] = deque(maxlen=KEPT)
        self._last = 0

    @property
    def last(self) -> int:
        """The number of the newest note; 0 for none yet."""
        return self._last

    def note(self, kind: Kind, key: str = "") -> None:
        """Write down that something changed, once it is durable."""
        self._last += 1
        self._notes.append(Note(self._last, kind, key))

    def since(self, number: int) -> list[Note] | None:
        """Return the notes after a number, of each thing the newest; None when it is too old, or from the future."""
        missed = self._last - number
        if not 0 <= missed <= len(self._notes):
            return None
        newest = {(note.kind, note.key): note for note in list(self._notes)[len(self._notes) - missed :]}
        return sorted(newest.values())


class OpenPages:
    """How many local pages are open that notify their person themselves; while one is, the daemon keeps quiet."""

    def __init__(self) -> None:
        self._open = 0

    @property
    def notify(self) -> bool:
        """Whether some page does."""
        return self._open > 0

    @contextmanager
    def shown(self, *, notifies: bool) -> Iterator[None]:
        """Count a page while the block runs."""
        self._open += notifies
        try:
            yield
        finally:
            self._open -= notifies
