"""How many answers of the model a run has had, and may still have. Passing them on is model_proxy.py's."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import trio

from sandbox.model_request import Refused
from sandbox.model_usage import Usage


@dataclass
class Turn:
    """One request for an answer: whether it `began`, and came through `whole`."""

    began: bool = False
    whole: bool = False


class Turns:
    """Counts turns, outside of the program that counts its own.

    A turn is an answer of the model that was passed on whole, to any request: as the pinned program counts them, of
    which each turn makes one request, and sends it anew when it is refused (429, 5xx) or breaks off. So an answer that
    broke off is not a turn; of those, which a dishonest program could cause in order to read all but the last byte, a
    tenth of the turns and ten more are passed on. Answers under way are held against the rest: a request beyond it
    waits until one of them has come through, or broken off.
    """

    def __init__(self, usage: Usage, most: int | None) -> None:
        self.exhausted = trio.Event()
        self._usage = usage
        self._most = most
        self._under_way = 0
        self._ended = trio.Event()

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[Turn]:
        """Have one answer passed on. Raises Refused 403 when there are no more turns."""
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
