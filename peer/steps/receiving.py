"""Received dispatches up to the run: admitted, decided by a person, cancelled, expired. Running them: running.py."""

from __future__ import annotations

import sqlite3

from peer.dispatches import lifecycle
from peer.dispatches.admission import EdgeFacts, admit, check_edge
from peer.dispatches.quoting import says
from peer.protocol.acknowledgements import Acknowledgement
from peer.protocol.errors import NO_FIX, Conflict, Forbidden, Gone, NotFound, RateLimited
from peer.protocol.signing import Signed, open_as
from peer.protocol.statements import Cancel, Decision, Dispatch
from peer.steps import states, thinning
from peer.steps.effects import BlobsFreed, DeadlineSet, DispatchChanged, FetchFiles, ThinningDue
from peer.steps.ending import end
from peer.steps.transaction import Transaction
from peer.store import contacts, dispatches, edges, rows
from peer.trust import scopes

DAY_MS = 86_400_000
MAX_WAITING_BYTES = 2 << 30
"""Bytes of files fetched over one edge in a day before anybody accepts them: eight dispatches of the largest size. A
thousand dispatches a day of 250 MB each would fill any disk."""


def get_edge_facts(db: sqlite3.Connection, edge_id: str, now: int) -> EdgeFacts | None:
    """Return what admission needs of a granted edge; None if there is none or its user is blocked."""
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


def on_dispatch(tx: Transaction, signed: Signed) -> Acknowledgement:
    """Admit and store a dispatch. Acknowledges 200 if it is in the inbox, 202 if its files are still to be fetched."""
    dispatch: Dispatch = signed.statement
    now = tx.now
    cancelled = dispatches.has_tombstone(tx.db, dispatch.issuer_device, dispatch.id)
    admit(dispatch, get_edge_facts(tx.db, dispatch.edge_id, now), cancelled=cancelled, now=now)
    if dispatches.get(tx.db, dispatch.id) is not None:
        raise Conflict("another dispatch has this id", fix="send it again")
    attached = sum(item.size for item in dispatch.content.files)
    if attached and dispatches.attached_bytes(tx.db, dispatch.edge_id, now - DAY_MS) + attached > MAX_WAITING_BYTES:
        raise RateLimited(
            f"the dispatches that wait on this edge already have {MAX_WAITING_BYTES >> 20:,} MB of files",
            fix="send it when some of them have been accepted, or a day later",
        )
    thinning.check_room(
        tx, dispatch.issuer_user, "received", attached, fix="send it when some of your dispatches have ended"
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


def on_file_arrived(tx: Transaction, item: rows.File) -> None:
    """Mark a file as fetched and verified; after its last attachment a dispatch is pending, in the inbox."""
    left = dispatches.set_ready(tx.db, item)
    if left is None:
        tx.note(BlobsFreed())
        return
    tx.note(DispatchChanged(item.dispatch_id))
    tx.note(ThinningDue())
    row = dispatches.get(tx.db, item.dispatch_id)
    if left or row is None or row.direction != "received" or row.state != "arriving":
        return
    states.decide(tx, row, "verified")
    queue_decision(tx, row, "pending")


def on_file_refused(tx: Transaction, item: rows.File, reason: str) -> None:
    """Give up a file that the other side refuses to serve or serves wrong; an attachment takes its dispatch with it."""
    row = dispatches.get(tx.db, item.dispatch_id)
    dispatches.set_given_up(tx.db, item)
    tx.note(BlobsFreed())
    tx.note(DispatchChanged(item.dispatch_id))
    if row is None or row.direction != "received" or row.state != "arriving":
        return
    end(tx, row, "rejected", reason=f"the file {item.name} did not arrive: {reason}", code=422, fix="send it again")


def accept(tx: Transaction, dispatch_id: str, *, cwd: str, git_folder: str = "") -> tuple[rows.Dispatch, scopes.Scope]:
    """Accept a dispatch to run in `cwd` ('' for an empty workspace); return its new row and its edge's scope.

    `git_folder`: of rows.Dispatch.

    Checks edge, state, expiry and room inside the transaction. Raises NotFound, Conflict, Gone, Forbidden; RateLimited
    or Unavailable where there is no room.
    """
    row = get_received(tx.db, dispatch_id)
    now = tx.now
    lifecycle.next_state("recipient", row.state, "accepted")
    if row.expires <= now:
        raise Gone("nothing pending: this dispatch expired before it was accepted")
    check_edge(get_edge_facts(tx.db, row.edge_id, now), user_id=row.peer, now=now)
    # Whatever this run changes and returns is kept until a person decides about it.
    thinning.check_room(tx, row.peer, "received", 1, fix="decide about what waits first: `dispatch inbox` shows it")
    states.decide(tx, row, "accepted")
    attempt = row.attempt + 1
    dispatches.set_accepted(tx.db, dispatch_id, attempt=attempt, cwd=cwd, git_folder=git_folder, decision=b"")
    accepted = get_received(tx.db, dispatch_id)
    signed = queue_decision(tx, accepted, "accepted")
    dispatches.set_decision(tx.db, dispatch_id, attempt=attempt, decision=signed.raw)
    edge = edges.get(tx.db, row.edge_id)
    assert edge is not None  # check_edge has just looked at it
    return get_received(tx.db, dispatch_id), scopes.decode(edge.scope)


def decline(tx: Transaction, dispatch_id: str, *, reason: str) -> None:
    """Decline a dispatch; stop its run, or do not send the result that is held.

    Raises NotFound, Conflict, Gone.
    """
    row = get_received(tx.db, dispatch_id)
    if row.state in ("accepted", "running", "held"):
        end(tx, row, "declined", reason=reason)
        return
    states.decide(tx, row, "declined")
    dispatches.set_reason(tx.db, dispatch_id, code=0, message=reason, fix=NO_FIX)
    signed = queue_decision(tx, row, "declined", reason=reason)
    dispatches.set_decision(tx.db, dispatch_id, attempt=row.attempt, decision=signed.raw)


def cancel(tx: Transaction, row: rows.Dispatch, *, reason: str, code: int = 0, own_reason: str = "") -> None:
    """Cancel a received dispatch, for its sender or its recipient; stop its run. The reasons are those of `end`."""
    end(tx, row, "cancelled", reason=reason, code=code, own_reason=own_reason)


def on_cancel(tx: Transaction, signed: Signed) -> Acknowledgement:
    """Handle the sender's cancel, which may overtake the dispatch: then a tombstone refuses it when it arrives."""
    statement: Cancel = signed.statement
    row = dispatches.get(tx.db, statement.dispatch_id)
    if row is None:
        dispatches.add_tombstone(tx.db, statement.issuer_device, statement.dispatch_id, tx.now)
        return Acknowledgement(200, "it will be refused when it arrives")
    if row.direction != "received" or row.device != statement.issuer_device:
        raise Forbidden("that dispatch is not from this device", fix=NO_FIX)
    if row.state in lifecycle.FINAL:
        return Acknowledgement(200, f"it had ended: {row.state}")
    cancel(tx, row, reason=says(row.peer, statement.reason) or "its sender cancelled it")
    return Acknowledgement(200, "cancelled")


def expire(tx: Transaction, row: rows.Dispatch) -> None:
    """Expire a dispatch, sent or received, whose deadline passed before it was accepted."""
    states.decide(tx, row, "expired")
    dispatches.set_reason(tx.db, row.dispatch_id, code=410, message="it expired before it was accepted", fix=NO_FIX)
    if row.direction == "received":
        queue_decision(tx, row, "expired")


def get_received(db: sqlite3.Connection, dispatch_id: str) -> rows.Dispatch:
    """Return a received dispatch. Raises NotFound."""
    row = dispatches.get(db, dispatch_id)
    if row is None or row.direction != "received":
        raise NotFound(f"no dispatch {dispatch_id} in the inbox")
    return row


def queue_decision(tx: Transaction, row: rows.Dispatch, decision: str, *, reason: str = "") -> Signed:
    """Sign and queue a decision for the sender. It states which keys of the dispatch this version ignored."""
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
    tx.post(signed, edge_id=row.edge_id)
    tx.note(DispatchChanged(row.dispatch_id))
    return signed


def dispatch_of(row: rows.Dispatch) -> Dispatch:
    """Return the signed dispatch of a row."""
    return open_as(Dispatch, row.raw)[0]


def accepted_dispatch(row: rows.Dispatch) -> Dispatch:
    """Return the signed dispatch of an accepted row. Raises Conflict if this version reads it differently.

    A later version may understand keys that the person who accepted was not shown.
    """
    dispatch, signed = open_as(Dispatch, row.raw)
    decision, _ = open_as(Decision, row.decision)
    if (decision.read_version, decision.unread) != (dispatch.version, signed.ignored):
        raise Conflict("another version of dispatch accepted it and reads it differently", fix="accept it again")
    return dispatch
