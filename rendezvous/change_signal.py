"""Waking the requests that wait for a user's invitations to change (long polls). What changed: storage.

The events are hints: a request that wakes reads the storage again, and one that was not woken ends by its own timeout.
What another process changes is told by `Storage.listen`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from peer.protocol.errors import RateLimited

WAITING_PER_USER = 20
WAITING_IN_ALL = 5_000


class ChangeSignal:
    """An event for each waiting request, by user. `len()` is the number of waiting requests."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[trio.Event]] = {}
        self._count = 0
        self._closed = False

    @contextmanager
    def subscribe(self, user_id: str) -> Iterator[trio.Event]:
        """Give an event that the next `notify` for `user_id` sets. Raises RateLimited over the bounds."""
        mine = self._waiting.setdefault(user_id, set())
        if len(mine) >= WAITING_PER_USER or self._count >= WAITING_IN_ALL:
            raise RateLimited("too many requests are already waiting for changes", fix="ask without wait=")
        event = trio.Event()
        if self._closed:
            event.set()
        mine.add(event)
        self._count += 1
        try:
            yield event
        finally:
            mine.discard(event)
            self._count -= 1
            if not mine and self._waiting.get(user_id) is mine:
                del self._waiting[user_id]

    def notify(self, *user_ids: str) -> None:
        """Wake every request that waits for one of these users."""
        for user_id in user_ids:
            for event in self._waiting.get(user_id, ()):
                event.set()

    def notify_all(self) -> None:
        """Wake every request."""
        self.notify(*self._waiting)

    def close(self) -> None:
        """Wake every request, and let none wait from now on: the broker is stopping."""
        self._closed = True
        self.notify_all()

    def __len__(self) -> int:
        return self._count
