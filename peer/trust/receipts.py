"""A receipt: what was asked, decided, done and returned, each as signed, checked without trusting whoever hands it on.

The file is deterministic CBOR: {1: dispatch, 2: decision, 3: [event batches of the attempt that ended], 4: result,
5: the sender's device-set, 6: the recipient's}, every member the original signed bytes. It proves who said what; it
says nothing of revocations or of trusted time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peer.protocol import codec
from peer.protocol.errors import Invalid
from peer.protocol.statements import Decision, DeviceSet, DeviceStatement, Dispatch, Events, Result, Signed, open_as

MAX_RECEIPT = 256 * 1024 * 1024
_DISPATCH, _DECISION, _EVENTS, _RESULT, _SENDER, _RECIPIENT = 1, 2, 3, 4, 5, 6


@dataclass(frozen=True, slots=True)
class Receipt:
    """The signed bytes of one dispatch that ended in a result."""

    dispatch: bytes
    decision: bytes
    events: tuple[bytes, ...]
    result: bytes
    sender: bytes
    recipient: bytes


@dataclass(frozen=True, slots=True)
class Proven:
    """What a verified receipt proves. Roots are 32-byte public keys: whose they are is for the reader to compare."""

    sender: str
    recipient: str
    sender_root: bytes
    recipient_root: bytes
    dispatch_id: str
    status: str
    events: int
    statements: int


class Altered(Invalid):
    """A part of the receipt does not fit the others; the message names it."""

    default_fix = "do not rely on this receipt; ask its parties for theirs"


def encode(receipt: Receipt) -> bytes:
    """Return the receipt as a file's bytes."""
    return codec.encode(
        {
            _DISPATCH: receipt.dispatch,
            _DECISION: receipt.decision,
            _EVENTS: list(receipt.events),
            _RESULT: receipt.result,
            _SENDER: receipt.sender,
            _RECIPIENT: receipt.recipient,
        },
        max_bytes=MAX_RECEIPT,
    )


def decode(raw: bytes) -> Receipt:
    """Read a receipt's file. Raises Invalid; nothing is verified yet."""
    match codec.decode(raw, max_bytes=MAX_RECEIPT):
        case {
            1: bytes(dispatch),
            2: bytes(decision),
            3: list(events),
            4: bytes(result),
            5: bytes(sender),
            6: bytes(recipient),
            **rest,
        } if not rest:
            batches = tuple(item for item in events if isinstance(item, bytes))
            if len(batches) == len(events):
                return Receipt(dispatch, decision, batches, result, sender, recipient)
    raise Altered("that is not a receipt")


def verify(receipt: Receipt) -> Proven:
    """Check every signature and how the parts fit together. Raises Altered, BadSignature, Malformed."""
    dispatch, signed = open_as(Dispatch, receipt.dispatch)
    result, _ = open_as(Result, receipt.result)
    sender, _ = open_as(DeviceSet, receipt.sender)
    recipient, _ = open_as(DeviceSet, receipt.recipient)
    _check_device("dispatch", dispatch, sender)
    _check_device("result", result, recipient)
    if (dispatch.audience_user, dispatch.audience_device) != (result.issuer_user, result.issuer_device):
        raise Altered("the result is by another device than the dispatch was for")
    if (result.audience_user, result.audience_device) != (dispatch.issuer_user, dispatch.issuer_device):
        raise Altered("the result is for another device than the dispatch is by")
    if result.dispatch_id != dispatch.id or result.dispatch_digest != signed.digest:
        raise Altered("the result is about another dispatch")
    if result.attempt:
        _check_decision(receipt.decision, dispatch, signed, result)
    head = _check_chain(receipt.events, dispatch, result)
    if (len(receipt.events), head) != (result.count, result.head):
        raise Altered("events are missing, or there are more than the result says")
    return Proven(
        sender=dispatch.issuer_user,
        recipient=result.issuer_user,
        sender_root=sender.root,
        recipient_root=recipient.root,
        dispatch_id=dispatch.id,
        status=result.status,
        events=sum(len(open_as(Events, raw)[0].events) for raw in receipt.events),
        statements=4 + bool(result.attempt) + len(receipt.events),
    )


def _check_device(what: str, statement: DeviceStatement, devices: DeviceSet) -> None:
    if devices.issuer_user != statement.issuer_user:
        raise Altered(f"the device-set beside the {what} is another user's")
    if statement.issuer_device not in {device.device for device in devices.devices}:
        raise Altered(f"the device that signed the {what} is not in the user's device-set")


def _check_decision(raw: bytes, dispatch: Dispatch, signed: Signed, result: Result) -> None:
    decision, _ = open_as(Decision, raw)
    if (decision.dispatch_id, decision.dispatch_digest) != (dispatch.id, signed.digest):
        raise Altered("the decision is about another dispatch")
    if (decision.issuer_user, decision.issuer_device) != (result.issuer_user, result.issuer_device):
        raise Altered("the decision is by another device than the result")
    if decision.decision != "accepted" or decision.attempt != result.attempt:
        raise Altered("the decision is not the one that accepted this run")


def _check_chain(batches: Sequence[bytes], dispatch: Dispatch, result: Result) -> bytes:
    head = bytes(32)
    for sequence, raw in enumerate(batches):
        batch, signed = open_as(Events, raw)
        if (batch.issuer_user, batch.issuer_device) != (result.issuer_user, result.issuer_device):
            raise Altered(f"event batch {sequence} is by another device than the result")
        if (batch.dispatch_id, batch.attempt) != (dispatch.id, result.attempt):
            raise Altered(f"event batch {sequence} is of another run")
        if batch.sequence != sequence or batch.previous != head:
            raise Altered(f"event batch {sequence} does not continue the one before it")
        head = signed.digest
    return head
