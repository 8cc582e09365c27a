"""The only way to change a dispatch's state. Every change is looked up in the tables of peer.dispatches.lifecycle."""

from __future__ import annotations

from peer.dispatches import lifecycle
from peer.steps.effects import BlobsFreed, DispatchChanged, ThinningDue
from peer.steps.transaction import Transaction
from peer.store import dispatches, rows


def decide(tx: Transaction, row: rows.Dispatch, event: lifecycle.Event) -> None:
    """Apply an event that this machine decides on: from a person, the clock, or a run.

    Raises Conflict or Gone, and changes nothing, if the dispatch has ended or its table does not list the event.
    """
    _move(tx, row, lifecycle.decide(_side(row), row.state, event))


def learn(tx: Transaction, row: rows.Dispatch, event: lifecycle.Event) -> lifecycle.State | None:
    """Apply an event that the other side reports. Returns the state after it, which may be the one before.

    Returns None, and changes nothing, if the table does not list the event: the report crossed a change made here.
    """
    if not lifecycle.allows(_side(row), row.state, event):
        return None
    after = lifecycle.next_state(_side(row), row.state, event)
    _move(tx, row, after)
    return after


def _side(row: rows.Dispatch) -> lifecycle.Side:
    return "recipient" if row.direction == "received" else "sender"


def _move(tx: Transaction, row: rows.Dispatch, state: lifecycle.State) -> None:
    dispatches.set_state(tx.db, row.dispatch_id, state, tx.now, ended=state in lifecycle.FINAL)
    if state in lifecycle.DISCARDED:
        dispatches.let_go_attachments(tx.db, row.dispatch_id)
        tx.note(BlobsFreed())
    if state in lifecycle.FINAL:
        tx.note(ThinningDue())
    tx.note(DispatchChanged(row.dispatch_id))
