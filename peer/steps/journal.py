"""The journal: runs a step in one durable transaction, then applies its effects. The steps are other modules."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeVar

import structlog

from peer.steps.context import Context
from peer.steps.effects import Effects
from peer.steps.transaction import Transaction

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Journal:
    """Runs steps. `apply` gets the effects of each step, once, on the event loop, after the commit."""

    def __init__(self, context: Context, apply: Callable[[Effects], None]) -> None:
        self.context = context
        self._apply = apply

    async def step(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in one transaction; return its value once that is durable and its effects are applied.

        An exception from `work` rolls everything back, and no effect is applied. Not cancellable once begun: the commit
        and its effects belong together. Other tasks may run between the two, because the commit is in a worker thread.
        Raises Unavailable if the store cannot be written.
        """
        effects = Effects()
        value = await self.context.store.write(lambda db: work(Transaction(db, self.context, effects)))
        if effects:
            log.debug("journal.step", effects=repr(effects))
        self._apply(effects)
        return value

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run `query` on a snapshot of the store."""
        return await self.context.store.read(query)
