"""A dispatch at its sender: composed, answered by the other machine, decided, traced, ended."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field

from peer.dispatches import lifecycle, payload, reports
from peer.dispatches.admission import CLOCK_SKEW_MS
from peer.protocol.answers import Answer
from peer.protocol.errors import Conflict, Forbidden, Invalid, NotFound
from peer.protocol.statements import Cancel, Decision, Dispatch, Events, FileRef, Result, Signed
from peer.steps.context import Context, Effects
from peer.store import contacts, dispatches, edges, outbox, rows, trace
from peer.trust import edges as edge_life
from peer.trust import scopes

DECISIONS: dict[str, lifecycle.Event] = {
    "pending": "verified",
    "accepted": "accepted",
    "running": "started",
    "declined": "declined",
    "expired": "expired",
}
"""What a decision means in the sender's table; `pending` of a run that had begun means that it was interrupted."""


@dataclass(frozen=True)
class Draft:
    """What a person wants sent. `files` are in the blobs already; `device` '' is the edge's one device."""

    recipient: str
    task: str
    lifetime_seconds: int
    files: tuple[FileRef, ...] = ()
    project: str = ""
    links: tuple[str, ...] = ()
    deliverable: str = ""
    background: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    parent_id: str = ""
    device: str = ""


def edge_to(db: sqlite3.Connection, user_id: str, now: int) -> rows.Edge:
    """Return the active edge over which I may dispatch to this user. Raises Forbidden with the invitation as fix."""
    edge = edges.current(db, user_id, "outgoing")
    if edge is None:
        edge_life.check_send(None, peer=user_id, expires=None, now=now)
        raise AssertionError("check_send refuses where there is no edge")
    told = scopes.decode_summary(edge.scope)
    edge_life.check_send(edge.status, peer=user_id, expires=told.expires, now=now)
    return edge


def compose(db: sqlite3.Connection, context: Context, draft: Draft, effects: Effects) -> rows.Dispatch:
    """Sign a dispatch, store it and queue it. Raises Forbidden, with nothing stored, where no edge permits it."""
    now = context.clock()
    edge = edge_to(db, draft.recipient, now)
    if draft.device and draft.device != edge.device:
        raise Invalid(
            f"{draft.recipient} accepts your dispatches on one device, and that is another one",
            fix="leave out --device",
        )
    if draft.parent_id and dispatches.get(db, draft.parent_id) is None:
        raise NotFound(f"no dispatch {draft.parent_id} to refer to")
    signed = context.letter(
        Dispatch,
        edge.user_id,
        edge.device,
        created=now,
        expires=now + draft.lifetime_seconds * 1000,
        edge_id=edge.edge_id,
        task=draft.task,
        files=draft.files,
        project=draft.project,
        links=draft.links,
        deliverable=draft.deliverable,
        background=draft.background,
        metadata=draft.metadata,
        parent_id=draft.parent_id,
    )
    dispatch: Dispatch = signed.statement
    row = rows.Dispatch(
        dispatch_id=dispatch.id,
        direction="sent",
        edge_id=edge.edge_id,
        peer=edge.user_id,
        device=edge.device,
        state=lifecycle.FIRST["sender"],
        raw=signed.raw,
        digest=signed.digest,
        task=draft.task,
        created=now,
        expires=dispatch.expires,
        updated=now,
    )
    dispatches.add(db, row)
    dispatches.add_files(db, dispatch.id, "attachment", draft.files, statement=dispatch.id, ready=True)
    outbox.put(
        db,
        device=edge.device,
        kind="dispatch",
        raw=signed.raw,
        now=now,
        ordering=dispatch.id,
        edge_id=edge.edge_id,
        dispatch_id=dispatch.id,
    )
    effects.wake.add(edge.device)
    effects.changed.add(dispatch.id)
    effects.expires = min(effects.expires, dispatch.expires)
    return row


def cancel(db: sqlite3.Connection, context: Context, dispatch_id: str, effects: Effects, *, reason: str) -> None:
    """Take a dispatch back. Raises NotFound, Conflict, Gone."""
    row = sent(db, dispatch_id)
    if row.state in ("cancelled", "expired"):
        raise Conflict(f"nothing pending: this dispatch is already {row.state}")
    _move(db, context, row, "cancelled", effects)
    dispatches.set_reason(db, dispatch_id, code=0, message=reason or "you cancelled it", fix="")
    outbox.purge_dispatch(db, dispatch_id)
    # Also when nothing was delivered as far as we know: the dispatch may be on the wire this very moment.
    signed = context.letter(Cancel, row.peer, row.device, dispatch_id=dispatch_id, reason=reason)
    outbox.put(
        db,
        device=row.device,
        kind="cancel",
        raw=signed.raw,
        now=context.clock(),
        priority=0,
        edge_id=row.edge_id,
        dispatch_id=dispatch_id,
    )
    effects.wake.add(row.device)


def answered(db: sqlite3.Connection, context: Context, item: rows.Outgoing, answer: Answer, effects: Effects) -> None:
    """The other machine answered a statement of ours for good."""
    outbox.drop(db, item.n)
    device = contacts.device(db, item.device)
    if device is not None and contacts.is_blocked(db, device.user_id):
        effects.contacts_changed = True  # that may have been the last word they were owed
    if item.kind == "acceptance" and not answer.taken:
        edges.decline_offer(db, item.edge_id, context.clock())
        effects.contacts_changed = True
    row = dispatches.get(db, item.dispatch_id) if item.kind == "dispatch" else None
    if row is None or row.state not in ("queued", "expired"):
        return
    if answer.code == 200:
        if row.state == "queued":
            _move(db, context, row, "verified", effects)
    elif answer.code == 410:
        _move(db, context, row, "expired", effects)
        dispatches.set_reason(db, row.dispatch_id, code=410, message=answer.message, fix=answer.fix)
    elif not answer.taken:
        _move(db, context, row, "rejected", effects)
        dispatches.set_reason(db, row.dispatch_id, code=answer.code, message=answer.message, fix=answer.fix)


def on_decision(db: sqlite3.Connection, context: Context, signed: Signed, effects: Effects) -> Answer:
    """The recipient's side decided, began, interrupted or let expire."""
    letter: Decision = signed.statement
    row = _of_letter(db, letter.dispatch_id, letter.issuer_device, letter.dispatch_digest)
    event = DECISIONS[letter.decision]
    if event == "verified" and row.state in ("accepted", "running"):
        event = "interrupted"
    if not lifecycle.allows("sender", row.state, event):
        return Answer(200, f"it had ended here: {row.state}")
    _move(db, context, row, event, effects)
    if letter.decision in ("accepted", "declined"):
        dispatches.set_decision(db, row.dispatch_id, attempt=letter.attempt, decision=signed.raw)
    if letter.decision == "pending" and letter.expires:
        # As told, but never further off than a dispatch may live: the other machine writes this number as it pleases.
        latest = context.clock() + payload.MAX_LIFETIME_SECONDS * 1000 + CLOCK_SKEW_MS
        expires = min(letter.expires, latest)
        dispatches.set_expires(db, row.dispatch_id, expires)
        effects.expires = min(effects.expires, expires)
    if letter.decision in ("declined", "expired") and letter.reason:
        dispatches.set_reason(db, row.dispatch_id, code=0, message=letter.reason, fix="")
    return Answer(200)


def on_events(db: sqlite3.Connection, context: Context, signed: Signed, effects: Effects) -> Answer:
    """A batch of the run's trace: kept if it continues the chain. Raises Conflict, Invalid, TooLarge."""
    letter: Events = signed.statement
    row = _of_letter(db, letter.dispatch_id, letter.issuer_device, None)
    if row.result or row.state in ("completed", "failed", "declined", "rejected"):
        raise Conflict(f"that dispatch has ended here: {row.state}", fix="")
    count, head = trace.head(db, letter.dispatch_id, letter.attempt)
    if letter.sequence != count or letter.previous != head:
        raise Conflict("the batch does not continue the chain of events", fix="")
    reports.check_room(row.trace_bytes, len(signed.raw))
    reports.check_events(letter.events)
    trace.add_batch(db, row.dispatch_id, letter.attempt, count, signed.raw, signed.digest)
    trace.add_events(db, row.dispatch_id, letter.attempt, letter.events)
    effects.changed.add(row.dispatch_id)
    return Answer(200)


def on_result(db: sqlite3.Connection, context: Context, signed: Signed, effects: Effects) -> Answer:
    """How the dispatch ended. Raises Conflict, Invalid, TooLarge."""
    letter: Result = signed.statement
    row = _of_letter(db, letter.dispatch_id, letter.issuer_device, letter.dispatch_digest)
    if row.result:
        return Answer(200, "it had a result")
    reports.check_returned(letter.files)
    reports.check_facts("the sandbox", letter.sandbox)
    reports.check_facts("the scope", letter.scope)
    ended: lifecycle.Event = letter.status  # type: ignore[assignment]  # its form allows only events of the table
    if ended == "failed" and not letter.attempt:
        ended = "rejected"  # it never came as far as a person: the other machine could not take it in
    if not lifecycle.allows("sender", row.state, ended):
        _catch_up(db, context, row, letter, effects)
        row = sent(db, letter.dispatch_id)
    if not lifecycle.allows("sender", row.state, ended):
        return Answer(200, f"it had ended here: {row.state}")
    _move(db, context, row, ended, effects)
    dispatches.set_result(db, row.dispatch_id, signed.raw)
    dispatches.set_reason(db, row.dispatch_id, code=letter.code, message=letter.reason, fix="")
    dispatches.add_files(db, row.dispatch_id, "returned", letter.files, statement=letter.id, ready=False)
    effects.pull_files = effects.pull_files or bool(letter.files)
    effects.changed.add(row.dispatch_id)
    return Answer(200)


def sent(db: sqlite3.Connection, dispatch_id: str) -> rows.Dispatch:
    """Return a dispatch that I sent. Raises NotFound."""
    row = dispatches.get(db, dispatch_id)
    if row is None or row.direction != "sent":
        raise NotFound(f"no sent dispatch {dispatch_id}")
    return row


def edge_ended(db: sqlite3.Connection, context: Context, edge_id: str, effects: Effects) -> None:
    """Give up what was to go out, and what was to be fetched, over an edge that its trustor revoked."""
    for row in dispatches.in_states(db, "sent", ("queued",), edge_id=edge_id):
        _move(db, context, row, "rejected", effects)
        dispatches.set_reason(
            db,
            row.dispatch_id,
            code=403,
            message=f"{row.peer} revoked your trust edge",
            fix=f"ask them: `dispatch invite {row.peer}`",
        )
    dispatches.give_up_returned(db, edge_id)
    outbox.purge_edge(db, edge_id)


def _catch_up(db: sqlite3.Connection, context: Context, row: rows.Dispatch, letter: Result, effects: Effects) -> None:
    # A result implies the accept that came before it; where that word was lost with the sender's store restored from
    # a backup, the result alone must still end the dispatch.
    if letter.attempt and lifecycle.allows("sender", row.state, "accepted"):
        _move(db, context, row, "accepted", effects)


def _of_letter(db: sqlite3.Connection, dispatch_id: str, device: str, digest: bytes | None) -> rows.Dispatch:
    row = dispatches.get(db, dispatch_id)
    if row is None or row.direction != "sent" or row.device != device:
        raise NotFound("that dispatch was not sent to this device", fix="")
    if digest is not None and row.digest != digest:
        raise Conflict("that is about other bytes than the dispatch that was sent", fix="")
    if contacts.is_blocked(db, row.peer):
        raise Forbidden("blocked", fix="")
    return row


def _move(
    db: sqlite3.Connection, context: Context, row: rows.Dispatch, event: lifecycle.Event, effects: Effects
) -> None:
    state = lifecycle.next_state("sender", row.state, event)
    dispatches.move(db, row.dispatch_id, state, context.clock())
    effects.changed.add(row.dispatch_id)
