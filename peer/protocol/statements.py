"""The types of statement, their fields, and how a signed one is made and opened. Pure.

Every statement is a frozen dataclass. `FIELDS` is the one table of map keys; a class names the fields it has, and a
field with a default is left out of the map when it holds that default. A dispatch's content lies in the dispatch's own
map: content.py names those fields, with their keys and bounds. Opening is strict both ways: unknown or missing
keys, wrong forms and a payload that does not re-encode to the same bytes are refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeVar, get_args, get_origin

from peer.protocol import codec, content, cose, names
from peer.protocol import fields as f
from peer.protocol.codec import Malformed
from peer.protocol.content import Content
from peer.protocol.content import FileRef as FileRef
from peer.protocol.cose import BadSignature
from peer.protocol.documents import Document
from peer.protocol.errors import Invalid
from peer.protocol.fields import Field, Form
from peer.protocol.outcomes import Decided, Ended

VERSION = 1
_UPDATE = "update dispatch on both sides"
MAX_DEVICES = 16
MAX_EVENTS = 256
MAX_EVENT_TEXT = 262_144


@dataclass(frozen=True, slots=True)
class Device:
    """One device of a user: its peer id, its X25519 key for sealing (32 bytes), the name its person gave it."""

    device: str
    sealing_key: bytes
    name: str


DEVICE_FORM = f.record(
    Device,
    {"device": Field(1, f.DEVICE), "sealing_key": Field(2, f.KEY), "name": Field(3, f.text(64))},
)
FILE_FORM = f.record(
    FileRef,
    {"name": Field(1, f.text(255)), "size": Field(2, f.number()), "digest": Field(3, f.DIGEST)},
)


def _content_form(hint: object) -> Form:
    """Return how a field of `Content` travels: a text, a list of texts or files, or a map of texts, each bounded."""
    kind, most, _, _ = content.bounded(hint)
    if kind is str:
        return f.text(most)
    if get_origin(kind) is dict:
        return f.words(most, *map(_content_form, get_args(kind)))
    (item, _) = get_args(kind)
    return f.many(FILE_FORM if item is content.F else _content_form(item), most)


FIELDS: dict[str, Field] = {
    # who, to whom, when
    "type": Field(1, f.text(32)),
    "version": Field(2, f.number(255)),
    "issuer_user": Field(3, f.USER),
    "issuer_device": Field(4, f.DEVICE),
    "audience_user": Field(5, f.USER),
    "audience_device": Field(6, f.DEVICE),
    "id": Field(7, f.ID),
    "created": Field(8, f.TIME),
    "expires": Field(9, f.TIME),
    # identity
    "root": Field(16, f.KEY),
    "epoch": Field(17, f.number()),
    "devices": Field(18, f.many(DEVICE_FORM, MAX_DEVICES)),
    "device_set": Field(19, f.blob(1, 8192)),
    # invitations and edges
    "invitation_id": Field(24, f.ID),
    "invitation_digest": Field(25, f.DIGEST),
    "acceptance_digest": Field(26, f.DIGEST),
    "edge_id": Field(27, f.ID),
    "scope": Field(28, f.text(16_384)),
    "proof": Field(29, f.blob(0, 32)),
    "edge_status": Field(30, f.one_of("active", "paused")),
    # dispatches
    **{name: Field(field.about.key, _content_form(field.hint)) for name, field in content.FIELDS.items()},
    # what became of one
    "dispatch_id": Field(56, f.ID),
    "dispatch_digest": Field(57, f.DIGEST),
    "attempt": Field(58, f.number(1_000_000)),
    "decision": Field(59, f.one_of(*get_args(Decided))),
    "reason": Field(60, f.text(2_000)),
    "sequence": Field(61, f.number()),
    "previous": Field(62, f.DIGEST),
    "events": Field(63, f.many(f.text(MAX_EVENT_TEXT), MAX_EVENTS)),
    "status": Field(64, f.one_of(*get_args(Ended))),
    "reply": Field(65, f.text(100_000)),
    "usage": Field(66, f.words(16, f.text(32), f.number())),
    "head": Field(67, f.DIGEST),
    "count": Field(68, f.number()),
    "sandbox": Field(69, f.text(4_096)),
    "code": Field(70, f.number(599)),
    # writes at the broker
    "origin": Field(80, f.text(512)),
    "action": Field(81, f.text(32)),
    "arguments": Field(82, f.blob(0, 262_144)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What every statement has. `type_name` is its name on the wire, `created` milliseconds since the epoch."""

    type_name: ClassVar[str] = ""
    issuer_user: str
    id: str
    created: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceStatement(Statement):
    """Signed by the device that issues it."""

    issuer_device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressed(DeviceStatement):
    """Addressed to one device of one user; these travel by courier."""

    priority: ClassVar[int] = 1
    """Which waiting statement goes first: the one of the lowest number."""
    ordered_by: ClassVar[str] = ""
    """The field whose value names the queue that the statement keeps its place in: none overtakes an earlier one."""
    audience_user: str
    audience_device: str

    @property
    def ordering(self) -> str:
        """The queue that the statement keeps its place in, "" for none."""
        return str(getattr(self, self.ordered_by)) if self.ordered_by else ""

    @property
    def about_dispatch(self) -> str:
        """The id of the dispatch that the statement is about, "" for none."""
        return str(getattr(self, "dispatch_id", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSet(Statement):
    """All devices of a user, signed by the user's root key. The highest epoch wins; a device not in it is revoked."""

    type_name: ClassVar[str] = "device-set"
    root: bytes
    epoch: int
    devices: tuple[Device, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation(DeviceStatement):
    """The issuer asks the audience for permission to dispatch to them. Single-use; its id is the token."""

    type_name: ClassVar[str] = "invitation"
    audience_user: str
    expires: int
    device_set: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance(Addressed):
    """The invited user's device offers an edge. `proof` is the HMAC by the link's secret, empty without a link."""

    type_name: ClassVar[str] = "acceptance"
    priority: ClassVar[int] = 0
    ordered_by: ClassVar[str] = "edge_id"
    invitation_id: str
    invitation_digest: bytes
    edge_id: str
    scope: str
    device_set: bytes
    proof: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decline(Addressed):
    """The invited user wants no edge."""

    type_name: ClassVar[str] = "decline"
    invitation_id: str
    invitation_digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation(Addressed):
    """The inviter has the acceptance and pinned its device-set: the edge may become active."""

    type_name: ClassVar[str] = "confirmation"
    priority: ClassVar[int] = 0
    ordered_by: ClassVar[str] = "edge_id"
    edge_id: str
    acceptance_digest: bytes
    device_set: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch(Addressed):
    """One task with everything that the sender's person gave with it, verbatim."""

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
    """What the recipient's side decided or what state its machine brought the dispatch to."""

    type_name: ClassVar[str] = "decision"
    ordered_by: ClassVar[str] = "dispatch_id"
    dispatch_id: str
    dispatch_digest: bytes
    attempt: int
    decision: Decided
    expires: int = 0
    reason: str = ""


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
class Cancel(Addressed):
    """The sender takes a dispatch back."""

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


TYPES: dict[str, type[Statement]] = {
    kind.type_name: kind
    for kind in (
        DeviceSet,
        Invitation,
        Acceptance,
        Decline,
        Confirmation,
        Dispatch,
        Decision,
        Events,
        Result,
        Cancel,
        EdgeChange,
        Revocation,
        BrokerRequest,
    )
}


@dataclass(frozen=True, slots=True)
class Signed:
    """A statement whose signature was checked, with the bytes that were signed and sent. `digest` is their SHA-256."""

    statement: Any
    raw: bytes

    @property
    def digest(self) -> bytes:
        """SHA-256 of the whole COSE message."""
        return hashlib.sha256(self.raw).digest()


class Part(NamedTuple):
    """A field of a statement type as it lies in the map: its name in FIELDS, and its default where it is optional."""

    name: str
    required: bool
    default: object = None


def parts_of(kind: type[Statement]) -> tuple[Part, ...]:
    """Return the fields of a type in the order of its class, a dispatch's content by its own fields."""
    parts: list[Part] = []
    for spec in dataclasses.fields(kind):
        if spec.name == "content":
            parts += (Part(field.name, field.required, field.default) for field in content.FIELDS.values())
        elif spec.default_factory is not dataclasses.MISSING:
            parts.append(Part(spec.name, False, spec.default_factory()))
        else:
            required = spec.default is dataclasses.MISSING
            parts.append(Part(spec.name, required, None if required else spec.default))
    return tuple(parts)


def values_of(statement: Statement) -> Document:
    """Return a statement's values by the names in FIELDS. Raises Invalid for a content that is no `Content`."""
    values = {spec.name: getattr(statement, spec.name) for spec in dataclasses.fields(statement)}
    if isinstance(statement, Dispatch):
        held = values.pop("content")
        if not isinstance(held, Content):
            raise Invalid("content: must be a Content")
        values |= held.values()
    return values


def media_type(type_name: str) -> str:
    """Return the `typ` of a statement type (RFC 9596)."""
    return f"application/dispatch-{type_name}+cbor"


def root_kid(root: bytes) -> bytes:
    """Return the kid of a root key: SHA-256 of its 32 bytes."""
    return hashlib.sha256(root).digest()


def encode_payload(statement: Statement) -> bytes:
    """Return the deterministic CBOR of a statement, type and version included. Raises Invalid, TooLarge."""
    payload: dict[int, Any] = {
        FIELDS["type"].key: FIELDS["type"].form.pack(statement.type_name),
        FIELDS["version"].key: VERSION,
    }
    values = values_of(statement)
    for part in parts_of(type(statement)):
        value = values[part.name]
        if part.required or value != part.default:
            field = FIELDS[part.name]
            try:
                payload[field.key] = field.form.pack(value)
            except Invalid as error:
                # Ours to mend, not the other side's: the fix that Malformed offers would mislead.
                raise Invalid(f"{part.name}: {error.message}") from error
    return codec.encode(payload)


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
        raise Invalid("this key is not the one that the statement names as its issuer")


def open_statement(raw: bytes) -> Signed:
    """Check form and signature of a statement and return it.

    The signature is checked with the key that the statement itself names (the issuing device's peer id, or the root
    key inside a device-set): who that key belongs to is for trust to say. Raises TooLarge, Malformed, BadSignature.
    """
    envelope = cose.parse(raw)
    statement = _decode_payload(envelope.payload)
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
    return Signed(statement, raw)


T = TypeVar("T", bound=Statement)


def open_as(kind: type[T], raw: bytes) -> tuple[T, Signed]:
    """Open a statement that must be of this type. Raises as `open_statement`, and Malformed for another type."""
    signed = open_statement(raw)
    if not isinstance(signed.statement, kind):
        raise Malformed(f"a statement of type {kind.type_name} belongs here")
    return signed.statement, signed


def _decode_payload(payload: bytes) -> Statement:
    decoded = codec.decode(payload)
    if not isinstance(decoded, dict):
        raise Malformed("the payload of a statement must be a map")
    unclaimed: dict[Any, Any] = dict(decoded)
    if FIELDS["type"].key not in unclaimed:
        raise Malformed("type is missing")
    type_name = unclaimed.pop(FIELDS["type"].key)
    kind = TYPES.get(type_name) if isinstance(type_name, str) else None
    if kind is None:
        raise Malformed("a statement of an unknown type", fix=_UPDATE)
    if FIELDS["version"].key not in unclaimed:
        raise Malformed("version is missing")
    version = unclaimed.pop(FIELDS["version"].key)
    if version != VERSION or isinstance(version, bool):
        raise Malformed(f"only version {VERSION} of a statement is understood", fix=_UPDATE)
    values: dict[str, Any] = {}
    for part in parts_of(kind):
        field = FIELDS[part.name]
        if field.key in unclaimed:
            values[part.name] = _unpack(part.name, field, unclaimed.pop(field.key))
            if not part.required and values[part.name] == part.default:
                raise Malformed(f"{part.name} must be left out when it is empty")
        elif part.required:
            raise Malformed(f"{part.name} is missing")
    if unclaimed:
        raise Malformed(f"a {kind.type_name} has no field of key {min(unclaimed)!r:.40}")
    if kind is Dispatch:
        values["content"] = Content(**{name: values.pop(name) for name in content.FIELDS if name in values})
    return kind(**values)


def _unpack(name: str, field: Field, value: object) -> Any:
    try:
        return field.form.unpack(value)
    except Invalid as error:
        raise Malformed(f"{name}: {error.message}") from error
