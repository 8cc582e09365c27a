"""What a run may still spend on the model. A `ModelApi` counts what an answer cost; proxy.py passes requests on."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import trio

from sandbox.model_api.interface import Refused, Usage


class CostBudget:
    """Holds a run to its budget, whatever its program counts itself.

    What a request costs is known when its answer has come. Until then at least the cost of its own text is reserved, or
    eight at once could each pass; a request that finds the rest reserved waits until one of the others has ended.
    """

    def __init__(self, usage: Usage, budget_usd: float) -> None:
        self.exhausted = trio.Event()
        self._usage = usage
        self._budget = budget_usd
        self._reserved = 0.0
        self._ended = trio.Event()

    @contextlib.asynccontextmanager
    async def reserved(self, at_least: float) -> AsyncIterator[None]:
        """Pass on one request inside, which costs at least so many USD. Raises Refused 403 when the budget is spent."""
        while True:
            if self._usage.held_usd >= self._budget:
                self.exhausted.set()
                raise Refused(403, f"this run's budget of {self._budget:.2f} USD for the model is spent")
            if self._usage.held_usd + self._reserved < self._budget:
                break
            await self._ended.wait()
        self._reserved += at_least
        try:
            yield
        finally:
            self._reserved -= at_least
            self._ended.set()
            self._ended = trio.Event()
