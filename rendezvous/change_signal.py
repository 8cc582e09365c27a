"""Waking the requests that wait for a user's invitations to change (long polls). What changed: storage.

A request waits in a cancel scope that a change cancels: so it waits for its client's leaving too, in one task. Changes
are hints: a request that wakes reads the storage again, and one that was not woken ends by its own timeout.
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
    """A scope for each waiting request, by user. `len()` is the number of waiting requests."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[trio.CancelScope]] = {}
        self._count = 0
        self._closed = False

    @contextmanager
    def subscribe(self, user_id: str) -> Iterator[trio.CancelScope]:
        """Give a scope to wait in, which the next `notify` for `user_id` cancels, also before it is entered.

        Raises RateLimited over the bounds.
        """
        mine = self._waiting.setdefault(user_id, set())
        if len(mine) >= WAITING_PER_USER or self._count >= WAITING_IN_ALL:
            raise RateLimited("too many requests are already waiting for changes", fix="ask without wait=")
        told = trio.CancelScope()
        if self._closed:
            told.cancel()
        mine.add(told)
        self._count += 1
        try:
            yield told
        finally:
            mine.discard(told)
            self._count -= 1
            if not mine and self._waiting.get(user_id) is mine:
                del self._waiting[user_id]

    def notify(self, *user_ids: str) -> None:
        """Wake every request that waits for one of these users."""
        for user_id in user_ids:
            for told in self._waiting.get(user_id, ()):
                told.cancel()

    def notify_all(self) -> None:
        """Wake every request."""
        self.notify(*self._waiting)

    def close(self) -> None:
        """Wake every request, and let none wait from now on: the broker is stopping."""
        self._closed = True
        self.notify_all()

    def __len__(self) -> int:
        return self._count
