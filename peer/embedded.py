"""The door for a program that is the node itself, where no daemon runs: same lock, same API. The daemon: daemon.py.

Importing this loads nothing that takes long; the node, two seconds of it, is loaded once the folder's lock is held, in
a thread, while the program goes on with what it does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType

import trio

from peer import preflight
from peer.daemon_log import set_up_logging
from peer.lock import state_lock
from peer.state_folder import StateFolder

FAREWELL_SECONDS = 0.15
"""A host's programs are given half a second to end; what the broker is not told ends by itself within two hours."""


@asynccontextmanager
async def hosted(folder: StateFolder) -> AsyncIterator[None]:
    """Be the node of a state folder while the block runs; whoever wants something of it calls its API.

    Raises Held, which says who else is, and what peer.preflight finds, before anything is loaded; NewerStore,
    Unavailable and Conflict afterwards.
    """
    with state_lock(folder):
        await trio.to_thread.run_sync(preflight.check, folder)
        set_up_logging(folder)
        # Abandoned when the program ends meanwhile: an import cannot be called back.
        serving = await trio.to_thread.run_sync(_load, abandon_on_cancel=True)  # type: ignore[call-arg]
        async with serving.served_under_lock(folder, hosted_by="session", farewell_seconds=FAREWELL_SECONDS):
            yield


def _load() -> ModuleType:
    from peer import serving

    return serving
