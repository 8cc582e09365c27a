"""The end of what nobody accepted in time, when its time comes; and what the store may forget by then."""

from __future__ import annotations

import math

import trio

from peer.steps import inbound, inviting, receiving
from peer.steps.journal import Journal
from peer.steps.transaction import Transaction
from peer.store import dispatches, outbox

FORGOTTEN_AT_ONCE = 20_000
"""Old statements deleted in one transaction, which holds up every other for a fraction of a second."""
LONGEST_WAIT_SECONDS = 3600.0
"""The machine may sleep, or its clock be set: the store is looked at once an hour at least."""


class Deadlines:
    """Expires dispatches and invitations."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._next = math.inf
        self._sooner = trio.Event()

    def consider(self, at: float) -> None:
        """A dispatch now expires at this time, in ms since the epoch."""
        if at < self._next:
            self._sooner.set()

    async def run(self) -> None:
        """Expire what is overdue for as long as the node lives."""
        while True:
            # Until the store has said which is next, every new one counts as sooner.
            self._next, self._sooner = math.inf, trio.Event()
            # On a full disk this is tried again. Views show what is overdue as expired, an accept checks for itself.
            upcoming = await self._journal.step(_expire_overdue)
            self._next = math.inf if upcoming is None else upcoming
            left = (self._next - self._journal.context.clock()) / 1000
            with trio.move_on_after(min(max(left, 0.0), LONGEST_WAIT_SECONDS) + 0.001):
                await self._sooner.wait()


def _expire_overdue(tx: Transaction) -> int | None:
    for row in dispatches.overdue(tx.db, tx.now):
        receiving.expire(tx, row)
    inviting.expire(tx.db, tx.now)
    outbox.forget(tx.db, before=tx.now - inbound.KEPT_MS, most=FORGOTTEN_AT_ONCE)
    return dispatches.next_expiry(tx.db)
