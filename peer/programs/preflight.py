"""What stops a node before it begins, found before libp2p is loaded: no sign-in, open keys, settings, the store."""

from __future__ import annotations

from contextlib import closing
from typing import NamedTuple

from peer.machine import identity, settings
from peer.machine.identity import Identity
from peer.machine.settings import Settings
from peer.machine.state_folder import StateFolder
from peer.protocol.errors import NotSignedIn
from peer.store import connection


class Ready(NamedTuple):
    """What a state folder holds for a node."""

    identity: Identity
    settings: Settings


def check(folder: StateFolder) -> Ready:
    """Return who the node is and its settings in force. The caller holds the folder's lock.

    Raises NotSignedIn, Forbidden (keys that others can read), Invalid (config.json), NewerStore, Unavailable (a store
    that is damaged or cannot be opened).
    """
    try:
        who = identity.load(folder)
    except NotSignedIn:
        raise NotSignedIn(
            "this machine has not signed in yet", fix="run `dispatch login --broker URL`, then `dispatch-daemon`"
        ) from None
    chosen = settings.resolve(folder)
    if folder.store.exists():
        with closing(connection.connect(folder.store)):
            pass
    return Ready(who, chosen)
