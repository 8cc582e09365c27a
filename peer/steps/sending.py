"""Sent dispatches: composed, acknowledged, then moved by the recipient's decisions, events and result."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from peer.dispatches import fitting, lifecycle, refusals, reports
from peer.dispatches.admission import CLOCK_SKEW_MS
from peer.dispatches.quoting import own_cancel, says
from peer.protocol import landed
from peer.protocol.acknowledgements import Acknowledgement
from peer.protocol.content import MAX_EXPIRES, Content, FileRef
from peer.protocol.documents import Document
from peer.protocol.errors import NO_FIX, Conflict, Forbidden, Invalid, NotFound, RateLimited
from peer.protocol.payloads import gathered
from peer.protocol.signing import Signed, open_as
from peer.protocol.statements import Cancel, Decision, DeviceStatement, Dispatch, Events, LandingReport, Result
from peer.steps import states, thinning
from peer.steps.effects import BlobsFreed, DeadlineSet, DispatchChanged, FetchFiles, PeopleChanged, ThinningDue
from peer.steps.transaction import Transaction
from peer.store import contacts, dispatches, edges, invitations, landing_reports, outbox, rows, trace
from peer.trust import edge_lifecycle, scopes


@dataclass(frozen=True)
class Draft:
    """The input of compose(). `expires`: seconds until it expires. The files are already among the blobs. `device`: ''
    means the edge's device."""

    recipient: str
    content: Content[FileRef]
    expires: int
    device: str = ""


def get_edge_to(db: sqlite3.Connection, me: str, user_id: str, now: int) -> rows.Edge:
    """Return the active edge from `me`, this user, to `user_id`. Raises Invalid, Forbidden with the fix."""
    if user_id == me:
        raise Invalid("you cannot dispatch to yourself", fix="name somebody else: `dispatch contacts`")
    edge = edges.current(db, user_id, "outgoing")
    asked = invitations.open_to(db, user_id, now) if edge is None or edge.status in edge_lifecycle.ENDED else None
    if asked is not None and asked.other_key:
        raise Forbidden(
            f"{user_id} answered your invitation under a different root key from the one you know",
            fix=f"ask {user_id} in person or by phone whether they made a new one; if they did: "
            f"`dispatch trust forget-key {user_id}`",
        )
    if asked is not None:
        raise Forbidden(
            f"{user_id} has not answered your invitation yet",
            fix=f"wait for their answer, or give them its address: `dispatch invite {user_id}` shows it again",
        )
    if edge is None and contacts.get(db, user_id) is None and (meant := contacts.did_you_mean(db, user_id)):
        raise Forbidden(
            f"{user_id} has not accepted an invitation of yours",
            fix=f"{meant} Else invite them: `dispatch invite {user_id}`",
        )
    if edge is None:
        edge_lifecycle.check_send(None, peer=user_id, expires=None, now=now)
        raise AssertionError("check_send refuses where there is no edge")
    scope = scopes.decode_summary(edge.scope)
    edge_lifecycle.check_send(edge.status, peer=user_id, expires=scope.expires, now=now)
    return edge


@dataclass(frozen=True)
class Composed:
    """A signed and queued dispatch. `left_out`: fields that the recipient's device does not understand."""

    row: rows.Dispatch
    left_out: tuple[str, ...]


def content_of(draft: Draft) -> Document:
    """Return a draft's fields by name, as fitting.fit() takes them."""
    return draft.content.values()


def compose(tx: Transaction, draft: Draft) -> Composed:
    """Fit a dispatch to its recipient's device, then sign, store and queue it.

    Raises Forbidden if no edge permits it, Invalid, NotFound, and Conflict if the device is too old for it.
    """
    now = tx.now
    edge = get_edge_to(tx.db, tx.context.identity.user_id, draft.recipient, now)
    if draft.device and draft.device != edge.device:
        raise Invalid(
            f"{draft.recipient} accepts your dispatches on a different device",
            fix="leave out --device",
        )
    content = draft.content
    if content.parent and dispatches.get(tx.db, content.parent) is None:
        raise NotFound(f"no dispatch {content.parent} to refer to")
    attached = sum(item.size for item in content.files)
    thinning.check_room(
        tx, edge.user_id, "sent", attached, fix="wait, or cancel some of them: `dispatch sent` lists them"
    )
    device = contacts.device(tx.db, edge.device)
    theirs = fitting.Understood.of_hello(device.hello if device is not None else b"")
    fitted = fitting.fit(Dispatch, content_of(draft), theirs, peer=edge.user_id)
    signed = tx.context.sign_for(
        Dispatch,
        edge.user_id,
        edge.device,
        created=now,
        expires=now + draft.expires * 1000,
        edge_id=edge.edge_id,
        **gathered(fitted.content),
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
        task=content.task,
        created=now,
        expires=dispatch.expires,
        updated=now,
    )
    dispatches.add(tx.db, row)
    dispatches.add_files(tx.db, dispatch.id, "attachment", content.files, statement=dispatch.id, ready=True)
    tx.post(signed, edge_id=edge.edge_id)
    tx.note(DispatchChanged(dispatch.id))
    tx.note(DeadlineSet(dispatch.expires))
    return Composed(row, fitted.left_out)


def cancel(tx: Transaction, dispatch_id: str, *, reason: str) -> None:
    """Cancel a sent dispatch. Raises NotFound, Conflict, Gone."""
    row = get_sent(tx.db, dispatch_id)
    states.decide(tx, row, "cancelled")
    dispatches.set_reason(tx.db, dispatch_id, code=0, message=own_cancel(reason), fix=NO_FIX)
    outbox.purge_dispatch(tx.db, dispatch_id)
    # Sent even if no delivery is recorded: the dispatch may be on the wire right now.
    signed = tx.context.sign_for(Cancel, row.peer, row.device, dispatch_id=dispatch_id, reason=reason)
    tx.post(signed, edge_id=row.edge_id)


def on_acknowledged(tx: Transaction, item: rows.QueuedStatement, acknowledgement: Acknowledgement) -> None:
    """Apply the final acknowledgement of an outbox item: drop the item and advance its dispatch or edge."""
    outbox.drop(tx.db, item.n)
    device = contacts.device(tx.db, item.device)
    if device is not None and contacts.is_blocked(tx.db, device.user_id):
        tx.note(PeopleChanged())  # it may be the last statement a blocked device may still connect for
    if item.kind == "acceptance" and not acknowledgement.taken:
        edges.decline_offer(tx.db, item.edge_id, tx.now)
        tx.note(PeopleChanged())
    if item.kind != "events":  # what ends a dispatch follows them
        tx.note(ThinningDue())
    if item.kind == "result":
        dispatches.set_result_delivered(tx.db, item.dispatch_id, tx.now)
    row = dispatches.get(tx.db, item.dispatch_id) if item.kind == "dispatch" else None
    event = lifecycle.event_of_acknowledgement(acknowledgement.code)
    if row is None or event is None:
        return
    if states.learn(tx, row, event) in ("rejected", "expired") and not acknowledgement.taken:
        message, fix = refusals.reason(row.peer, acknowledgement.code, acknowledgement.message)
        dispatches.set_reason(tx.db, row.dispatch_id, code=acknowledgement.code, message=message, fix=fix)


def on_decision(tx: Transaction, signed: Signed) -> Acknowledgement:
    """Handle a decision of the recipient: pending, accepted, running, declined or expired."""
    statement: Decision = signed.statement
    row = _dispatch_of(tx.db, statement, statement.dispatch_digest)
    if states.learn(tx, row, lifecycle.event_of_decision(row.state, statement.decision)) is None:
        return Acknowledgement(200, f"it is {row.state} here")
    if statement.decision in ("accepted", "declined"):
        dispatches.set_decision(tx.db, row.dispatch_id, attempt=statement.attempt, decision=signed.raw)
    if statement.decision == "pending" and statement.expires:
        # Bounded by the longest life of a dispatch: the other machine is not trusted with this number.
        latest = tx.now + MAX_EXPIRES * 1000 + CLOCK_SKEW_MS
        expires = min(statement.expires, latest)
        dispatches.set_expires(tx.db, row.dispatch_id, expires)
        tx.note(DeadlineSet(expires))
    if statement.decision in ("declined", "expired") and statement.reason:
        dispatches.set_reason(tx.db, row.dispatch_id, code=0, message=says(row.peer, statement.reason), fix=NO_FIX)
    return Acknowledgement(200)


def on_events(tx: Transaction, signed: Signed) -> Acknowledgement:
    """Store a batch of the run's trace if it continues the chain. Raises Conflict, Invalid, TooLarge."""
    statement: Events = signed.statement
    row = _dispatch_of(tx.db, statement, None)
    if row.result or row.state in ("completed", "failed", "declined", "rejected"):
        raise Conflict(f"that dispatch has ended here: {row.state}", fix=NO_FIX)
    if statement.attempt > row.attempt and row.state != "cancelled":
        # Nobody accepted what it tells of. Of a dispatch that was cancelled here the decision may have come too late.
        raise Conflict("no decision said that this attempt was accepted", fix=NO_FIX)
    if row.thinned and row.closed:
        # Without those that were removed, the first of them would begin another chain of the same attempt.
        raise Conflict(f"the events of that dispatch, which was {row.state}, were removed here", fix=NO_FIX)
    count, head = trace.head(tx.db, statement.dispatch_id, statement.attempt)
    if statement.sequence != count or statement.previous != head:
        raise Conflict("the batch does not continue the chain of events", fix=NO_FIX)
    size = reports.stored_bytes(len(signed.raw), statement.events)
    reports.check_room(row.trace_bytes, size)
    thinning.check_room(tx, row.peer, "sent", size, fix=NO_FIX)
    reports.check_events(statement.events)
    trace.add_batch(tx.db, row.dispatch_id, statement.attempt, count, signed.raw, signed.digest)
    trace.add_events(tx.db, row.dispatch_id, statement.attempt, statement.events)
    trace.charge(tx.db, row.dispatch_id, size)
    tx.note(DispatchChanged(row.dispatch_id))
    return Acknowledgement(200)


def on_result(tx: Transaction, signed: Signed) -> Acknowledgement:
    """Handle the result of a dispatch. Raises Conflict, Invalid, TooLarge."""
    statement: Result = signed.statement
    row = _dispatch_of(tx.db, statement, statement.dispatch_digest)
    if row.result:
        return Acknowledgement(200, "it had a result")
    reports.check_returned(statement.files)
    reports.check_facts("the sandbox", statement.sandbox)
    reports.check_facts("the scope", statement.scope)
    ran = statement.status == "completed" or (statement.status == "failed" and statement.attempt > 0)
    accepted = statement.attempt == row.attempt > 0
    if (ran and not accepted) or (statement.attempt > row.attempt and statement.status != "cancelled"):
        # A run has a result only where its accept is known. A revocation drops a decision that is still queued, so a
        # `cancelled` result may arrive without it.
        raise Conflict("no decision said that this attempt was accepted", fix=NO_FIX)
    no_room = _no_room_for(tx, row, statement.files)
    if states.learn(tx, row, lifecycle.event_of_result(statement.status, attempt=statement.attempt)) is None:
        return Acknowledgement(200, f"it is {row.state} here")
    dispatches.set_result(tx.db, row.dispatch_id, signed.raw)
    if not row.state == statement.status == "cancelled":  # else it was cancelled here, and that reason stays
        who = row.peer if statement.status in ("declined", "cancelled") else f"{row.peer}'s machine"
        message = says(who, statement.reason)
        dispatches.set_reason(tx.db, row.dispatch_id, code=statement.code, message=message, fix=NO_FIX)
    dispatches.add_files(tx.db, row.dispatch_id, "returned", statement.files, statement=statement.id, ready=False)
    if no_room:
        for item in dispatches.files(tx.db, row.dispatch_id, "returned"):
            dispatches.set_given_up(tx.db, item)
        trace.add_status(tx.db, row.dispatch_id, statement.attempt, "files_left_out", no_room)
    elif statement.files:
        tx.note(FetchFiles())
    tx.note(DispatchChanged(row.dispatch_id))
    return Acknowledgement(200)


def on_landing_report(tx: Transaction, signed: Signed) -> Acknowledgement:
    """Handle the recipient's report on how much of what the run changed is in place. Raises Conflict, Invalid."""
    statement: LandingReport = signed.statement
    row = _dispatch_of(tx.db, statement, statement.dispatch_digest)
    if not row.result or open_as(Result, row.result)[0].attempt != statement.attempt:
        raise Conflict("no result of that run is known", fix=NO_FIX)
    landed.check(statement)
    known = landing_reports.get(tx.db, row.dispatch_id)
    if known is not None and statement.counter <= known.counter:
        return Acknowledgement(200, "a newer report is known")
    landing_reports.put(tx.db, signed)
    tx.note(DispatchChanged(row.dispatch_id))
    return Acknowledgement(200)


def _no_room_for(tx: Transaction, row: rows.Dispatch, files: Sequence[FileRef]) -> str:
    """Return why there is no room for these returned files, "" if there is. Raises Unavailable if there will be."""
    if files:
        try:
            thinning.check_room(tx, row.peer, "sent", sum(item.size for item in files), fix=NO_FIX)
        except RateLimited as error:  # the result itself is taken all the same: it ends the dispatch
            return f"the returned files were not fetched: {error.message}"
    return ""


def get_sent(db: sqlite3.Connection, dispatch_id: str) -> rows.Dispatch:
    """Return a sent dispatch. Raises NotFound."""
    row = dispatches.get(db, dispatch_id)
    if row is None or row.direction != "sent":
        raise NotFound(f"no sent dispatch {dispatch_id}")
    return row


REVOKED: Final = "{} revoked your trust edge"
KEY_FORGOTTEN: Final = "you forgot the key by which you knew {}"


def on_edge_ended(tx: Transaction, edge_id: str, *, why: str = REVOKED) -> None:
    """Handle the end of an edge: end its open dispatches, stop fetching returned files, purge its outbox items.

    `why`: the reason that each is given, with a place for the recipient's address. What the recipient's machine still
    says of one that it knew counts when it comes. But it may say nothing more: whatever was not delivered when the edge
    was revoked is not sent, the result of a run that had ended among it.
    """
    for row in dispatches.in_states(tx.db, "sent", ("pending", "accepted", "running"), edge_id=edge_id):
        states.learn(tx, row, "cancelled")
        dispatches.set_reason(tx.db, row.dispatch_id, code=403, message=why.format(row.peer), fix=NO_FIX)
    for row in dispatches.in_states(tx.db, "sent", ("queued",), edge_id=edge_id):
        states.decide(tx, row, "rejected")
        dispatches.set_reason(
            tx.db,
            row.dispatch_id,
            code=403,
            message=why.format(row.peer),
            fix=f"ask them: `dispatch invite {row.peer}`",
        )
    dispatches.give_up_awaited_returns(tx.db, edge_id)
    tx.note(BlobsFreed())
    outbox.purge_edge(tx.db, edge_id)


def _dispatch_of(
    db: sqlite3.Connection, statement: Decision | Events | Result | LandingReport, digest: bytes | None
) -> rows.Dispatch:
    row = dispatches.get(db, statement.dispatch_id)
    # The user as well as the device, which may be another user's by now: no receipt fits what that one signs.
    if row is None or row.direction != "sent" or (row.peer, row.device) != _signer(statement):
        raise NotFound("that dispatch was not sent to this device", fix=NO_FIX)
    if digest is not None and row.digest != digest:
        raise Conflict("that does not match the dispatch that was sent", fix=NO_FIX)
    return row


def _signer(statement: DeviceStatement) -> tuple[str, str]:
    return statement.issuer_user, statement.issuer_device
