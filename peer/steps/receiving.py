"""A dispatch at its recipient, up to the run: taken in, decided by a person, cancelled, expired."""

from __future__ import annotations

import sqlite3
from typing import Any, Literal

from peer.dispatches import lifecycle
from peer.dispatches.admission import EdgeFacts, admit, check_edge
from peer.protocol.acknowledgements import Acknowledgement
from peer.protocol.errors import Conflict, Forbidden, Gone, NotFound, RateLimited
from peer.protocol.outcomes import Ended
from peer.protocol.statements import Cancel, Decision, Dispatch, Result, Signed, open_as
from peer.steps import states
from peer.steps.effects import DeadlineSet, DispatchChanged, FetchFiles, StopRun
from peer.steps.transaction import Transaction
from peer.store import contacts, dispatches, edges, rows, trace
from peer.trust import scopes

DAY_MS = 86_400_000
MAX_WAITING_BYTES = 2 << 30
"""Files of one edge, fetched in a day before anybody accepted them. A thousand dispatches a day of 250 MB each would
fill any disk; this is eight of the largest."""


def edge_facts(db: sqlite3.Connection, edge_id: str, now: int) -> EdgeFacts | None:
    """Return what admission must know of an edge that I granted, or None."""
    edge = edges.get(db, edge_id)
    if edge is None or edge.direction != "incoming" or contacts.is_blocked(db, edge.user_id):
        return None
    scope = scopes.decode(edge.scope)
    return EdgeFacts(
        edge.user_id,
        edge.status,
        scope.expires,
        scope.max_per_day,
        edges.admitted_since(db, edge_id, now - DAY_MS, at_least=scope.max_per_day),
    )


def take_in(tx: Transaction, signed: Signed) -> Acknowledgement:
    """Store a dispatch that arrived. 200: it is in the inbox; 202: its files are still to be fetched."""
    dispatch: Dispatch = signed.statement
    now = tx.now
    cancelled = dispatches.has_tombstone(tx.db, dispatch.issuer_device, dispatch.id)
    admit(dispatch, edge_facts(tx.db, dispatch.edge_id, now), cancelled=cancelled, now=now)
    if dispatches.get(tx.db, dispatch.id) is not None:
        raise Conflict("another dispatch has this id", fix="send it again")
    attached = sum(item.size for item in dispatch.content.files)
    if attached and dispatches.attached_bytes(tx.db, dispatch.edge_id, now - DAY_MS) + attached > MAX_WAITING_BYTES:
        raise RateLimited(
            f"the files of this edge's dispatches that wait have {MAX_WAITING_BYTES >> 20:,} MB already",
            fix="send it when some were accepted, or a day later",
        )
    state = lifecycle.FIRST["recipient"]
    if not dispatch.content.files:
        state = lifecycle.next_state("recipient", state, "verified")
    dispatches.add(
        tx.db,
        rows.Dispatch(
            dispatch_id=dispatch.id,
            direction="received",
            edge_id=dispatch.edge_id,
            peer=dispatch.issuer_user,
            device=dispatch.issuer_device,
            state=state,
            raw=signed.raw,
            digest=signed.digest,
            task=dispatch.content.task,
            created=dispatch.created,
            expires=dispatch.expires,
            updated=now,
        ),
    )
    dispatches.add_files(tx.db, dispatch.id, "attachment", dispatch.content.files, statement=dispatch.id, ready=False)
    tx.note(DeadlineSet(dispatch.expires))
    tx.note(DispatchChanged(dispatch.id))
    if dispatch.content.files:
        tx.note(FetchFiles())
        return Acknowledgement(202, "stored; its files are still to be fetched")
    return Acknowledgement(200, "in the inbox")


def files_arrived(tx: Transaction, item: rows.File) -> None:
    """Note that a file is here and verified; the last attachment brings its dispatch into the inbox."""
    left = dispatches.set_ready(tx.db, item)
    tx.note(DispatchChanged(item.dispatch_id))
    row = dispatches.get(tx.db, item.dispatch_id)
    if left or row is None or row.direction != "received" or row.state != "arriving":
        return
    states.decide(tx, row, "verified")
    queue_decision(tx, row, "pending")


def files_refused(tx: Transaction, item: rows.File, reason: str) -> None:
    """Give up a file that the other side does not, or no longer, serve as promised; with an attachment its dispatch."""
    row = dispatches.get(tx.db, item.dispatch_id)
    dispatches.set_given_up(tx.db, item)
    tx.note(DispatchChanged(item.dispatch_id))
    if row is None or row.direction != "received" or row.state != "arriving":
        return
    states.decide(tx, row, "rejected")
    dispatches.set_reason(tx.db, row.dispatch_id, code=422, message=f"{item.name}: {reason}", fix="send it again")
    queue_result(tx, row, "failed", reason=f"the file {item.name} did not arrive: {reason}", code=422)


def accept(tx: Transaction, dispatch_id: str, *, cwd: str) -> tuple[rows.Dispatch, scopes.Scope]:
    """Decide that a dispatch runs, in `cwd` ('' is an empty workspace); return it as it now is, and its edge's scope.

    Edge, state and expiry are checked here, inside the transaction. Raises NotFound, Conflict, Gone, Forbidden.
    """
    row = get_received(tx.db, dispatch_id)
    now = tx.now
    lifecycle.next_state("recipient", row.state, "accepted")
    if row.expires <= now:
        raise Gone("nothing pending: this dispatch expired before it was accepted")
    check_edge(edge_facts(tx.db, row.edge_id, now), user_id=row.peer, now=now)
    states.decide(tx, row, "accepted")
    attempt = row.attempt + 1
    dispatches.set_accepted(tx.db, dispatch_id, attempt=attempt, cwd=cwd, decision=b"")
    accepted = get_received(tx.db, dispatch_id)
    signed = queue_decision(tx, accepted, "accepted")
    dispatches.set_decision(tx.db, dispatch_id, attempt=attempt, decision=signed.raw)
    edge = edges.get(tx.db, row.edge_id)
    assert edge is not None  # check_edge has just looked at it
    return get_received(tx.db, dispatch_id), scopes.decode(edge.scope)


def decline(tx: Transaction, dispatch_id: str, *, reason: str) -> None:
    """Decide that a dispatch does not run, or not any further: its run is stopped. Raises NotFound, Conflict, Gone."""
    row = get_received(tx.db, dispatch_id)
    if row.state in ("accepted", "running"):
        _stop(tx, row, "declined", reason=reason)
        return
    states.decide(tx, row, "declined")
    dispatches.set_reason(tx.db, dispatch_id, code=0, message=reason, fix="")
    signed = queue_decision(tx, row, "declined", reason=reason)
    dispatches.set_decision(tx.db, dispatch_id, attempt=row.attempt, decision=signed.raw)


def cancel(tx: Transaction, row: rows.Dispatch, *, reason: str, code: int = 0) -> None:
    """End a received dispatch as cancelled, whoever asked for it; a run of it is stopped."""
    _stop(tx, row, "cancelled", reason=reason, code=code)


def on_cancel(tx: Transaction, signed: Signed) -> Acknowledgement:
    """The sender takes a dispatch back, also one that has not arrived yet."""
    statement: Cancel = signed.statement
    row = dispatches.get(tx.db, statement.dispatch_id)
    if row is None:
        dispatches.add_tombstone(tx.db, statement.issuer_device, statement.dispatch_id, tx.now)
        return Acknowledgement(200, "it will not be taken in")
    if row.direction != "received" or row.device != statement.issuer_device:
        raise Forbidden("that dispatch is not of this device", fix="")
    if row.state in lifecycle.FINAL:
        return Acknowledgement(200, f"it had ended: {row.state}")
    cancel(tx, row, reason=statement.reason or "its sender cancelled it")
    return Acknowledgement(200, "cancelled")


def expire(tx: Transaction, row: rows.Dispatch) -> None:
    """End a dispatch whose time passed before it was accepted, on either side."""
    states.decide(tx, row, "expired")
    dispatches.set_reason(tx.db, row.dispatch_id, code=410, message="its time passed before it was accepted", fix="")
    tx.note(DispatchChanged(row.dispatch_id))
    if row.direction == "received":
        queue_decision(tx, row, "expired")


def get_received(db: sqlite3.Connection, dispatch_id: str) -> rows.Dispatch:
    """Return a received dispatch. Raises NotFound."""
    row = dispatches.get(db, dispatch_id)
    if row is None or row.direction != "received":
        raise NotFound(f"no dispatch {dispatch_id} in the inbox")
    return row


def queue_decision(tx: Transaction, row: rows.Dispatch, decision: str, *, reason: str = "") -> Signed:
    """Queue the decision on a dispatch for its sender, signed with what of the dispatch this version ignores."""
    current = get_received(tx.db, row.dispatch_id)
    dispatch, opened = open_as(Dispatch, row.raw)
    signed = tx.context.sign_for(
        Decision,
        row.peer,
        row.device,
        dispatch_id=row.dispatch_id,
        dispatch_digest=row.digest,
        attempt=current.attempt,
        decision=decision,
        read_version=dispatch.version,
        expires=current.expires if decision == "pending" else 0,
        reason=reason[:2_000],
        unread=opened.ignored,
    )
    _queue(tx, row, "decision", signed, tx.now)
    return signed


def queue_result(
    tx: Transaction,
    row: rows.Dispatch,
    status: Ended,
    *,
    reason: str = "",
    code: int = 0,
    **content: Any,  # fields of a result; Result's own constructor checks them
) -> Signed:
    """Sign, store and queue the result of a dispatch: the chain's head and count as the store has them now."""
    count, head = trace.head(tx.db, row.dispatch_id, row.attempt)
    signed = tx.context.sign_for(
        Result,
        row.peer,
        row.device,
        dispatch_id=row.dispatch_id,
        dispatch_digest=row.digest,
        attempt=row.attempt,
        status=status,
        head=head,
        count=count,
        reason=reason[:2_000],
        code=code,
        **content,
    )
    dispatches.set_result(tx.db, row.dispatch_id, signed.raw)
    _queue(tx, row, "result", signed, tx.now)
    return signed


def dispatch_of(row: rows.Dispatch) -> Dispatch:
    """Return the signed dispatch of a row."""
    return open_as(Dispatch, row.raw)[0]


def accepted_dispatch(row: rows.Dispatch) -> Dispatch:
    """Return the signed dispatch of a row that was accepted. Raises Conflict where it reads otherwise than it did then.

    A later version may understand more of it, and what nobody saw was not accepted.
    """
    dispatch, signed = open_as(Dispatch, row.raw)
    decision, _ = open_as(Decision, row.decision)
    if (decision.read_version, decision.unread) != (dispatch.version, signed.ignored):
        raise Conflict("another version of dispatch accepted it, and read it otherwise", fix="accept it again")
    return dispatch


def _stop(
    tx: Transaction, row: rows.Dispatch, event: Literal["cancelled", "declined"], *, reason: str, code: int = 0
) -> None:
    """End a dispatch and whatever runs of it. From this step on nothing of that run is stored: see running.current."""
    states.decide(tx, row, event)
    dispatches.set_reason(tx.db, row.dispatch_id, code=code, message=reason, fix="")
    trace.close_approvals(tx.db, row.dispatch_id, event)
    queue_result(tx, row, event, reason=reason, code=code)
    tx.note(StopRun(row.dispatch_id, reason))


def _queue(tx: Transaction, row: rows.Dispatch, kind: str, signed: Signed, now: int) -> None:
    tx.post(signed, edge_id=row.edge_id)
    tx.note(DispatchChanged(row.dispatch_id))
