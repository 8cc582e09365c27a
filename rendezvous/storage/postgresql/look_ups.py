"""Look-ups that come while others are under way go to the server together: one hop to a thread, and one message each
way, for all of them. The busier a broker is, the less each costs; one alone waits for nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import outcome
import trio

from peer.protocol.errors import Unavailable
from rendezvous.storage.sql.connection import Row, Values

MOST: Final = 64
"""Look-ups that go together."""


class LookUp:
    """One statement that reads a few rows, and what came of it."""

    __slots__ = ("answered", "found", "statement", "values")

    def __init__(self, statement: str, values: Values) -> None:
        self.statement = statement
        self.values = values
        self.found: outcome.Outcome[list[Row]] | None = None
        self.answered = trio.Event()


class LookUps:
    """Brings them to `run`, which sets `found` of each, or raises what each then raises."""

    def __init__(self, run: Callable[[Sequence[LookUp]], Awaitable[None]], *, wait_seconds: float) -> None:
        """`wait_seconds`: for its turn; then `look_up` raises Unavailable."""
        self._run = run
        self._wait_seconds = wait_seconds
        self._waiting: list[LookUp] = []
        self._running = False

    async def look_up(self, statement: str, values: Values) -> list[Row]:
        """Return the rows that a statement finds. Raises Unavailable."""
        mine = LookUp(statement, values)
        self._waiting.append(mine)
        if not self._running:
            self._running = True
            # Not a task of whoever asked first: that one may leave, and the others would wait for ever.
            trio.lowlevel.spawn_system_task(self._answer_all)
        with trio.move_on_after(self._wait_seconds):
            await mine.answered.wait()
        if mine in self._waiting:
            self._waiting.remove(mine)
            raise too_busy()
        await mine.answered.wait()
        assert mine.found is not None
        rows: list[Any] = mine.found.unwrap()
        return rows

    async def _answer_all(self) -> None:
        try:
            while self._waiting:
                together, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
                try:
                    await self._run(together)
                except Exception as error:
                    for each in together:
                        each.found = each.found or outcome.Error(error)
                for each in together:
                    each.answered.set()
        finally:
            self._running = False


def too_busy() -> Unavailable:
    return Unavailable("the broker is too busy for this now", fix="try again in a moment")
