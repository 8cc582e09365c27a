"""Which sign-in a program means: that of its flags, else of $DISPATCH_BROKER and $DISPATCH_TOKEN, else any.

The same for every client of a daemon: one that uses another sign-in refuses its requests (409).
"""

from __future__ import annotations

import os

from peer.client.blocking import NO_SIGN_IN, SignIn
from peer.machine.state_folder import StateFolder


def named(folder: StateFolder, *, broker: str | None = None, token: str | None = None) -> SignIn:
    """Return the broker and the token that flags, else variables name. Raises Invalid if they are none."""
    broker = broker or os.environ.get("DISPATCH_BROKER", "")
    token = token or os.environ.get("DISPATCH_TOKEN", "")
    if not (broker or token):
        return NO_SIGN_IN
    from peer.machine import settings  # loads msgspec, which a command without flags may do without

    given = settings.resolve(folder, broker=broker, token=token)
    return SignIn(given.broker if broker else "", given.token if token else "")
