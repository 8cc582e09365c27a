"""First contact between two users: invitation, acceptance or decline, confirmation. Ends with both pinned.

1. A posts an invitation at the broker.
2. B pins A and offers an edge. The acceptance goes through the broker, sealed to A's devices, and by courier.
3. A pins B and confirms by courier. The edge becomes active at B.

As soon as a side has pinned the other's devices, they may connect and can read its presence.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from peer.protocol import codec
from peer.protocol.acknowledgements import Acknowledgement
from peer.protocol.errors import NO_FIX, Conflict, Forbidden, Invalid, NotFound, RateLimited
from peer.protocol.sealing import seal
from peer.protocol.statements import (
    Acceptance,
    Confirmation,
    Decline,
    DeviceSet,
    DeviceStatement,
    EdgeChange,
    Invitation,
    Signed,
    open_as,
    open_statement,
)
from peer.steps import memberships
from peer.steps.effects import BrokerWriteQueued, InvitationsChanged, PeopleChanged
from peer.steps.transaction import Transaction
from peer.store import contacts, edges, invitations, outbox, rows
from peer.trust import edge_lifecycle, invitation_address, invitation_lifecycle, scopes

MAX_AHEAD_MS = 86_400_000
"""How far an inviter's clock may be ahead. Generous, because a refused invitation is not offered again."""
MAX_OPEN = 500
"""Invitations received from one broker that wait for an answer. More are refused: it could make up any number."""
MAX_ENDED = 1_000
"""Invitations received from one broker that ended without an edge and are still listed; beyond them the oldest go. An
inviter may post and withdraw any number."""
KEPT_MS = 30 * 86_400_000
"""How long a received invitation without an edge stays listed."""


@dataclass(frozen=True)
class Invited:
    """A sent invitation. `fresh` is False if an open one to the same user existed already where it counts."""

    row: rows.Invitation
    fresh: bool


def open_device_set(raw: bytes, statement: DeviceStatement) -> tuple[DeviceSet, Signed]:
    """Open the device-set inside a statement; check that it is the issuer's and lists the issuing device.

    Raises Invalid, Malformed, BadSignature.
    """
    device_set, signed = open_as(DeviceSet, raw)
    if device_set.issuer_user != statement.issuer_user:
        raise Invalid("the device-set is another user's", fix="do not trust this invitation")
    if statement.issuer_device not in {device.device for device in device_set.devices}:
        raise Invalid("the device-set does not list the device that signed", fix="do not trust this invitation")
    return device_set, signed


def invite(tx: Transaction, user_id: str, *, broker: str = "", at: Sequence[str] | None = None) -> Invited:
    """Store a new invitation to a user, which is for this broker, or return the one that is open.

    `at`: the brokers where an open one counts; None for any. Raises Invalid, Conflict, Forbidden.
    """
    if user_id == tx.context.identity.user_id:
        raise Invalid("you cannot invite yourself", fix="name somebody else's e-mail address")
    if contacts.is_blocked(tx.db, user_id):
        raise Forbidden(f"you blocked {user_id}", fix=f"`dispatch unblock {user_id}`, then invite them")
    edge = edges.current(tx.db, user_id, "outgoing")
    if edge is not None and edge.status in ("active", "paused"):
        raise Conflict(
            f"{user_id} has granted you a trust edge already", fix=f"dispatch to them: `dispatch send {user_id} '…'`"
        )
    now = tx.now
    if (known := invitations.open_to(tx.db, user_id, now, at)) is not None:
        return Invited(known, fresh=False)
    signed = tx.context.sign(
        Invitation,
        created=now,
        audience_user=user_id,
        expires=now + invitation_lifecycle.LIFETIME_MS,
        device_set=tx.context.identity.device_set,
    )
    row = rows.Invitation(
        token=signed.statement.id,
        direction="sent",
        peer=user_id,
        raw=signed.raw,
        secret=tx.context.random(invitation_address.SECRET_BYTES),
        verified=0,
        status="open",
        emailed=0,
        created=now,
        expires=signed.statement.expires,
        broker=broker,
    )
    invitations.add(tx.db, row)
    return Invited(row, fresh=True)


def get_withdrawable(db: sqlite3.Connection, token: str) -> rows.Invitation:
    """Return an open sent invitation. Raises NotFound, Conflict, Gone."""
    row = _known(db, token, "sent")
    invitation_lifecycle.next_state(row.status, "withdraw")
    return row


def withdraw(db: sqlite3.Connection, token: str) -> None:
    """Mark a sent invitation as withdrawn, if it is not yet. Raises NotFound, Conflict, Gone.

    The poll of the broker's list may have done so between the broker's reply to the withdrawal and this step.
    """
    row = _known(db, token, "sent")
    if row.status != "withdrawn":
        invitations.set_status(db, token, invitation_lifecycle.next_state(row.status, "withdraw"))


def discard(tx: Transaction, token: str) -> None:
    """Withdraw an invitation that its broker may never have received; queue the withdrawal for that broker."""
    withdraw(tx.db, token)
    invitations.queue_broker_write(tx.db, _known(tx.db, token, "sent").broker, "withdraw", token, b"", tx.now)
    tx.note(BrokerWriteQueued())


def on_sent_withdrawn(db: sqlite3.Connection, token: str, *, broker: str = "") -> None:
    """Reconcile: its broker has a sent invitation as withdrawn, but this device crashed before recording that."""
    row = invitations.get(db, token)
    if row is not None and (row.direction, row.status, row.broker) == ("sent", "open", broker):
        withdraw(db, token)


def on_progress(tx: Transaction, token: str, *, broker: str, mailed: bool | None, fetched: int | None) -> None:
    """Record what its broker says of a sent invitation's way. Nothing that is granted hangs on it."""
    row = invitations.get(tx.db, token)
    if row is None or (row.direction, row.broker) != ("sent", broker):
        return
    if mailed and not row.emailed:
        invitations.set_mailed(tx.db, token, emailed=True)
        tx.note(InvitationsChanged())
    if fetched and not row.fetched:
        invitations.set_fetched(tx.db, token, min(fetched, tx.now))  # the broker's clock may be ahead
        tx.note(InvitationsChanged())


def on_invitation(tx: Transaction, raw: bytes, *, broker: str = "") -> rows.Invitation | None:
    """Verify and store an invitation from a broker.

    Return None if it is for another user, from a blocked one, or known from another broker, whose it then is.
    """
    statement, signed = open_as(Invitation, raw)
    open_device_set(statement.device_set, statement)
    if statement.audience_user != tx.context.identity.user_id or contacts.is_blocked(tx.db, statement.issuer_user):
        return None
    if statement.expires - statement.created > invitation_lifecycle.LIFETIME_MS:
        raise Invalid("the invitation is valid for more than 7 days", fix="ask for a new invitation")
    now = tx.now
    if statement.created > now + MAX_AHEAD_MS:
        raise Invalid("an invitation from the future", fix="set the clocks of both machines")
    known = invitations.get(tx.db, statement.id)
    if known is not None and known.raw != signed.raw:
        raise Conflict("another invitation has this token", fix="do not trust this invitation")
    if known is not None and known.broker != broker:
        return None
    if known is None and invitations.count_open_received(tx.db, now, broker) >= MAX_OPEN:
        raise RateLimited(
            f"{MAX_OPEN} invitations wait for an answer already", fix="answer some: `dispatch invitations`"
        )
    row = rows.Invitation(
        token=statement.id,
        direction="received",
        peer=statement.issuer_user,
        raw=signed.raw,
        secret=b"",
        verified=0,
        status="open",
        emailed=0,
        created=statement.created,
        expires=statement.expires,
        broker=broker,
    )
    invitations.add(tx.db, row)
    invitations.forget_ended(tx.db, broker=broker, keep=MAX_ENDED)
    return invitations.get(tx.db, statement.id)


def on_withdrawn(tx: Transaction, token: str) -> None:
    """Handle the withdrawal of a received invitation. An edge offered meanwhile is declined."""
    row = invitations.get(tx.db, token)
    if row is None or row.direction != "received":
        return
    if row.status == "open":
        invitations.set_status(tx.db, token, invitation_lifecycle.next_state("open", "withdraw"))
        tx.note(InvitationsChanged())
    edge = edges.by_invitation(tx.db, token)
    if edge is not None and edge.status == "offered":
        edges.decline_offer(tx.db, edge.edge_id, tx.now)
        outbox.purge_edge(tx.db, edge.edge_id)
        tx.note(PeopleChanged())


def open_address(db: sqlite3.Connection, address: invitation_address.Address) -> rows.Invitation:
    """Check a received invitation against the address that the inviter shared, and store the address's secret.

    Raises NotFound, Invalid.
    """
    row = _known(db, address.token, "received")
    invitation_address.check_digest(address, row.raw)
    invitations.set_secret(db, address.token, address.secret)
    return _known(db, address.token, "received")


def get_answerable(db: sqlite3.Connection, now: int, token: str) -> rows.Invitation:
    """Return a received invitation that is still open. Raises NotFound, Conflict, Gone."""
    row = _known(db, token, "received")
    invitation_lifecycle.check_open(row.status, expires=row.expires, now=now)
    return row


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
    device_set, device_set_signed = open_device_set(invitation.device_set, invitation)
    now = tx.now
    existing = edges.current(tx.db, invitation.issuer_user, "incoming")
    if existing is not None and existing.status in edges.OPEN:
        raise Conflict(
            f"{invitation.issuer_user} may dispatch to you already",
            fix=f"change what is permitted: `dispatch trust edit {invitation.issuer_user}`",
        )
    issuer = invitation.issuer_device
    memberships.pin(tx, device_set, device_set_signed, issuer=issuer, verified=bool(row.verified))
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
    device_set, _ = open_device_set(invitation.device_set, invitation)
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
        raise Invalid("an acceptance or a decline belongs here", fix=NO_FIX)
    me = tx.context.identity
    if statement.audience_user != me.user_id or statement.audience_device != me.device:
        raise Forbidden("that statement is not addressed to this device", fix=NO_FIX)
    row = _known(tx.db, statement.invitation_id, "sent")
    if broker is not None and row.broker != broker:
        raise Forbidden("that invitation was posted at another broker", fix=NO_FIX)
    if hashlib.sha256(row.raw).digest() != statement.invitation_digest:
        raise Invalid("that answers another invitation than the one that was sent", fix=NO_FIX)
    if statement.issuer_user != row.peer:
        raise Forbidden(f"that invitation went to {row.peer}", fix=NO_FIX)
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
    known = edges.get(tx.db, statement.edge_id)
    if known is not None:
        if known.acceptance != signed.raw:
            raise Conflict("another acceptance has this edge id", fix=NO_FIX)
        return Acknowledgement(200, "known")
    now = tx.now
    if row.status == "expired" and statement.created < row.expires:
        pass  # accepted in time, arrived late
    else:
        invitation_lifecycle.next_state(row.status, "accept")
    device_set, device_set_signed = open_device_set(statement.device_set, statement)
    scope = scopes.encode_summary(scopes.decode_summary(statement.scope))  # only what this version understands
    verified = False
    if statement.proof:
        if not invitation_address.proven(
            statement.proof,
            row.secret,
            invitation_digest=statement.invitation_digest,
            device_set_digest=device_set_signed.digest,
        ):
            raise Forbidden(
                "the acceptance does not prove that it was made with the address that you shared", fix=NO_FIX
            )
        verified = True
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
        raise Conflict("that confirms another acceptance than the one that was made", fix=NO_FIX)
    if edge.status != "offered":
        return Acknowledgement(200, f"the edge is {edge.status}")
    device_set, device_set_signed = open_device_set(statement.device_set, statement)
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


def expire(db: sqlite3.Connection, now: int) -> None:
    """Mark overdue open invitations as expired; delete received ones that led to no edge KEPT_MS ago."""
    for row in invitations.every(db):
        if row.status == "open" and row.expires <= now:
            invitations.set_status(db, row.token, invitation_lifecycle.next_state("open", "expire"))
    invitations.forget_received(db, before=now - KEPT_MS)


def _queue_answer(
    db: sqlite3.Connection, device_set: DeviceSet, row: rows.Invitation, kind: str, statement: Signed, now: int
) -> None:
    # Sealed once and stored sealed: a retry must send the same bytes, as the broker refuses others.
    sealed = {device.device: seal(statement.raw, device.sealing_key) for device in device_set.devices}
    invitations.queue_broker_write(db, row.broker, kind, row.token, codec.encode(sealed), now)


def _known(db: sqlite3.Connection, token: str, direction: str) -> rows.Invitation:
    row = invitations.get(db, token)
    if row is None or row.direction != direction:
        raise NotFound(f"no {direction} invitation {token}", fix="see `dispatch invitations`")
    return row
