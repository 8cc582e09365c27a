"""The one table of fields: name → map key and form on the wire, and the records that fields hold. Pure.

Statement types (statements.py) use these fields by name. Keys below 128 are critical, keys from 128 on are ignorable
(growth.py). The meaning of a published key never changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args, get_origin

from peer.protocol import content
from peer.protocol import fields as f
from peer.protocol.brokers import MARK_BYTES, MAX_BROKERS
from peer.protocol.content import FileRef
from peer.protocol.fields import Field, Form
from peer.protocol.growth import LAST_IGNORABLE, MAX_IGNORED, KeyPath
from peer.protocol.outcomes import Decided, Ended, Landed

MAX_DEVICES = 16
MAX_MEMBERSHIP = 2_048
MAX_DEVICE_SET = 24_576
"""Bytes. 16 devices with the longest names (four-byte characters) and addresses take about 15 kB."""
MAX_FEATURES = 64
MAX_KEY_PATH = 4
"""Keys on the path from a statement to an ignored key. So far no record contains a record, so 2 are used."""
MAX_EVENTS = 256
MAX_EVENT_TEXT = 262_144


@dataclass(frozen=True, slots=True)
class Device:
    """One device of a user: its peer id, X25519 sealing key (32 bytes), name, and signed membership."""

    device: str
    sealing_key: bytes
    name: str
    membership: bytes


DEVICE_FORM = f.record(
    Device,
    {
        "device": Field(1, f.DEVICE),
        "sealing_key": Field(2, f.KEY),
        "name": Field(3, f.text(64)),
        "membership": Field(4, f.blob(1, MAX_MEMBERSHIP)),
    },
)
FILE_FORM = f.record(
    FileRef,
    {"name": Field(1, f.text(255)), "size": Field(2, f.number()), "digest": Field(3, f.DIGEST)},
)


def _content_form(hint: object) -> Form:
    """Return the form of a field of `Content`: a text, a list of texts or files, or a map of texts, each bounded."""
    kind, most, _, _ = content.bounded(hint)
    if kind is str:
        return f.text(most)
    if get_origin(kind) is dict:
        return f.mapping(most, *map(_content_form, get_args(kind)))
    (item, _) = get_args(kind)
    return f.array(FILE_FORM if item is content.F else _content_form(item), most)


FIELDS: dict[str, Field] = {
    # issuer, audience, time
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
    "devices": Field(18, f.array(DEVICE_FORM, MAX_DEVICES)),
    "device_set": Field(19, f.blob(1, MAX_DEVICE_SET)),
    "counter": Field(20, f.number()),
    "sealing_key": Field(21, f.KEY),
    "standing": Field(22, f.one_of("member", "left")),
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
    # decisions, traces and results
    "dispatch_id": Field(56, f.ID),
    "dispatch_digest": Field(57, f.DIGEST),
    "attempt": Field(58, f.number(1_000_000)),
    "decision": Field(59, f.one_of(*get_args(Decided))),
    "reason": Field(60, f.text(2_000)),
    "sequence": Field(61, f.number()),
    "previous": Field(62, f.DIGEST),
    "events": Field(63, f.array(f.text(MAX_EVENT_TEXT), MAX_EVENTS)),
    "status": Field(64, f.one_of(*get_args(Ended))),
    "reply": Field(65, f.text(100_000)),
    "usage": Field(66, f.mapping(16, f.text(32), f.number())),
    "head": Field(67, f.DIGEST),
    "count": Field(68, f.number()),
    "sandbox": Field(69, f.text(4_096)),
    "code": Field(70, f.number(599)),
    # versions and features
    "read_version": Field(71, f.number(255)),
    "unread": Field(72, f.array(f.array(f.number(LAST_IGNORABLE), MAX_KEY_PATH), MAX_IGNORED)),
    "features": Field(73, f.array(f.text(64), MAX_FEATURES)),
    "versions": Field(74, f.mapping(64, f.text(32), f.number(255))),
    # what became of a run's changes
    "change_set": Field(76, f.DIGEST),
    "landed": Field(77, f.one_of(*get_args(Landed))),
    "in_place": Field(78, f.number()),
    "in_all": Field(79, f.number()),
    # writes at the broker
    "origin": Field(80, f.text(512)),
    "action": Field(81, f.text(32)),
    "arguments": Field(82, f.blob(0, 262_144)),
    # where devices are found
    "brokers": Field(256, f.array(f.blob(MARK_BYTES, MARK_BYTES), MAX_BROKERS)),
}

FEATURES: dict[str, str] = {name: field.about.feature for name, field in content.FIELDS.items() if field.about.feature}
"""Field of a dispatch → the feature under which a device's hello announces it. Fields of the first version have none:
every device supports them. The key of a field decides whether it may be omitted for a device without the feature."""


def path_text(path: KeyPath) -> str:
    """Return a path as text: the name of a field, else its number, then the keys within records: `files.200`."""
    names = {field.key: name for name, field in FIELDS.items()}
    return ".".join([names.get(path[0], str(path[0])), *map(str, path[1:])]) if path else ""
