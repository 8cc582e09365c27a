"""Waking the readers who wait for news of a user (long polls). In memory, bounded; what the news is: storage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from peer.protocol.errors import RateLimited

PER_USER = 20
IN_ALL = 5_000


class Bells:
    """One bell a user; whoever hangs on it hears the next ring."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[trio.Event]] = {}
        self._count = 0
        self._closed = False

    @contextmanager
    def hang_on(self, user_id: str) -> Iterator[trio.Event]:
        """Give an event that is set by the next ring for `user_id`. Raises RateLimited over the bounds."""
        mine = self._waiting.setdefault(user_id, set())
        if len(mine) >= PER_USER or self._count >= IN_ALL:
            raise RateLimited("too many readers are waiting already", fix="ask without wait=")
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

    def ring(self, *user_ids: str) -> None:
        """Wake everyone who waits for these users."""
        for user_id in user_ids:
            for event in self._waiting.get(user_id, ()):
                event.set()

    def close(self) -> None:
        """Wake everyone, and let nobody wait any more: the broker is stopping."""
        self._closed = True
        self.ring(*self._waiting)

    def __len__(self) -> int:
        return self._count
