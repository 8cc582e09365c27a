"""The journal: each step is one durable transaction, and only then are its effects applied. Knows no step by name."""

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
    """Runs steps. `apply` is called once after each step that is durable, with its effects, in the event loop."""

    def __init__(self, context: Context, apply: Callable[[Effects], None]) -> None:
        self.context = context
        self._apply = apply

    async def step(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in one transaction; return its value once that is durable and its effects are applied.

        An exception of `work` rolls everything back, and nothing is applied. Not cancellable: a step once begun is
        finished, and its effects are applied. Raises Unavailable where the store cannot be written.
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
