"""The argument that every step takes first: the store's connection, the node's context, one time, the effects.

A step is a plain function that runs inside one store transaction. It may sign and store; it never waits, sends or
starts anything. What must happen after the commit is noted as effects (effects.py).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

from peer.protocol.signing import Signed
from peer.steps.context import Context
from peer.steps.effects import Effect, Effects, Wake
from peer.store import outbox


@dataclass(frozen=True)
class Transaction:
    """One step's connection and effects. The effects are applied only if the transaction commits."""

    db: sqlite3.Connection
    context: Context
    effects: Effects = field(default_factory=Effects)

    @cached_property
    def now(self) -> int:
        """The time of the step in ms since the epoch. Read once: everything in one step has the same time."""
        return self.context.clock()

    def note(self, effect: Effect) -> None:
        """Add an effect, to be applied after the commit."""
        self.effects.note(effect)

    def post(self, signed: Signed, *, edge_id: str) -> None:
        """Queue a signed statement for the device that it is addressed to.

        Priority and ordering are those of the statement's type (peer.protocol.statements). Revoking the edge `edge_id`
        drops it from the outbox.
        """
        statement = signed.statement
        outbox.put(
            self.db,
            device=statement.audience_device,
            kind=statement.type_name,
            raw=signed.raw,
            now=self.now,
            priority=statement.priority,
            ordering=statement.ordering,
            edge_id=edge_id,
            dispatch_id=statement.about_dispatch,
        )
        self.note(Wake(statement.audience_device))

    @contextmanager
    def savepoint(self) -> Iterator[Transaction]:
        """Run the block in a savepoint.

        An exception rolls back what the block stored, drops the effects it noted, and propagates; otherwise its effects
        are appended to those of the step.
        """
        part = Transaction(self.db, self.context)
        part.__dict__["now"] = self.now
        self.db.execute("SAVEPOINT part")
        try:
            yield part
        except BaseException:
            self.db.execute("ROLLBACK TO part")
            self.db.execute("RELEASE part")
            raise
        self.db.execute("RELEASE part")
        self.effects.merge(part.effects)
