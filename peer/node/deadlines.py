"""Expires dispatches and invitations at their deadlines, and deletes old acknowledgements from the store."""

from __future__ import annotations

import math

import trio

from peer.steps import inbound, inviting, receiving
from peer.steps.journal import Journal
from peer.steps.transaction import Transaction
from peer.store import dispatches, outbox

FORGOTTEN_AT_ONCE = 20_000
"""Acknowledgements deleted in one transaction, which blocks other writers for a fraction of a second."""
LONGEST_WAIT_SECONDS = 3600.0
"""Upper bound on a wait, because the machine may sleep or its clock may be set."""


class Deadlines:
    """The task that expires dispatches and invitations."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._next = math.inf
        self._sooner = trio.Event()

    def consider(self, at: float) -> None:
        """Wake earlier if `at` (ms since the epoch) is before the next known deadline."""
        if at < self._next:
            self._next = at
            self._sooner.set()

    async def run(self) -> None:
        """Expire what is overdue, until cancelled."""
        while True:
            # Until the store is read, every new deadline counts as earlier.
            self._next = math.inf
            # A full disk raises; supervise() retries. Meanwhile views show overdue items as expired and accept checks.
            upcoming = await self._journal.step(_expire_overdue)
            if upcoming is not None:
                self._next = min(self._next, upcoming)
            with trio.move_on_after(LONGEST_WAIT_SECONDS):
                await self._until_due()

    async def _until_due(self) -> None:
        """Wait for the next deadline, whichever that comes to be meanwhile."""
        while True:
            self._sooner = trio.Event()
            left = max((self._next - self._journal.context.clock()) / 1000, 0.0)
            with trio.move_on_after(left + 0.001) as waiting:
                await self._sooner.wait()
            if waiting.cancelled_caught:
                return


def _expire_overdue(tx: Transaction) -> int | None:
    for row in dispatches.overdue(tx.db, tx.now):
        receiving.expire(tx, row)
    inviting.expire(tx.db, tx.now)
    outbox.forget(tx.db, before=tx.now - inbound.KEPT_MS, most=FORGOTTEN_AT_ONCE)
    return dispatches.next_expiry(tx.db)
