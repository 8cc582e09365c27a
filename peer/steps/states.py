"""The one door to a dispatch's state: every change of it goes through the tables of peer.dispatches.lifecycle."""

from __future__ import annotations

from peer.dispatches import lifecycle
from peer.steps.effects import DispatchChanged
from peer.steps.transaction import Transaction
from peer.store import dispatches, rows


def decide(tx: Transaction, row: rows.Dispatch, event: lifecycle.Event) -> None:
    """Move a dispatch by a decision made here: by a person, this machine's clock, or a run on it.

    Raises Conflict or Gone, and changes nothing, where the dispatch has ended or its table does not list the event.
    """
    _move(tx, row, lifecycle.decide(_side(row), row.state, event))


def learn(tx: Transaction, row: rows.Dispatch, event: lifecycle.Event) -> lifecycle.State | None:
    """Move a dispatch by news from the other side. Returns the state it is in then, which may be the one it was in.

    None, and nothing changed, where the table does not list the event: the news crossed what ended the dispatch here.
    """
    if not lifecycle.allows(_side(row), row.state, event):
        return None
    after = lifecycle.next_state(_side(row), row.state, event)
    _move(tx, row, after)
    return after


def _side(row: rows.Dispatch) -> lifecycle.Side:
    return "recipient" if row.direction == "received" else "sender"


def _move(tx: Transaction, row: rows.Dispatch, state: lifecycle.State) -> None:
    dispatches.set_state(tx.db, row.dispatch_id, state, tx.now)
    tx.note(DispatchChanged(row.dispatch_id))
