"""How many answers of the model a run has had, and may still have. proxy.py passes them on."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import trio

from sandbox.model_api.interface import Refused, Usage


@dataclass
class Turn:
    """One request for an answer: whether the answer `began`, and was passed on `whole`."""

    began: bool = False
    whole: bool = False


class TurnBudget:
    """Counts turns, whatever the program counts itself.

    A turn is an answer of the model that was passed on whole. The pinned program counts the same: each turn of it makes
    one request, repeated when it is refused (429, 5xx) or breaks off. So an answer that broke off is not a turn. A
    dishonest program could cause those in order to read all but the last byte, so only a tenth of the turns and ten
    more of them are passed on. Answers under way count against the rest: a request beyond it waits until one of them is
    whole, or has broken off.
    """

    def __init__(self, usage: Usage, most: int | None) -> None:
        self.exhausted = trio.Event()
        self._usage = usage
        self._most = most
        self._under_way = 0
        self._ended = trio.Event()

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[Turn]:
        """Pass on one answer inside. Raises Refused 403 when there are no more turns."""
        while self._most is not None:
            if self._usage.turns >= self._most or self._usage.broken_off > self._most // 10 + 10:
                self.exhausted.set()
                raise Refused(403, f"this run's budget of {self._most} turns is used up")
            if self._usage.turns + self._under_way < self._most:
                break
            await self._ended.wait()
        turn = Turn()
        self._under_way += 1
        try:
            yield turn
        finally:
            self._under_way -= 1
            self._usage.turns += turn.whole
            self._usage.broken_off += turn.began and not turn.whole
            self._ended.set()
            self._ended = trio.Event()
