"""Invitations, sent and received: made, taken in, withdrawn, expired. Their answers: invitation_answers.py.

A first contact between two users ends with the devices of both pinned:

1. A posts an invitation at the broker.
2. B pins A and offers an edge. The acceptance goes through the broker, sealed to A's devices, and by courier.
3. A pins B and confirms by courier. The edge becomes active at B.

As soon as a side has pinned the other's devices, they may connect and can read its presence.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from peer.protocol.errors import Conflict, Forbidden, Invalid, NotFound, RateLimited
from peer.protocol.signing import Signed, open_as
from peer.protocol.statements import DeviceSet, DeviceStatement, Invitation
from peer.steps.effects import BrokerWriteQueued, InvitationsChanged, PeopleChanged
from peer.steps.transaction import Transaction
from peer.store import contacts, edges, invitations, outbox, rows
from peer.trust import invitation_address, invitation_lifecycle

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
        raise Forbidden(f"you blocked {user_id}", fix=f"run `dispatch unblock {user_id}`, then invite them again")
    edge = edges.current(tx.db, user_id, "outgoing")
    if edge is not None and edge.status in ("active", "paused"):
        new_key = f"; if they lost every device and have a new key: `dispatch trust forget-key {user_id}` first"
        raise Conflict(
            f"{user_id} has already granted you a trust edge",
            fix=f"send them a task: `dispatch send {user_id} '…'`"
            f"{'' if contacts.former_keys(tx.db, user_id) else new_key}",
        )
    now = tx.now
    if (known := invitations.open_to(tx.db, user_id, now, at)) is not None:
        if not known.other_key:
            return Invited(known, fresh=False)
        discard(tx, known.token)  # it was answered, so nobody else can answer it
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
    row = get_known(db, token, "sent")
    invitation_lifecycle.next_state(row.status, "withdraw")
    return row


def withdraw(db: sqlite3.Connection, token: str) -> None:
    """Mark a sent invitation as withdrawn, if it is not yet. Raises NotFound, Conflict, Gone.

    The poll of the broker's list may have done so between the broker's reply to the withdrawal and this step.
    """
    row = get_known(db, token, "sent")
    if row.status != "withdrawn":
        invitations.set_status(db, token, invitation_lifecycle.next_state(row.status, "withdraw"))


def discard(tx: Transaction, token: str) -> None:
    """Withdraw an invitation that its broker may never have received; queue the withdrawal for that broker."""
    withdraw(tx.db, token)
    invitations.queue_broker_write(tx.db, get_known(tx.db, token, "sent").broker, "withdraw", token, b"", tx.now)
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
        raise Invalid("the invitation is dated in the future", fix="check the clocks of both machines")
    known = invitations.get(tx.db, statement.id)
    if known is not None and known.raw != signed.raw:
        raise Conflict("another invitation already has this token", fix="do not trust this invitation")
    if known is not None and known.broker != broker:
        return None
    if known is None and invitations.count_open_received(tx.db, now, broker) >= MAX_OPEN:
        raise RateLimited(
            f"{MAX_OPEN} invitations are already waiting for your answer", fix="answer some: `dispatch invitations`"
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


def expire(db: sqlite3.Connection, now: int) -> None:
    """Mark overdue open invitations as expired; delete received ones that led to no edge KEPT_MS ago."""
    for row in invitations.overdue(db, now):
        invitations.set_status(db, row.token, invitation_lifecycle.next_state("open", "expire"))
    invitations.forget_received(db, before=now - KEPT_MS)


def get_known(db: sqlite3.Connection, token: str, direction: str) -> rows.Invitation:
    """Return the invitation that was `sent` or `received`. Raises NotFound."""
    row = invitations.get(db, token)
    if row is None or row.direction != direction:
        raise NotFound(f"no {direction} invitation {token}", fix="see `dispatch invitations`")
    return row
