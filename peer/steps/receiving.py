"""A dispatch at its recipient, up to the run: taken in, decided by a person, cancelled, expired."""

from __future__ import annotations

import sqlite3
from typing import Any

from peer.dispatches import lifecycle
from peer.dispatches.admission import EdgeFacts, admit, check_edge
from peer.protocol.answers import Answer
from peer.protocol.errors import Conflict, Forbidden, Gone, NotFound, RateLimited
from peer.protocol.statements import Cancel, Decision, Dispatch, Result, Signed, open_as
from peer.steps.context import Context, Effects
from peer.store import contacts, dispatches, edges, outbox, rows, trace
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


def take_in(db: sqlite3.Connection, context: Context, signed: Signed, effects: Effects) -> Answer:
    """Store a dispatch that arrived. 200: it is in the inbox; 202: its files are still to be fetched."""
    dispatch: Dispatch = signed.statement
    now = context.clock()
    buried = dispatches.has_tombstone(db, dispatch.issuer_device, dispatch.id)
    admit(dispatch, edge_facts(db, dispatch.edge_id, now), buried=buried, now=now)
    if dispatches.get(db, dispatch.id) is not None:
        raise Conflict("another dispatch has this id", fix="send it again")
    attached = sum(item.size for item in dispatch.files)
    if attached and dispatches.attached_bytes(db, dispatch.edge_id, now - DAY_MS) + attached > MAX_WAITING_BYTES:
        raise RateLimited(
            f"the files of this edge's dispatches that wait have {MAX_WAITING_BYTES >> 20:,} MB already",
            fix="send it when some were accepted, or a day later",
        )
    state = lifecycle.FIRST["recipient"]
    if not dispatch.files:
        state = lifecycle.next_state("recipient", state, "verified")
    dispatches.add(
        db,
        rows.Dispatch(
            dispatch_id=dispatch.id,
            direction="received",
            edge_id=dispatch.edge_id,
            peer=dispatch.issuer_user,
            device=dispatch.issuer_device,
            state=state,
            raw=signed.raw,
            digest=signed.digest,
            task=dispatch.task,
            created=dispatch.created,
            expires=dispatch.expires,
            updated=now,
        ),
    )
    dispatches.add_files(db, dispatch.id, "attachment", dispatch.files, statement=dispatch.id, ready=False)
    effects.expires = min(effects.expires, dispatch.expires)
    effects.changed.add(dispatch.id)
    if dispatch.files:
        effects.pull_files = True
        return Answer(202, "stored; its files are still to be fetched")
    return Answer(200, "in the inbox")


def files_arrived(db: sqlite3.Connection, context: Context, item: rows.File, effects: Effects) -> None:
    """Note that a file is here and verified; the last attachment brings its dispatch into the inbox."""
    left = dispatches.set_ready(db, item)
    effects.changed.add(item.dispatch_id)
    row = dispatches.get(db, item.dispatch_id)
    if left or row is None or row.direction != "received" or row.state != "arriving":
        return
    _move(db, context, row, "verified", effects)
    tell(db, context, row, "pending", effects)


def files_refused(db: sqlite3.Connection, context: Context, item: rows.File, reason: str, effects: Effects) -> None:
    """Give up a file that the other side does not, or no longer, serve as promised; with an attachment its dispatch."""
    row = dispatches.get(db, item.dispatch_id)
    dispatches.give_up(db, item)
    effects.changed.add(item.dispatch_id)
    if row is None or row.direction != "received" or row.state != "arriving":
        return
    _move(db, context, row, "rejected", effects)
    dispatches.set_reason(db, row.dispatch_id, code=422, message=f"{item.name}: {reason}", fix="send it again")
    conclude(db, context, row, "failed", effects, reason=f"the file {item.name} did not arrive: {reason}", code=422)


def accept(
    db: sqlite3.Connection, context: Context, dispatch_id: str, effects: Effects, *, cwd: str
) -> tuple[rows.Dispatch, scopes.Scope]:
    """Decide that a dispatch runs, in `cwd` ('' is an empty workspace); return it as it now is, and its edge's scope.

    Edge, state and expiry are checked here, inside the transaction. Raises NotFound, Conflict, Gone, Forbidden.
    """
    row = received(db, dispatch_id)
    now = context.clock()
    lifecycle.next_state("recipient", row.state, "accepted")
    if row.expires <= now:
        raise Gone("nothing pending: this dispatch expired before it was accepted")
    check_edge(edge_facts(db, row.edge_id, now), user_id=row.peer, now=now)
    _move(db, context, row, "accepted", effects)
    attempt = row.attempt + 1
    dispatches.set_accepted(db, dispatch_id, attempt=attempt, cwd=cwd, decision=b"")
    accepted = received(db, dispatch_id)
    signed = tell(db, context, accepted, "accepted", effects)
    dispatches.set_decision(db, dispatch_id, attempt=attempt, decision=signed.raw)
    edge = edges.get(db, row.edge_id)
    assert edge is not None  # check_edge has just looked at it
    return received(db, dispatch_id), scopes.decode(edge.scope)


def decline(db: sqlite3.Connection, context: Context, dispatch_id: str, effects: Effects, *, reason: str) -> None:
    """Decide that a dispatch does not run. Raises NotFound, Conflict, Gone."""
    row = received(db, dispatch_id)
    _move(db, context, row, "declined", effects)
    dispatches.set_reason(db, dispatch_id, code=0, message=reason, fix="")
    signed = tell(db, context, row, "declined", effects, reason=reason)
    dispatches.set_decision(db, dispatch_id, attempt=row.attempt, decision=signed.raw)


def cancel(
    db: sqlite3.Connection, context: Context, row: rows.Dispatch, effects: Effects, *, reason: str, code: int = 0
) -> None:
    """End a received dispatch as cancelled, whoever asked for it; a run of it is killed."""
    _move(db, context, row, "cancelled", effects)
    dispatches.set_reason(db, row.dispatch_id, code=code, message=reason, fix="")
    trace.close_all(db, row.dispatch_id, "cancelled")
    conclude(db, context, row, "cancelled", effects, reason=reason, code=code)
    effects.stop_runs[row.dispatch_id] = reason


def on_cancel(db: sqlite3.Connection, context: Context, signed: Signed, effects: Effects) -> Answer:
    """The sender takes a dispatch back, also one that has not arrived yet."""
    letter: Cancel = signed.statement
    row = dispatches.get(db, letter.dispatch_id)
    if row is None:
        dispatches.add_tombstone(db, letter.issuer_device, letter.dispatch_id, context.clock())
        return Answer(200, "it will not be taken in")
    if row.direction != "received" or row.device != letter.issuer_device:
        raise Forbidden("that dispatch is not of this device", fix="")
    if row.state in lifecycle.FINAL:
        return Answer(200, f"it had ended: {row.state}")
    cancel(db, context, row, effects, reason=letter.reason or "its sender cancelled it")
    return Answer(200, "cancelled")


def expire(db: sqlite3.Connection, context: Context, row: rows.Dispatch, effects: Effects) -> None:
    """End a dispatch whose time passed before it was accepted, on either side."""
    side: lifecycle.Side = "recipient" if row.direction == "received" else "sender"
    state = lifecycle.next_state(side, row.state, "expired")
    dispatches.move(db, row.dispatch_id, state, context.clock())
    dispatches.set_reason(db, row.dispatch_id, code=410, message="its time passed before it was accepted", fix="")
    effects.changed.add(row.dispatch_id)
    if row.direction == "received":
        tell(db, context, row, "expired", effects)


def received(db: sqlite3.Connection, dispatch_id: str) -> rows.Dispatch:
    """Return a received dispatch. Raises NotFound."""
    row = dispatches.get(db, dispatch_id)
    if row is None or row.direction != "received":
        raise NotFound(f"no dispatch {dispatch_id} in the inbox")
    return row


def tell(
    db: sqlite3.Connection, context: Context, row: rows.Dispatch, decision: str, effects: Effects, *, reason: str = ""
) -> Signed:
    """Queue the signed word that a dispatch is now `decision`, for its sender."""
    current = received(db, row.dispatch_id)
    signed = context.letter(
        Decision,
        row.peer,
        row.device,
        dispatch_id=row.dispatch_id,
        dispatch_digest=row.digest,
        attempt=current.attempt,
        decision=decision,
        expires=current.expires if decision == "pending" else 0,
        reason=reason[:2_000],
    )
    _queue(db, row, "decision", signed, context.clock(), effects)
    return signed


def conclude(
    db: sqlite3.Connection,
    context: Context,
    row: rows.Dispatch,
    status: str,
    effects: Effects,
    *,
    reason: str = "",
    code: int = 0,
    **content: Any,
) -> Signed:
    """Sign, store and queue the result of a dispatch: the chain's head and count as the store has them now."""
    count, head = trace.head(db, row.dispatch_id, row.attempt)
    signed = context.letter(
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
    dispatches.set_result(db, row.dispatch_id, signed.raw)
    _queue(db, row, "result", signed, context.clock(), effects)
    return signed


def dispatch_of(row: rows.Dispatch) -> Dispatch:
    """Return the signed dispatch of a row."""
    return open_as(Dispatch, row.raw)[0]


def _queue(db: sqlite3.Connection, row: rows.Dispatch, kind: str, signed: Signed, now: int, effects: Effects) -> None:
    outbox.put(
        db,
        device=row.device,
        kind=kind,
        raw=signed.raw,
        now=now,
        ordering=row.dispatch_id,
        edge_id=row.edge_id,
        dispatch_id=row.dispatch_id,
    )
    effects.wake.add(row.device)
    effects.changed.add(row.dispatch_id)


def _move(
    db: sqlite3.Connection, context: Context, row: rows.Dispatch, event: lifecycle.Event, effects: Effects
) -> None:
    dispatches.move(db, row.dispatch_id, lifecycle.next_state("recipient", row.state, event), context.clock())
    effects.changed.add(row.dispatch_id)
