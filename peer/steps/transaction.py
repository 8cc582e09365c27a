"""One step's transaction: the store's connection, who this device is, the time, the effects. Steps take it first.

A step is a plain function that runs inside one store transaction. It may sign and store; it never waits, sends or
starts anything. What must happen once its transaction is durable it notes as effects (effects.py).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

from peer.protocol.statements import Signed
from peer.steps.context import Context
from peer.steps.effects import Effect, Effects, Wake
from peer.store import outbox


@dataclass(frozen=True)
class Transaction:
    """What a step works with. `effects` starts empty, and counts only if the transaction is committed."""

    db: sqlite3.Connection
    context: Context
    effects: Effects = field(default_factory=Effects)

    @cached_property
    def now(self) -> int:
        """The time of the step, in ms since the epoch: read once, so that all of one step has one time."""
        return self.context.clock()

    def note(self, effect: Effect) -> None:
        """Have something done once the step is durable."""
        self.effects.note(effect)

    def post(self, signed: Signed, *, edge_id: str) -> None:
        """Queue a signed statement for the device that it is addressed to.

        Priority and ordering are those of the statement's type (peer.protocol.statements). `edge_id`: the edge with
        which it is dropped where that is revoked.
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
        """Run the block as a part of the step that may fail by itself.

        An exception undoes what the block stored, drops the effects that it noted, and is raised on; otherwise its
        effects join those of the step.
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
