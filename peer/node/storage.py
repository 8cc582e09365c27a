"""The task that removes, while the node runs, what need not be kept any more."""

from __future__ import annotations

from collections.abc import Callable

import structlog
import trio

from peer.dispatches.retention import of_settings
from peer.machine.settings import Settings
from peer.steps import freeing, thinning
from peer.steps.journal import Journal
from peer.steps.transaction import Transaction

log = structlog.get_logger(__name__)

LONGEST_WAIT_SECONDS = 3600.0
"""Between two looks at what has become old, or has lost what kept it."""


class Storage:
    """Thins dispatches that ended and are old or too much, and removes the bytes of files that no row needs."""

    def __init__(self, journal: Journal, settings: Callable[[], Settings]) -> None:
        self._journal = journal
        self._settings = settings
        self._woken = trio.Event()

    def wake(self) -> None:
        """Look now: a dispatch ended, a row let files go, or the settings changed."""
        self._woken.set()

    async def run(self) -> None:
        """Remove until cancelled. A failure of the store raises; supervise() retries."""
        while True:
            self._woken = trio.Event()
            while await self._journal.step(self._thin):
                log.info("dispatches.thinned")
            while await self._journal.step(freeing.remove_freed):
                pass
            with trio.move_on_after(LONGEST_WAIT_SECONDS):
                await self._woken.wait()

    def _thin(self, tx: Transaction) -> bool:
        settings = self._settings()
        rules = of_settings(days=settings.retention_days, megabytes=settings.retention_mb)
        return thinning.thin_ended(tx, rules)
