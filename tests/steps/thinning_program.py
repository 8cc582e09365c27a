"""A process that thins the ended dispatches of a state folder, as a node does, and may die amid a statement.

`python -m tests.steps.thinning_program FOLDER TICKS`: killed by SIGKILL at that tick of SQLite's virtual machine; 0:
it lives and prints how many there were.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from pathlib import Path
from typing import cast

from peer.dispatches.retention import Rules
from peer.machine.identity import Identity
from peer.machine.state_folder import StateFolder
from peer.steps import freeing, thinning
from peer.steps.context import Context
from peer.steps.transaction import Transaction
from peer.store import connection
from peer.store.blobs import Blobs
from peer.store.database import Store

INSTRUCTIONS = 20
"""Of the virtual machine, in a tick."""


def main(folder: Path, last: int) -> None:
    """Thin, then remove the blobs that were freed."""
    state = StateFolder(folder)
    # Neither signs anything nor uses the store's threads.
    context = Context(
        state, cast(Identity, None), cast(Store, None), Blobs(state.blobs), lambda: time.time_ns() // 10**6
    )
    db = connection.connect(state.store)
    ticks = itertools.count(1)
    passed = 0

    def tick() -> None:
        nonlocal passed
        passed = next(ticks)
        if passed == last:
            os.kill(os.getpid(), signal.SIGKILL)

    db.set_progress_handler(tick, INSTRUCTIONS)
    for work in (lambda tx: thinning.thin_ended(tx, Rules(0, 0)), freeing.remove_freed):
        more = True
        while more:
            with connection.writing(db):
                more = work(Transaction(db, context))
    print(passed)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
