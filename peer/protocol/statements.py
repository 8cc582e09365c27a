"""The statement types and their fields. Pure. How a statement is signed and opened is in signing.py.

Every statement is a frozen dataclass whose fields are entries of table.py; payloads.py converts it to a map and back.
The content of a dispatch (content.py) is part of the dispatch's own map.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from peer.protocol.content import Content
from peer.protocol.content import FileRef as FileRef
from peer.protocol.growth import KeyPath
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
