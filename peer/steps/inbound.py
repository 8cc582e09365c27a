"""Inbound statements: opened, checked against connection and contact, deduplicated, applied, acknowledged.

The order of the checks is the protocol's. A statement that was applied, or refused for good, is remembered with its
acknowledgement in the same transaction: the same bytes get the same acknowledgement again, and other bytes under the
same id are refused. What this version cannot read is refused but not remembered, because a later version may read it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Final

from peer.protocol.acknowledgements import Acknowledgement, acknowledgement_of
from peer.protocol.errors import Conflict, DispatchError, Forbidden
from peer.protocol.growth import NotUnderstood
from peer.protocol.signing import Signed, open_statement
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
    LandingReport,
    Membership,
    Result,
    Revocation,
)
from peer.steps import granting, invitation_answers, memberships, receiving, sending
from peer.steps.context import Context
from peer.steps.transaction import Transaction
from peer.store import contacts, outbox, rows

KEPT_MS = 8 * 86_400_000
"""How long a statement is remembered. A dispatch lives at most a day and five minutes, and an acceptance answers an
invitation of seven days; anything older is refused for its date, or changes nothing when applied twice."""
MAX_REMEMBERED = 500_000
"""Statements of one device remembered at a time, about 100 MB. A run sends at most twenty batches of events a second.
Beyond this the device gets 503 until the oldest are forgotten; other devices are not affected."""

Handler = Callable[[Transaction, Signed], Acknowledgement]


def _on_invitation_answer(tx: Transaction, signed: Signed) -> Acknowledgement:
    return invitation_answers.on_answer(tx, signed.raw)


HANDLERS: Final[dict[type[DeviceStatement], Handler]] = {
    Dispatch: receiving.on_dispatch,
    Cancel: receiving.on_cancel,
    Decision: sending.on_decision,
    Events: sending.on_events,
    Result: sending.on_result,
    LandingReport: sending.on_landing_report,
    Acceptance: _on_invitation_answer,
    Decline: _on_invitation_answer,
    Confirmation: invitation_answers.on_confirmation,
    EdgeChange: granting.on_edge_change,
    Revocation: granting.on_revocation,
    Membership: memberships.on_membership,
}


def take(tx: Transaction, device: str, raw: bytes) -> Acknowledgement:
    """Verify and apply one statement from the connected `device`. Never raises DispatchError."""
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
        # Not remembered: until all of the above holds, the id is not known to be its issuer's.
        return acknowledgement_of(error)
    return _once(tx, signed, handler)


def _check_issuer(db: sqlite3.Connection, device: str, statement: DeviceStatement) -> None:
    """Raise Forbidden unless the connected device signed it and is pinned as a device of the issuing user."""
    if statement.issuer_device != device:
        raise Forbidden(
            "the statement was not signed by the device that sent it", fix="send it from the device that signed it"
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
        return Acknowledgement(503, "too many statements from this device in a few days", "it will be accepted later")
    try:
        with tx.savepoint() as part:
            acknowledgement = handler(part, signed)
    except DispatchError as error:
        acknowledgement = acknowledgement_of(error)
    # Not remembered where a later version of this program may accept it, for example a scope with an unknown member.
    if acknowledgement.final and acknowledgement.code != NotUnderstood.default_code:
        outbox.remember(
            tx.db,
            rows.Seen(
                statement.issuer_device,
                statement.id,
                signed.digest,
                acknowledgement.code,
                acknowledgement.message,
                acknowledgement.fix,
                tx.now,
            ),
        )
    return acknowledgement
