"""Answers to invitations: acceptance or decline by the invited user, their arrival, the inviter's confirmation.

The invitations themselves, and the order of a first contact: inviting.py.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping

from peer.protocol import codec
from peer.protocol.acknowledgements import Acknowledgement, acknowledgement_of
from peer.protocol.errors import NO_FIX, Conflict, Forbidden, Invalid, NotFound
from peer.protocol.sealing import seal
from peer.protocol.signing import Signed, open_as, open_statement
from peer.protocol.statements import Acceptance, Confirmation, Decline, DeviceSet, EdgeChange, Invitation
from peer.steps import inviting, memberships
from peer.steps.effects import BrokerWriteQueued, InvitationsChanged, PeopleChanged
from peer.steps.transaction import Transaction
from peer.store import contacts, edges, invitations, rows
from peer.trust import edge_lifecycle, invitation_address, invitation_lifecycle, scopes


def open_address(db: sqlite3.Connection, address: invitation_address.Address) -> rows.Invitation:
    """Check a received invitation against the address that the inviter shared, and store the address's secret.

    Raises NotFound, Invalid.
    """
    row = inviting.get_known(db, address.token, "received")
    invitation_address.check_digest(address, row.raw)
    invitations.set_secret(db, address.token, address.secret)
    return inviting.get_known(db, address.token, "received")


def get_answerable(db: sqlite3.Connection, now: int, token: str) -> rows.Invitation:
    """Return a received invitation that is still open. Raises NotFound, Conflict, Gone."""
    row = inviting.get_known(db, token, "received")
    invitation_lifecycle.check_open(row.status, expires=row.expires, now=now)
    return row


def check_inviter(db: sqlite3.Connection, row: rows.Invitation) -> None:
    """Raise Forbidden unless root key and device of a received invitation may be its sender's, as far as is known."""
    invitation, _ = open_as(Invitation, row.raw)
    device_set, _ = inviting.open_device_set(invitation.device_set, invitation)
    memberships.check_key(db, device_set, by_hand=True)
    memberships.check_issuer(db, device_set, invitation.issuer_device)


def accept(
    tx: Transaction,
    token: str,
    scope: scopes.Scope,
    *,
    mcp_commands: Mapping[str, str] | None = None,
    git_folders: Mapping[str, str] | None = None,
) -> rows.Edge:
    """Pin the inviter, store an edge of this scope as offered, and queue the acceptance for broker and courier.

    `mcp_commands`: MCP server → the command to pin, as JSON. `git_folders`: folder of the scope → the pin of its
    repository's folder, as JSON.

    Raises NotFound, Conflict, Gone; Forbidden if another root key of the inviter is pinned.
    """
    row = get_answerable(tx.db, tx.now, token)
    invitation, signed = open_as(Invitation, row.raw)
    device_set, device_set_signed = inviting.open_device_set(invitation.device_set, invitation)
    now = tx.now
    memberships.check_key(
        tx.db, device_set, by_hand=True
    )  # before the edges: those of the old key are not what is asked for
    existing = edges.current(tx.db, invitation.issuer_user, "incoming")
    if existing is not None and existing.status in edges.OPEN:
        raise Conflict(
            f"{invitation.issuer_user} may already dispatch to you",
            fix=f"change what is permitted: `dispatch trust edit {invitation.issuer_user}`",
        )
    issuer = invitation.issuer_device
    memberships.pin(tx, device_set, device_set_signed, issuer=issuer, verified=bool(row.verified), by_hand=True)
    my_digest = hashlib.sha256(tx.context.identity.device_set).digest()
    proof = (
        invitation_address.proof(row.secret, invitation_digest=signed.digest, device_set_digest=my_digest)
        if row.secret
        else b""
    )
    edge_id = tx.context.new_id()
    acceptance = tx.context.sign_for(
        Acceptance,
        invitation.issuer_user,
        invitation.issuer_device,
        invitation_id=invitation.id,
        invitation_digest=signed.digest,
        edge_id=edge_id,
        scope=scopes.encode_summary(scopes.summary(scope)),
        device_set=tx.context.identity.device_set,
        read_version=invitation.version,
        proof=proof,
        unread=signed.ignored,
    )
    edges.add(
        tx.db,
        rows.Edge(
            edge_id=edge_id,
            direction="incoming",
            user_id=invitation.issuer_user,
            device=tx.context.identity.device,
            status="offered",
            scope=scopes.encode(scope).decode(),
            invitation_id=token,
            acceptance=acceptance.raw,
            created=now,
            changed=now,
        ),
    )
    edges.pin_mcp_servers(tx.db, edge_id, mcp_commands or {})
    edges.pin_git_folders(tx.db, edge_id, git_folders or {})
    invitations.set_status(tx.db, token, invitation_lifecycle.next_state("open", "accept"))
    _queue_answer(tx.db, device_set, row, "accepted", acceptance, now)
    tx.post(acceptance, edge_id=edge_id)
    tx.note(BrokerWriteQueued())
    tx.note(PeopleChanged())
    made = edges.get(tx.db, edge_id)
    assert made is not None
    return made


def decline(tx: Transaction, token: str) -> None:
    """Decline a received invitation by its token. Raises NotFound, Conflict, Gone."""
    refuse(tx, get_answerable(tx.db, tx.now, token))


def refuse(tx: Transaction, row: rows.Invitation) -> None:
    """Mark an open invitation as declined and queue the decline for the broker."""
    invitation, signed = open_as(Invitation, row.raw)
    statement = tx.context.sign_for(
        Decline,
        invitation.issuer_user,
        invitation.issuer_device,
        invitation_id=invitation.id,
        invitation_digest=signed.digest,
    )
    invitations.set_status(tx.db, row.token, invitation_lifecycle.next_state("open", "decline"))
    device_set, _ = inviting.open_device_set(invitation.device_set, invitation)
    _queue_answer(tx.db, device_set, row, "declined", statement, tx.now)
    tx.note(BrokerWriteQueued())


def on_answer(tx: Transaction, raw: bytes, *, broker: str | None = None) -> Acknowledgement:
    """Handle the answer to a sent invitation. The same statement may arrive by broker, by courier, or by both.

    `broker`: which one brought it, None for the courier. Of brokers only the one where the invitation was posted
    brings its answer.
    """
    signed = open_statement(raw)
    statement = signed.statement
    if not isinstance(statement, Acceptance | Decline):
        raise Invalid("the statement is neither an acceptance nor a decline", fix=NO_FIX)
    me = tx.context.identity
    if statement.audience_user != me.user_id or statement.audience_device != me.device:
        raise Forbidden("the statement is not addressed to this device", fix=NO_FIX)
    row = inviting.get_known(tx.db, statement.invitation_id, "sent")
    if broker is not None and row.broker != broker:
        raise Forbidden("the invitation was posted at another broker", fix=NO_FIX)
    if hashlib.sha256(row.raw).digest() != statement.invitation_digest:
        raise Invalid("the answer is for another invitation", fix=NO_FIX)
    if statement.issuer_user != row.peer:
        raise Forbidden(f"the invitation was sent to {row.peer}", fix=NO_FIX)
    if contacts.is_blocked(tx.db, row.peer):
        raise Forbidden("blocked", fix=NO_FIX)
    if isinstance(statement, Decline):
        return _declined(tx, row)
    return _accepted(tx, row, statement, signed)


def _declined(tx: Transaction, row: rows.Invitation) -> Acknowledgement:
    if row.status == "open":
        invitations.set_status(tx.db, row.token, invitation_lifecycle.next_state("open", "decline"))
        tx.note(PeopleChanged())
    return Acknowledgement(200)


def _accepted(
    tx: Transaction,
    row: rows.Invitation,
    statement: Acceptance,
    signed: Signed,
) -> Acknowledgement:
    edge = edges.get(tx.db, statement.edge_id)
    if edge is not None:
        if edge.acceptance != signed.raw:
            raise Conflict("another acceptance already has this edge id", fix=NO_FIX)
        return Acknowledgement(200, "known")
    now = tx.now
    if row.status == "expired" and statement.created < row.expires:
        pass  # accepted in time, arrived late
    else:
        invitation_lifecycle.next_state(row.status, "accept")
    device_set, device_set_signed = inviting.open_device_set(statement.device_set, statement)
    scope = scopes.encode_summary(scopes.decode_summary(statement.scope))  # only what this version understands
    verified = False
    if statement.proof:
        if not invitation_address.proven(
            statement.proof,
            row.secret,
            invitation_digest=statement.invitation_digest,
            device_set_digest=device_set_signed.digest,
        ):
            raise Forbidden("the acceptance does not prove that its sender had the address you shared", fix=NO_FIX)
        verified = True
    try:
        memberships.check_key(tx.db, device_set, by_hand=False)
    except Forbidden as error:
        # Recorded, not only refused: the person who waits for this answer is to hear of it.
        invitations.set_other_key(tx.db, row.token)
        tx.note(InvitationsChanged())
        return acknowledgement_of(error)
    known = contacts.get(tx.db, row.peer)
    if known is not None and row.created <= known.forgotten:
        verified = False  # whoever has the old device may have seen the secret
    memberships.pin(tx, device_set, device_set_signed, issuer=statement.issuer_device, verified=verified)
    edges.add(
        tx.db,
        rows.Edge(
            edge_id=statement.edge_id,
            direction="outgoing",
            user_id=statement.issuer_user,
            device=statement.issuer_device,
            status="active",
            scope=scope,
            invitation_id=row.token,
            acceptance=signed.raw,
            created=now,
            changed=now,
        ),
    )
    invitations.set_status(tx.db, row.token, "accepted")
    confirmation = tx.context.sign_for(
        Confirmation,
        statement.issuer_user,
        statement.issuer_device,
        edge_id=statement.edge_id,
        acceptance_digest=signed.digest,
        device_set=tx.context.identity.device_set,
    )
    tx.post(confirmation, edge_id=statement.edge_id)
    tx.note(PeopleChanged())
    return Acknowledgement(200)


def on_confirmation(tx: Transaction, signed: Signed) -> Acknowledgement:
    """Handle the inviter's confirmation: this user's devices are pinned there, so the edge becomes active."""
    statement: Confirmation = signed.statement
    edge = edges.get(tx.db, statement.edge_id)
    if edge is None or edge.direction != "incoming" or edge.user_id != statement.issuer_user:
        raise NotFound("no such edge", fix=NO_FIX)
    if hashlib.sha256(edge.acceptance).digest() != statement.acceptance_digest:
        raise Conflict("the confirmation is for another acceptance", fix=NO_FIX)
    if edge.status != "offered":
        return Acknowledgement(200, f"the edge is {edge.status}")
    device_set, device_set_signed = inviting.open_device_set(statement.device_set, statement)
    memberships.pin(tx, device_set, device_set_signed, issuer=statement.issuer_device, verified=False)
    edges.set_status(tx.db, edge.edge_id, edge_lifecycle.next_status("offered", "confirm"), tx.now)
    offered, _ = open_as(Acceptance, edge.acceptance)
    summary = scopes.encode_summary(scopes.summary(scopes.decode(edge.scope)))
    if summary != offered.scope:
        # The scope was edited while the edge was offered.
        change = tx.context.sign_for(
            EdgeChange, edge.user_id, statement.issuer_device, edge_id=edge.edge_id, edge_status="active", scope=summary
        )
        tx.post(change, edge_id=edge.edge_id)
    tx.note(PeopleChanged())
    return Acknowledgement(200)


def _queue_answer(
    db: sqlite3.Connection, device_set: DeviceSet, row: rows.Invitation, kind: str, statement: Signed, now: int
) -> None:
    # Sealed once and stored sealed: a retry must send the same bytes, as the broker refuses others.
    sealed = {device.device: seal(statement.raw, device.sealing_key) for device in device_set.devices}
    invitations.queue_broker_write(db, row.broker, kind, row.token, codec.encode(sealed), now)
