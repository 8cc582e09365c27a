"""A statement's way in: opened, checked against connection and contact, known or new, stored, answered.

The order of the checks is the protocol's. Every statement taken in, or refused for good, is remembered with its answer
in the transaction that made it true, so that the same bytes get the same answer for ever and other bytes under the same
id are refused. What this version cannot read is refused for good and not remembered: a later version may read it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Final

from peer.protocol.acknowledgements import Acknowledgement, acknowledgement_of
from peer.protocol.errors import Conflict, DispatchError, Forbidden
from peer.protocol.growth import NotUnderstood
from peer.protocol.statements import (
    Acceptance,
    Addressed,
    Cancel,
    Confirmation,
    Decision,
    Decline,
    DeviceStatement,
    Dispatch,
    EdgeChange,
    Events,
    Membership,
    Result,
    Revocation,
    Signed,
    open_statement,
)
from peer.steps import granting, inviting, memberships, receiving, sending
from peer.steps.context import Context
from peer.steps.transaction import Transaction
from peer.store import contacts, outbox, rows

KEPT_MS = 8 * 86_400_000
"""How long a statement is remembered. A dispatch lives a day and five minutes at most and an acceptance answers an
invitation of seven days: what is older is refused for its date, or changes nothing when it is taken in twice."""
MAX_REMEMBERED = 500_000
"""Statements of one device remembered at a time, about 100 MB. A run brings twenty batches of events a second at most;
beyond this the device must wait until the oldest are forgotten, and nobody else is held up."""

Handler = Callable[[Transaction, Signed], Acknowledgement]


def _invitation_answer(tx: Transaction, signed: Signed) -> Acknowledgement:
    return inviting.on_answer(tx, signed.raw)


HANDLERS: Final[dict[type[DeviceStatement], Handler]] = {
    Dispatch: receiving.take_in,
    Cancel: receiving.on_cancel,
    Decision: sending.on_decision,
    Events: sending.on_events,
    Result: sending.on_result,
    Acceptance: _invitation_answer,
    Decline: _invitation_answer,
    Confirmation: inviting.on_confirmation,
    EdgeChange: granting.on_edge_change,
    Revocation: granting.on_revocation,
    Membership: memberships.on_membership,
}


def take(tx: Transaction, device: str, raw: bytes) -> Acknowledgement:
    """Take in what the connected `device` sent; a step (one transaction). Never raises DispatchError."""
    try:
        signed = open_statement(raw)
        statement = signed.statement
        handler = next((handler for kind, handler in HANDLERS.items() if isinstance(statement, kind)), None)
        if handler is None:
            raise NotUnderstood(f"this version takes no {statement.type_name} by courier")
        _check_issuer(tx.db, device, statement)
        if isinstance(statement, Addressed):
            _check_audience(tx.context, statement)
    except DispatchError as error:
        # Not remembered: the id inside is not its issuer's word until all of the above holds.
        return acknowledgement_of(error)
    return _once(tx, signed, handler)


def _check_issuer(db: sqlite3.Connection, device: str, statement: DeviceStatement) -> None:
    """The device that signed is the one at the other end, and is pinned as this user's."""
    if statement.issuer_device != device:
        raise Forbidden(
            "the statement is by another device than the one that brings it", fix="send it from the one that signed it"
        )
    pinned = contacts.device(db, device)
    if pinned is None or pinned.user_id != statement.issuer_user:
        raise Forbidden("the device is not known as that user's", fix="invite them from it: `dispatch invite EMAIL`")
    if contacts.is_blocked(db, statement.issuer_user):
        raise Forbidden("blocked", fix="only they can undo it")


def _check_audience(context: Context, statement: Addressed) -> None:
    me = context.identity
    if statement.audience_user != me.user_id or statement.audience_device != me.device:
        raise Forbidden("the statement is not addressed to this device", fix="send it to the device that it names")


def _once(tx: Transaction, signed: Signed, handler: Handler) -> Acknowledgement:
    statement: DeviceStatement = signed.statement
    known = outbox.seen(tx.db, statement.issuer_device, statement.id)
    if known is not None:
        if known.digest != signed.digest:
            return acknowledgement_of(Conflict("another statement has this id", fix="send it again"))
        return Acknowledgement(known.code, known.message, known.fix)
    if outbox.remembered(tx.db, statement.issuer_device) >= MAX_REMEMBERED:
        return Acknowledgement(503, "too many statements of this device in a few days", "it is taken in later")
    try:
        with tx.savepoint() as part:
            answer = handler(part, signed)
    except DispatchError as error:
        answer = acknowledgement_of(error)
    # What a later version may read, also within the statement (a scope, a device-set), is not refused to it by memory.
    if answer.final and answer.code != NotUnderstood.default_code:
        outbox.remember(
            tx.db,
            rows.Seen(
                statement.issuer_device,
                statement.id,
                signed.digest,
                answer.code,
                answer.message,
                answer.fix,
                tx.now,
            ),
        )
    return answer
