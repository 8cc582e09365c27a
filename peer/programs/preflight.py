"""Checks before a node starts and before libp2p is loaded: sign-in, permissions of keys, settings, the store."""

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
    """What a node needs from its state folder."""

    identity: Identity
    settings: Settings


def check(folder: StateFolder) -> Ready:
    """Return the node's identity and resolved settings. The caller holds the folder's lock.

    Raises NotSignedIn, Forbidden (keys that others can read), Invalid (config.json), NewerStore, Unavailable (a store
    that is damaged or cannot be opened).
    """
    try:
        who = identity.load(folder)
    except NotSignedIn:
        raise NotSignedIn(
            "this machine has not signed in yet", fix="run `dispatch setup`, or `dispatch login --broker URL`"
        ) from None
    chosen = check_settings(folder)
    if folder.store.exists():
        with closing(connection.connect(folder.store)):
            pass
    return Ready(who, chosen)


def check_settings(folder: StateFolder) -> Settings:
    """Return the resolved settings of a machine that may not have signed in. Raises Invalid, Forbidden."""
    return settings.resolve(folder)
