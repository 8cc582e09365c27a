"""The statement types, their fields, and how a statement is signed and opened. Pure.

Every statement is a frozen dataclass whose fields are entries of table.py; payloads.py converts it to a map and back.
The content of a dispatch (content.py) is part of the dispatch's own map. Unknown ignorable keys (growth.py) stay in
the bytes and are listed in `Signed.ignored`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from peer.protocol import cose, names, payloads
from peer.protocol.codec import Malformed
from peer.protocol.content import Content
from peer.protocol.content import FileRef as FileRef
from peer.protocol.cose import BadSignature
from peer.protocol.errors import NO_FIX, DispatchError, Invalid, WithUsualFix
from peer.protocol.growth import KeyPath, NotUnderstood
from peer.protocol.outcomes import Decided, Ended, Landed
from peer.protocol.payloads import parts_of as parts_of
from peer.protocol.payloads import values_of as values_of
from peer.protocol.table import FIELDS as FIELDS
from peer.protocol.table import MAX_EVENTS as MAX_EVENTS
from peer.protocol.table import Device as Device


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """The fields of every statement. `type_name` is its name on the wire, `created` is in ms since the epoch.

    A type gets a new `version` when the meaning of a field changes, not when a field is added.
    """

    type_name: ClassVar[str] = ""
    version: ClassVar[int] = 1
    issuer_user: str
    id: str
    created: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceStatement(Statement):
    """Signed by the device that issues it."""

    issuer_device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressed(DeviceStatement):
    """A statement addressed to one device of one user; the courier delivers these."""

    priority: ClassVar[int] = 1
    """Waiting statements are sent in ascending order of priority."""
    ordered_by: ClassVar[str] = ""
    """The field whose value names the queue of the statement: statements of one queue are delivered in order."""
    audience_user: str
    audience_device: str

    @property
    def ordering(self) -> str:
        """The queue of the statement, "" for none."""
        return str(getattr(self, self.ordered_by)) if self.ordered_by else ""

    @property
    def about_dispatch(self) -> str:
        """The id of the dispatch that the statement is about, "" for none."""
        return str(getattr(self, "dispatch_id", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSet(Statement):
    """All devices of a user, signed by the user's root key. The highest epoch wins; a device not in it is revoked.

    Opening one checks that each device signed its own membership, for this user and this root.
    """

    type_name: ClassVar[str] = "device-set"
    root: bytes
    epoch: int
    devices: tuple[Device, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership(DeviceStatement):
    """A device's own statement that it belongs to the issuing user, with this root key and sealing key, or has left.

    The one with the highest counter is in force, whatever device-sets list the device.
    """

    type_name: ClassVar[str] = "membership"
    root: bytes
    counter: int
    sealing_key: bytes
    standing: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello(DeviceStatement):
    """What a device supports: features by name, and the highest version it reads of each statement type.

    The one with the highest counter is in force, so nobody on the path can withdraw a feature by replaying an old one.
    `brokers`: marks of those that it uses (brokers.py).
    """

    type_name: ClassVar[str] = "hello"
    counter: int
    features: tuple[str, ...]
    versions: dict[str, int]
    brokers: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation(DeviceStatement):
    """The issuer asks the audience for permission to dispatch to them. Single-use; its id is the token."""

    type_name: ClassVar[str] = "invitation"
    audience_user: str
    expires: int
    device_set: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance(Addressed):
    """The invited user's device offers an edge. `proof` is the HMAC by the address's secret, empty without one.

    `read_version` and `unread`: as which version the invitation was read, and which of its keys were ignored.
    """

    type_name: ClassVar[str] = "acceptance"
    priority: ClassVar[int] = 0
    ordered_by: ClassVar[str] = "edge_id"
    invitation_id: str
    invitation_digest: bytes
    edge_id: str
    scope: str
    device_set: bytes
    read_version: int
    proof: bytes = b""
    unread: tuple[KeyPath, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decline(Addressed):
    """The invited user refuses the invitation."""

    type_name: ClassVar[str] = "decline"
    invitation_id: str
    invitation_digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation(Addressed):
    """The inviter has received the acceptance and pinned its device-set: the edge becomes active."""

    type_name: ClassVar[str] = "confirmation"
    priority: ClassVar[int] = 0
    ordered_by: ClassVar[str] = "edge_id"
    edge_id: str
    acceptance_digest: bytes
    device_set: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch(Addressed):
    """One task with everything that the sender gave with it, verbatim."""

    type_name: ClassVar[str] = "dispatch"
    ordered_by: ClassVar[str] = "id"
    edge_id: str
    expires: int
    content: Content[FileRef]

    @property
    def about_dispatch(self) -> str:
        """Its own id."""
        return self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision(Addressed):
    """What the recipient decided, or which state the dispatch reached on the recipient's machine.

    `read_version` and `unread`: as which version the dispatch was read, and which of its keys were ignored. Ignored
    keys were not shown, so they were not accepted.
    """

    type_name: ClassVar[str] = "decision"
    ordered_by: ClassVar[str] = "dispatch_id"
    dispatch_id: str
    dispatch_digest: bytes
    attempt: int
    decision: Decided
    read_version: int
    expires: int = 0
    reason: str = ""
    unread: tuple[KeyPath, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Events(Addressed):
    """A batch of a run's trace. `previous` is the SHA-256 of the batch before (of this attempt), or 32 zero bytes."""

    type_name: ClassVar[str] = "events"
    priority: ClassVar[int] = 2
    ordered_by: ClassVar[str] = "dispatch_id"
    dispatch_id: str
    attempt: int
    sequence: int
    previous: bytes
    events: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(Addressed):
    """How a dispatch ended. `head` and `count` close the chain of event batches."""

    type_name: ClassVar[str] = "result"
    ordered_by: ClassVar[str] = "dispatch_id"
    dispatch_id: str
    dispatch_digest: bytes
    attempt: int
    status: Ended
    head: bytes
    count: int
    reply: str = ""
    files: tuple[FileRef, ...] = ()
    usage: dict[str, int] = dataclasses.field(default_factory=dict)
    scope: str = ""
    sandbox: str = ""
    reason: str = ""
    code: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LandingReport(Addressed):
    """How much of what a run changed is in place in its recipient's folders. The one with the highest counter is in
    force.

    `change_set`: the digest of the recipient's list of changes. `in_place`, `in_all`: how many of those that can be put
    in place are, and how many there are. Where the word alone is told, all three are left out.
    """

    type_name: ClassVar[str] = "landing-report"
    priority: ClassVar[int] = 2
    ordered_by: ClassVar[str] = "dispatch_id"
    dispatch_id: str
    dispatch_digest: bytes
    attempt: int
    counter: int
    landed: Landed
    change_set: bytes = b""
    in_place: int = 0
    in_all: int = 0

    @property
    def numbers(self) -> tuple[int, int] | None:
        """`in_place` and `in_all`, None where only the word is told."""
        return (self.in_place, self.in_all) if self.change_set else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel(Addressed):
    """The sender withdraws a dispatch."""

    type_name: ClassVar[str] = "cancel"
    priority: ClassVar[int] = 0
    dispatch_id: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeChange(Addressed):
    """The trustor changed, paused or resumed an edge."""

    type_name: ClassVar[str] = "edge-change"
    priority: ClassVar[int] = 0
    ordered_by: ClassVar[str] = "edge_id"
    edge_id: str
    edge_status: str
    scope: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation(Addressed):
    """The trustor ended an edge."""

    type_name: ClassVar[str] = "revocation"
    priority: ClassVar[int] = 0
    edge_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerRequest(DeviceStatement):
    """One write at the broker: for this origin only, used once (`id` is the nonce), `arguments` deterministic CBOR."""

    type_name: ClassVar[str] = "broker-request"
    origin: str
    action: str
    arguments: bytes


VERSIONS: dict[str, dict[int, type[Statement]]] = {
    kind.type_name: {kind.version: kind}
    for kind in (
        DeviceSet,
        Membership,
        Hello,
        Invitation,
        Acceptance,
        Decline,
        Confirmation,
        Dispatch,
        Decision,
        Events,
        Result,
        LandingReport,
        Cancel,
        EdgeChange,
        Revocation,
        BrokerRequest,
    )
}
"""Type → version → class: everything that can be opened. A published version is never removed."""

TYPES: dict[str, type[Statement]] = {name: versions[max(versions)] for name, versions in VERSIONS.items()}
"""Type → the class of its newest version."""


T = TypeVar("T", bound=Statement)


@dataclass(frozen=True, slots=True)
class Signed:
    """A statement whose signature was checked, with the signed bytes as sent. `digest` is their SHA-256.

    `ignored` lists the keys that this version does not define: they are not fields of `statement` and have no effect.
    """

    statement: Any
    raw: bytes
    ignored: tuple[KeyPath, ...] = ()

    @property
    def digest(self) -> bytes:
        """SHA-256 of the whole COSE message."""
        return hashlib.sha256(self.raw).digest()


def media_type(type_name: str) -> str:
    """Return the `typ` of a statement type (RFC 9596)."""
    return f"application/dispatch-{type_name}+cbor"


def root_kid(root: bytes) -> bytes:
    """Return the kid of a root key: SHA-256 of its 32 bytes."""
    return hashlib.sha256(root).digest()


def encode_payload(statement: Statement) -> bytes:
    """Return the deterministic CBOR of a statement, type and version included. Raises Invalid, TooLarge."""
    return payloads.encode(statement, {"type": statement.type_name, "version": statement.version})


def sign_by_device(statement: DeviceStatement, seed: bytes) -> Signed:
    """Sign with the 32-byte seed of the issuing device's key. Raises Invalid, also for another key's seed; TooLarge."""
    kid = names.peer_id_bytes(statement.issuer_device)
    _same_key(seed, names.key_of_peer_id(kid))
    raw = cose.sign(encode_payload(statement), seed=seed, kid=kid, typ=media_type(statement.type_name))
    return Signed(statement, raw)


def sign_by_root(statement: DeviceSet, seed: bytes) -> Signed:
    """Sign with the 32-byte seed of the user's root key. Raises Invalid, also for another key's seed; TooLarge."""
    kid = root_kid(statement.root)
    _same_key(seed, statement.root)
    raw = cose.sign(encode_payload(statement), seed=seed, kid=kid, typ=media_type(statement.type_name))
    return Signed(statement, raw)


def _same_key(seed: bytes, public_key: bytes) -> None:
    if cose.public_key(seed) != public_key:
        raise Invalid("this key is not the one that the statement names as its issuer", fix=NO_FIX)


def open_statement(raw: bytes) -> Signed:
    """Check the form and the signature of a statement and return it.

    The signature is checked with the key that the statement itself names (the issuing device's peer id, or the root
    key inside a device-set); whether that key is trusted is decided elsewhere. Raises TooLarge, Malformed and
    BadSignature; NotUnderstood, before the signature is checked, for what only another version can read; for a
    device-set also NotAMember.
    """
    envelope = cose.parse(raw)
    statement, ignored = payloads.decode(envelope.payload, VERSIONS)
    if envelope.typ != media_type(statement.type_name):
        raise Malformed("the header names another type than the statement")
    if isinstance(statement, DeviceSet):
        kid, key = root_kid(statement.root), statement.root
    elif isinstance(statement, DeviceStatement):
        kid = names.peer_id_bytes(statement.issuer_device)
        key = names.key_of_peer_id(kid)
    else:  # pragma: no cover - TYPES holds no third kind
        raise Malformed("a statement must be signed by a device or a root key")
    if envelope.kid != kid:
        raise BadSignature("the statement was signed by another key than its issuer's")
    cose.verify(envelope, key)
    if isinstance(statement, DeviceSet):
        _check_memberships(statement)
    return Signed(statement, raw, ignored)


class NotAMember(WithUsualFix, Invalid):
    """A device-set lists a device that has not signed a membership for this user and this root key."""

    default_code = 403
    usual_fix = "do not trust this device-set"


def _check_memberships(device_set: DeviceSet) -> None:
    """Raise NotAMember unless each device signed a membership for this user and this root key.

    Otherwise anyone could list someone else's device, and whoever pins both device-sets would reassign it.
    """
    if len({entry.device for entry in device_set.devices}) != len(device_set.devices):
        raise NotAMember("the device-set lists a device twice")
    for entry in device_set.devices:
        try:
            membership, _ = open_as(Membership, entry.membership)
        except NotUnderstood:
            raise
        except DispatchError as error:
            raise NotAMember(f"the device-set lists a device without its membership: {error.message}") from error
        signed = (membership.issuer_device, membership.issuer_user, membership.root, membership.sealing_key)
        if signed != (entry.device, device_set.issuer_user, device_set.root, entry.sealing_key):
            raise NotAMember("the device-set lists a device with a membership of another device, user or root")
        if membership.standing != "member":
            raise NotAMember("the device-set lists a device that has left")


def open_as(kind: type[T], raw: bytes) -> tuple[T, Signed]:
    """Open a statement that must be of this type. Raises as `open_statement`, and Malformed for another type."""
    signed = open_statement(raw)
    if not isinstance(signed.statement, kind):
        raise Malformed(f"a statement of type {kind.type_name} belongs here")
    return signed.statement, signed
