"""Leaving a broker without a daemon: as with one, but for the node that would take the new settings."""

from __future__ import annotations

import trio

from peer.broker.leaving import remove_broker
from peer.machine import identity
from peer.machine.lock import AlreadyRunning, state_lock
from peer.machine.state_folder import StateFolder
from peer.protocol.documents import Document
from peer.protocol.errors import Unavailable
from peer.steps.context import Context
from peer.steps.journal import Journal
from peer.store.blobs import Blobs
from peer.store.database import Store


def leave(folder: StateFolder, url: str, *, confirmed: bool) -> Document:
    """Remove a broker; return what peer.broker.leaving.remove_broker does. Raises as it, and Unavailable."""
    try:
        with state_lock(folder):
            store = Store.open(folder.store)
            try:
                context = Context(folder, identity.load(folder), store, Blobs(folder.blobs))
                journal = Journal(context, lambda _effects: None)
                return trio.run(
                    lambda: remove_broker(journal, url, confirmed=confirmed, reload=trio.lowlevel.checkpoint)
                )
            finally:
                store.close()
    except AlreadyRunning as error:
        raise Unavailable("a daemon is just starting or stopping", fix="try again in a moment") from error
