"""Removes the bytes of files that no row needs any more."""

from __future__ import annotations

import structlog

from peer.steps.transaction import Transaction
from peer.store import dispatches

log = structlog.get_logger(__name__)

AT_ONCE = 200
"""Blobs looked at in one transaction, which blocks other writers for some milliseconds."""


def remove_freed(tx: Transaction) -> bool:
    """Remove blobs that were let go and that nobody needs; return whether there may be more.

    Inside the transaction, though a file is no part of it: a step that needs the same bytes again cannot come between.
    If the transaction fails, the same blobs are looked at again.
    """
    found = dispatches.freed(tx.db, AT_ONCE)
    for digest, needed in found:
        if not needed:
            try:
                tx.context.blobs.remove(digest)
            except OSError as error:
                log.warning("blob.not_removed", why=error.strerror)  # the next start does it
        dispatches.drop_freed(tx.db, digest)
    return len(found) == AT_ONCE
