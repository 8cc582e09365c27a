"""What a run may still spend on the model. Counting what it has spent is model_usage.py's, passing requests on
model_proxy.py's.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import trio

from sandbox.model_request import Refused
from sandbox.model_usage import Usage


class Spending:
    """Holds a run to its budget, outside of the program that counts its own.

    What a request costs is known when its answer has come. While it is under way, at least what it asks is held against
    the budget, or eight at once could each pass; a request that finds the rest held waits until one of them has ended.
    """

    def __init__(self, usage: Usage, budget_usd: float) -> None:
        self.exhausted = trio.Event()
        self._usage = usage
        self._budget = budget_usd
        self._held = 0.0
        self._ended = trio.Event()

    @contextlib.asynccontextmanager
    async def one(self, at_least: float) -> AsyncIterator[None]:
        """Have one request passed on, which costs at least so many USD. Raises Refused 403 when the budget is spent."""
        while True:
            if self._usage.cost_usd >= self._budget:
                self.exhausted.set()
                raise Refused(403, f"this run's budget of {self._budget:.2f} USD for the model is spent")
            if self._usage.cost_usd + self._held < self._budget:
                break
            await self._ended.wait()
        self._held += at_least
        try:
            yield
        finally:
            self._held -= at_least
            self._ended.set()
            self._ended = trio.Event()
