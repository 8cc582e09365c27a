"""Waking the requests that wait for a user's invitations to change (long polls). What changed: storage.

A request waits in a cancel scope that a change cancels: so it waits for its client's leaving too, in one task. Changes
are hints: a request that wakes reads the storage again, and one that was not woken ends by its own timeout.
What another process changes is told by `Storage.listen`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from peer.protocol.errors import RateLimited
from rendezvous.limits import Limits


class ChangeSignal:
    """A scope for each waiting request, by user. `len()` is the number of waiting requests.

    Of `limits` it keeps `waiting_requests` and `waiting_requests_per_user`; `on_refusal` is called with the name of the
    one that refuses a request.
    """

    def __init__(self, limits: Limits = Limits(), *, on_refusal: Callable[[str], None] = lambda _limit: None) -> None:
        self._limits = limits
        self._on_refusal = on_refusal
        self._waiting: dict[str, set[trio.CancelScope]] = {}
        self._count = 0
        self._closed = False

    @contextmanager
    def subscribe(self, user_id: str) -> Iterator[trio.CancelScope]:
        """Give a scope to wait in, which the next `notify` for `user_id` cancels, also before it is entered.

        Raises RateLimited over the bounds.
        """
        mine = self._waiting.get(user_id, set())
        full = self._full(len(mine))
        if full:
            self._on_refusal(full)
            raise RateLimited("too many requests are already waiting for changes", fix="ask without wait=")
        self._waiting[user_id] = mine
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

    def _full(self, mine: int) -> str:
        if mine >= self._limits.waiting_requests_per_user:
            return "waiting_requests_per_user"
        return "waiting_requests" if self._count >= self._limits.waiting_requests else ""

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

    @property
    def closed(self) -> bool:
        """Whether the broker is stopping, so that no request is to wait."""
        return self._closed

    def __len__(self) -> int:
        return self._count
