"""Thins ended dispatches, and says whether there is room for more of a contact. The bounds and the choice:
peer/dispatches/retention.py."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import islice

from peer.dispatches import retention as bounds
from peer.dispatches.retention import Ended, Rules
from peer.protocol.content import MB
from peer.protocol.documents import Direction
from peer.protocol.errors import RateLimited, Unavailable
from peer.steps.context import Context
from peer.steps.effects import BlobsFreed, ChangesFreed, DispatchChanged
from peer.steps.transaction import Transaction
from peer.store import retention

AT_ONCE = 50
BYTES_AT_ONCE = 32 * MB
"""Dispatches that one transaction thins, and bytes after which it takes no further one: it blocks other writers."""


def thin_ended(tx: Transaction, rules: Rules) -> bool:
    """Thin what is too old or too much, a bounded number; return whether anything was, so that there may be more."""
    chosen = _chosen(tx, rules)
    size = 0
    for one in chosen:
        if size >= BYTES_AT_ONCE:
            break
        retention.thin(tx.db, one.dispatch_id, tx.now)
        tx.note(DispatchChanged(one.dispatch_id))
        size += one.size
    if chosen:
        tx.note(BlobsFreed())
        tx.note(ChangesFreed())
    return bool(chosen)


def _chosen(tx: Transaction, rules: Rules) -> list[Ended]:
    """Return the first AT_ONCE to thin by these rules; if there are none, by the bound of the first contact over it."""
    total = retention.held_of_ended(tx.db)
    # What is removed does not come back: a clock that is set forward while the node runs makes nothing old.
    now = min(tx.now, tx.context.steady())
    due = bounds.to_thin(_thinnable(tx.db, tx.context), rules, total=total, now=now)
    if chosen := list(islice(due, AT_ONCE)):
        return chosen
    for peer, direction, held in retention.held_by_contact(tx.db, more_than=bounds.CONTACT_THINNED_TO):
        theirs = _thinnable(tx.db, tx.context, peer, direction)
        if chosen := list(islice(bounds.to_thin(theirs, bounds.OF_A_CONTACT, total=held, now=now), AT_ONCE)):
            return chosen
    return []


def _thinnable(
    db: sqlite3.Connection, context: Context, peer: str = "", direction: Direction = "received"
) -> Iterator[Ended]:
    """Yield what has ended and waits for nothing, oldest first: of one user and direction, or of all."""
    for one in retention.ended(db, peer=peer, direction=direction):
        if not (context.state.runs / one.dispatch_id).exists():
            yield one


def check_room(tx: Transaction, peer: str, direction: Direction, more: int, *, fix: str) -> None:
    """Raise unless `more` bytes may be kept of the dispatches from (received) or to (sent) this user.

    Unavailable if others can be thinned, which happens at once; else RateLimited: what is kept has not ended, or waits
    for something. Cheap as long as there is room.
    """
    held = retention.held(tx.db, peer, direction)
    if held + more <= bounds.CONTACT_BYTES:
        return
    theirs = _thinnable(tx.db, tx.context, peer, direction)
    if any(bounds.to_thin(theirs, bounds.OF_A_CONTACT, total=held, now=tx.now)):
        raise Unavailable("older files and events are being removed to make room", fix="try again in a moment")
    way = "from" if direction == "received" else "to"
    raise RateLimited(f"unfinished dispatches {way} {peer} already take up {bounds.CONTACT_BYTES >> 20:,} MB", fix=fix)
