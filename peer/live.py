"""Who is waiting to see what changed: one bell a dispatch, one for everything. Holds no data: the store does."""

from __future__ import annotations

from collections.abc import Iterable

import trio


class Bells:
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
