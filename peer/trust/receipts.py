"""A receipt: the signed statements of one dispatch, verifiable without trusting whoever passes it on. Pure.

The file is a CBOR sequence (RFC 8742): the text "dispatch-receipt-1", then byte strings, each the original signed
message: the sender's device-set, the recipient's, the dispatch, the decision (empty when no run was accepted), the
result, then up to the end of the file the event batches of the attempt that ended, all of them or none. A sequence has
no length of its own, so even the longest trace fits; the result's `count` and `head` determine where it ends. A receipt
proves what each device signed. It does not show revocations and contains no trusted time.

With a landing report it begins with "dispatch-receipt-2", and the report follows the result. It is the newest that its
exporter has: a later one may exist, and whoever passes the receipt on may have taken it out.

Without batches it is the receipt of a dispatch whose events its owner no longer keeps, and it is not complete: whoever
passes it on may have taken them out. Some of them alone are worth nothing, and are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from peer.protocol import codec, landed
from peer.protocol.errors import NO_FIX, DispatchError, Invalid, TooLarge, WithUsualFix
from peer.protocol.growth import is_ignorable
from peer.protocol.signing import Signed, open_as
from peer.protocol.statements import (
    Addressed,
    Decision,
    DeviceSet,
    DeviceStatement,
    Dispatch,
    Events,
    LandingReport,
    Result,
    Statement,
)
from peer.protocol.table import path_text
from peer.trust import fingerprints

MAX_RECEIPT: Final = 256 * 1024 * 1024
MAGIC: Final = codec.encode("dispatch-receipt-1")
MAGIC_WITH_LANDING: Final = codec.encode("dispatch-receipt-2")
_PARTS: Final = ("sender's device-set", "recipient's device-set", "dispatch", "decision", "result")

S = TypeVar("S", bound=Statement)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The signed bytes of one dispatch that ended in a result; `decision` is empty when no run was accepted, `landing`
    when there is no report on the changes of its run."""

    dispatch: bytes
    decision: bytes
    events: tuple[bytes, ...]
    result: bytes
    sender: bytes
    recipient: bytes
    landing: bytes = b""


@dataclass(frozen=True, slots=True)
class Party:
    """One side of a verified receipt. `root` is the 32-byte public root key that signed for `device`.

    Whose key it is, the reader has to compare: see `has_root`.
    """

    user_id: str
    device: str
    root: bytes

    def has_root(self, typed: str) -> bool:
        """Whether `typed` is the fingerprint of this party's root key, in digits or words. Raises Invalid."""
        return fingerprints.matches(self.root, typed)


@dataclass(frozen=True, slots=True)
class Proven:
    """What a verified receipt proves: the two devices signed these statements, and none is added or altered.

    `missing` is the number of event batches that the result closes with and that are not part of the receipt: all, or
    none. Only with none missing does it show what happened in the run. `unseen` names the fields of the dispatch that
    the recipient's device ignored when it accepted: nobody saw them, so they were not accepted. `unknown` counts the
    keys that this version ignores. `landing` is what the recipient's device said of the changes of the run, if the
    receipt has that.
    """

    sender: Party
    recipient: Party
    dispatch: Dispatch
    result: Result
    events: int
    statements: int
    missing: int
    unseen: tuple[str, ...]
    unknown: int
    landing: LandingReport | None = None

    @property
    def complete(self) -> bool:
        """Whether the events of the run are part of the receipt, as far as there were any."""
        return not self.missing


class Altered(WithUsualFix, Invalid):
    """A part of the receipt was altered, or does not belong to the others; the message names it."""

    usual_fix = "do not rely on this receipt; ask its parties for theirs"


def encode(receipt: Receipt) -> bytes:
    """Return the receipt as a file's bytes. Raises TooLarge."""
    magic, landing = (MAGIC_WITH_LANDING, (receipt.landing,)) if receipt.landing else (MAGIC, ())
    parts = (receipt.sender, receipt.recipient, receipt.dispatch, receipt.decision, receipt.result, *landing)
    encoded = (codec.encode(part, max_bytes=MAX_RECEIPT) for part in (*parts, *receipt.events))
    raw = b"".join((magic, *encoded))
    if len(raw) > MAX_RECEIPT:
        raise TooLarge(f"the receipt has {len(raw):,} bytes; the limit is {MAX_RECEIPT:,}", fix=NO_FIX)
    return raw


def decode(raw: bytes) -> Receipt:
    """Parse the bytes of a receipt file, without verifying anything. Raises Altered, TooLarge."""
    if len(raw) > MAX_RECEIPT:
        raise TooLarge(f"a receipt has at most {MAX_RECEIPT:,} bytes", fix=NO_FIX)
    names = {MAGIC: _PARTS, MAGIC_WITH_LANDING: (*_PARTS, "landing report")}.get(raw[: len(MAGIC)])
    if names is None:
        raise Altered("that is not a receipt, or its first bytes were altered")
    parts = list(_byte_strings(raw, len(MAGIC), names))
    if len(parts) < len(names):
        raise Altered(f"the {names[len(parts)]} is missing")
    sender, recipient, dispatch, decision, result, *rest = parts
    if names is _PARTS:
        return Receipt(dispatch, decision, tuple(rest), result, sender, recipient)
    landing, *events = rest
    if not landing:
        raise Altered("the landing report is missing")
    return Receipt(dispatch, decision, tuple(events), result, sender, recipient, landing)


def verify(receipt: Receipt) -> Proven:
    """Check every signature and that the parts belong together. Raises Altered, which names the part.

    A receipt without any event batch is no error: see Proven.missing.
    """
    sender, _ = _open("sender's device-set", DeviceSet, receipt.sender)
    recipient, _ = _open("recipient's device-set", DeviceSet, receipt.recipient)
    dispatch, signed = _open("dispatch", Dispatch, receipt.dispatch)
    result, _ = _open("result", Result, receipt.result)
    _check_device("dispatch", dispatch, "sender", sender)
    _check_device("result", result, "recipient", recipient)
    if (dispatch.audience_user, dispatch.audience_device) != (result.issuer_user, result.issuer_device):
        raise Altered("the result was not signed by the device that the dispatch was for")
    if result.dispatch_id != dispatch.id or result.dispatch_digest != signed.digest:
        raise Altered("the result is about another dispatch")
    _check_parties("result", result, dispatch, result)
    unseen: tuple[str, ...] = ()
    if result.attempt:
        unseen = _check_decision(receipt.decision, dispatch, signed, result)
    elif receipt.decision:
        raise Altered("there is a decision to run it, but the result is about no run")
    landing = _check_landing(receipt.landing, dispatch, signed, result) if receipt.landing else None
    missing = 0 if receipt.events else result.count
    events = 0 if missing else _check_chain(receipt.events, dispatch, result)
    return Proven(
        sender=Party(dispatch.issuer_user, dispatch.issuer_device, sender.root),
        recipient=Party(result.issuer_user, result.issuer_device, recipient.root),
        dispatch=dispatch,
        result=result,
        events=events,
        statements=4 + bool(result.attempt) + bool(receipt.landing) + len(receipt.events),
        missing=missing,
        unseen=unseen,
        unknown=len(signed.ignored),
        landing=landing,
    )


def _open(part: str, kind: type[S], raw: bytes) -> tuple[S, Signed]:
    try:
        return open_as(kind, raw)
    except DispatchError as error:
        raise Altered(f"the {part} is not what was signed: {error.message}") from error


def _check_device(part: str, statement: DeviceStatement, whose: str, devices: DeviceSet) -> None:
    if devices.issuer_user != statement.issuer_user:
        raise Altered(f"the {whose}'s device-set belongs to a different user from the {part}")
    if statement.issuer_device not in {device.device for device in devices.devices}:
        raise Altered(f"the device that signed the {part} is not in the {whose}'s device-set")


def _check_parties(part: str, statement: Addressed, dispatch: Dispatch, result: Result) -> None:
    if (statement.issuer_user, statement.issuer_device) != (result.issuer_user, result.issuer_device):
        raise Altered(f"the {part} was not signed by the same device as the result")
    if (statement.audience_user, statement.audience_device) != (dispatch.issuer_user, dispatch.issuer_device):
        raise Altered(f"the {part} is not addressed to the device that signed the dispatch")


def _check_decision(raw: bytes, dispatch: Dispatch, signed: Signed, result: Result) -> tuple[str, ...]:
    """Check that the decision accepted this run; return the names of the fields that it lists as ignored."""
    decision, _ = _open("decision", Decision, raw)
    _check_parties("decision", decision, dispatch, result)
    if (decision.dispatch_id, decision.dispatch_digest) != (dispatch.id, signed.digest):
        raise Altered("the decision is about another dispatch")
    if decision.decision != "accepted" or decision.attempt != result.attempt:
        raise Altered("the decision is not the one that accepted this run")
    if decision.read_version != dispatch.version:
        raise Altered("the decision is about another version of the dispatch")
    if not all(path and is_ignorable(path[-1]) for path in decision.unread):
        # A critical key cannot have been ignored: the dispatch would have been refused.
        raise Altered("the decision says that it ignored a field which must not be ignored")
    return tuple(path_text(path) for path in decision.unread)


def _check_landing(raw: bytes, dispatch: Dispatch, signed: Signed, result: Result) -> LandingReport:
    """Check that the report is the recipient's, about this run, and agrees with itself; return it."""
    report, _ = _open("landing report", LandingReport, raw)
    _check_parties("landing report", report, dispatch, result)
    if (report.dispatch_id, report.dispatch_digest) != (dispatch.id, signed.digest):
        raise Altered("the landing report is about another dispatch")
    if report.attempt != result.attempt:
        raise Altered("the landing report is about another run")
    try:
        landed.check(report)
    except Invalid as error:
        raise Altered(f"the landing report contradicts itself: {error.message}") from error
    return report


def _check_chain(batches: Sequence[bytes], dispatch: Dispatch, result: Result) -> int:
    """Check that the batches are the complete chain that the result closes; return the number of their events."""
    head = bytes(32)
    events = 0
    for sequence, raw in enumerate(batches):
        part = f"event batch {sequence + 1}"
        if sequence >= result.count:
            raise Altered(f"{part} is one too many: the result names {result.count}")
        batch, signed = _open(part, Events, raw)
        if (batch.dispatch_id, batch.attempt) != (dispatch.id, result.attempt):
            raise Altered(f"{part} is of another run")
        _check_parties(part, batch, dispatch, result)
        if batch.sequence != sequence:
            raise Altered(f"{part} is missing: number {batch.sequence + 1} is in its place")
        if batch.previous != head:
            raise Altered(f"{part} does not continue the one before it")
        head = signed.digest
        events += len(batch.events)
    if len(batches) != result.count:
        raise Altered(f"event batch {len(batches) + 1} is missing: the result names {result.count}")
    if head != result.head:
        raise Altered(f"event batch {len(batches)} is not the last one that the result names")
    return events


def _byte_strings(raw: bytes, at: int, names: Sequence[str]) -> Iterator[bytes]:
    """Yield the byte strings of a CBOR sequence. Raises Altered, naming the part that is not one.

    `names`: of the first ones; the others are event batches.
    """
    number = 0
    while at < len(raw):
        part = names[number] if number < len(names) else f"event batch {number - len(names) + 1}"
        start, length = _head(part, raw, at)
        if length > len(raw) - start:
            raise Altered(f"the {part} breaks off: the receipt ends within it")
        yield raw[start : start + length]
        at = start + length
        number += 1


def _head(part: str, raw: bytes, at: int) -> tuple[int, int]:
    """Read the head of one byte string: return offset and length of its content. Only the shortest form is valid."""
    major, short = raw[at] >> 5, raw[at] & 0x1F
    if major == 2 and short < 24:
        return at + 1, short
    if major == 2 and short <= 26:
        size = 1 << (short - 24)
        length = int.from_bytes(raw[at + 1 : at + 1 + size])
        if length >= (24, 1 << 8, 1 << 16)[short - 24]:
            return at + 1 + size, length
    raise Altered(f"the {part} has an invalid beginning: its first bytes, or bytes before it, were altered")
