"""The task that removes, while the node runs, what the store does not need any more."""

from __future__ import annotations

import trio

from peer.steps import freeing
from peer.steps.journal import Journal


class Storage:
    """Removes the bytes of files that no row needs."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._freed = trio.Event()

    def wake(self) -> None:
        """Look for blobs that no row needs any more."""
        self._freed.set()

    async def run(self) -> None:
        """Remove until cancelled. A failure of the store raises; supervise() retries."""
        while True:
            self._freed = trio.Event()
            while await self._journal.step(freeing.remove_freed):
                pass
            await self._freed.wait()
