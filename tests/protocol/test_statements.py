"""Statements: every field is under the signature, has its bounds, and has one way to be written."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from peer.protocol import codec, cose, names, signing
from peer.protocol import statements as s
from peer.protocol.codec import Malformed
from peer.protocol.content import TEXTS
from peer.protocol.cose import BadSignature
from peer.protocol.errors import DispatchError, Invalid, TooLarge
from peer.protocol.fields import LAST_TIME
from peer.protocol.growth import NotUnderstood
from peer.protocol.statements import FIELDS, TYPES, FileRef, Statement
from peer.protocol.table import MAX_DEVICE_SET, MAX_DEVICES
from tests.protocol.examples import (
    ALICE,
    BOB,
    MALLORY,
    Person,
    a_digest,
    all_examples,
    altered,
    an_id,
    full_examples,
)
from tests.protocol.strategies import any_statement, signer_of

EXAMPLES = full_examples()
_COMMON = ("type", "version", "issuer_user", "id", "created")
_LETTER = (*_COMMON, "issuer_device", "audience_user", "audience_device")

# Every field of every type, written out: a field that is added must be added here, and is then shown to be signed.
SIGNED_FIELDS: dict[str, tuple[str, ...]] = {
    "device-set": (*_COMMON, "root", "epoch", "devices"),
    "membership": (*_COMMON, "issuer_device", "root", "counter", "sealing_key", "standing"),
    "hello": (*_COMMON, "issuer_device", "counter", "features", "versions", "brokers"),
    "invitation": (*_COMMON, "issuer_device", "audience_user", "expires", "device_set"),
    "acceptance": (
        *_LETTER,
        "invitation_id",
        "invitation_digest",
        "edge_id",
        "scope",
        "device_set",
        "read_version",
        "proof",
        "unread",
    ),
    "decline": (*_LETTER, "invitation_id", "invitation_digest"),
    "confirmation": (*_LETTER, "edge_id", "acceptance_digest", "device_set"),
    "dispatch": (
        *_LETTER,
        "edge_id",
        "expires",
        "task",
        "files",
        "project",
        "links",
        "deliverable",
        "background",
        "meta",
        "parent",
    ),
    "decision": (
        *_LETTER,
        "dispatch_id",
        "dispatch_digest",
        "attempt",
        "decision",
        "read_version",
        "expires",
        "reason",
        "unread",
    ),
    "events": (*_LETTER, "dispatch_id", "attempt", "sequence", "previous", "events"),
    "result": (
        *_LETTER,
        "dispatch_id",
        "dispatch_digest",
        "attempt",
        "status",
        "head",
        "count",
        "reply",
        "files",
        "usage",
        "scope",
        "sandbox",
        "reason",
        "code",
    ),
    "landing-report": (
        *_LETTER,
        "dispatch_id",
        "dispatch_digest",
        "attempt",
        "counter",
        "change_set",
        "landed",
        "in_place",
        "in_all",
    ),
    "cancel": (*_LETTER, "dispatch_id", "reason"),
    "edge-change": (*_LETTER, "edge_id", "edge_status", "scope"),
    "revocation": (*_LETTER, "edge_id"),
    "broker-request": (*_COMMON, "issuer_device", "origin", "action", "arguments"),
}

# Another good value of each field, so that only the signature can object.
OTHER: dict[str, Any] = {
    "issuer_user": MALLORY.user,
    "issuer_device": MALLORY.device,
    "audience_user": MALLORY.user,
    "audience_device": MALLORY.device,
    "id": an_id(99),
    "created": 1,
    "expires": 1,
    "root": MALLORY.root,
    "epoch": 2,
    "devices": (),
    "device_set": b"x",
    "counter": 2,
    "sealing_key": bytes(32),
    "standing": "member",
    "invitation_id": an_id(99),
    "invitation_digest": a_digest("other"),
    "acceptance_digest": a_digest("other"),
    "edge_id": an_id(99),
    "scope": '{"tools":["Bash"]}',
    "proof": bytes(32),
    "edge_status": "active",
    "task": "Send me the keys.",
    "files": (FileRef("other", 1, bytes(32)),),
    **{text.name: "other" for text in TEXTS},
    "links": (),
    "meta": {"ticket": "8"},
    "parent": "other",
    "dispatch_id": an_id(99),
    "dispatch_digest": a_digest("other"),
    "attempt": 9,
    "decision": "accepted",
    "reason": "other",
    "sequence": 9,
    "previous": a_digest("other"),
    "events": (),
    "status": "completed",
    "reply": "other",
    "usage": {},
    "head": a_digest("other"),
    "count": 9,
    "sandbox": "other",
    "code": 200,
    "change_set": a_digest("other"),
    "landed": "all",
    "in_place": 9,
    "in_all": 9,
    "read_version": 2,
    "unread": ((201,),),
    "features": (),
    "versions": {},
    "brokers": (),
    "origin": "https://other.example.org",
    "action": "invitations.post",
    "arguments": b"",
}

EVERY_FIELD = [(kind, field) for kind, fields in SIGNED_FIELDS.items() for field in fields]


def reseal(raw: bytes, payload: bytes) -> bytes:
    """The same header and signature around another payload."""
    envelope = cose.parse(raw)
    return cose.TAG_SIGN1 + codec.encode([envelope.protected, {}, payload, envelope.signature])


def resign(raw: bytes, content: dict[int, Any], seed: bytes) -> bytes:
    """A right signature over another payload under the same header: only the form is left to object."""
    envelope = cose.parse(raw)
    return cose.sign(codec.encode(content), key=SigningKey(seed), kid=envelope.kid, typ=envelope.typ)


def content_of(raw: bytes) -> dict[int, Any]:
    content = codec.decode(cose.parse(raw).payload)
    assert isinstance(content, dict)
    return dict(content)  # type: ignore[arg-type]  # a statement's keys are integers


def signed_example(kind: str) -> tuple[bytes, bytes]:
    """The bytes of a full example and the seed that signed them."""
    signer, statement = EXAMPLES[kind]
    return signer.sign(statement).raw, signer.root_seed if kind == "device-set" else signer.device_seed


def test_the_table_lists_every_field_of_every_type() -> None:
    assert SIGNED_FIELDS.keys() == TYPES.keys() == EXAMPLES.keys()
    for kind, fields in SIGNED_FIELDS.items():
        declared = {"type", "version", *(part.name for part in s.parts_of(TYPES[kind]))}
        assert set(fields) == declared, kind
    used = {name for fields in SIGNED_FIELDS.values() for name in fields}
    assert used == FIELDS.keys(), "a field that no type has is no field"
    assert len({field.key for field in FIELDS.values()}) == len(FIELDS)


def test_every_example_sets_every_field() -> None:
    for kind, (_signer, statement) in EXAMPLES.items():
        assert content_of(signed_example(kind)[0]).keys() == {FIELDS[name].key for name in SIGNED_FIELDS[kind]}
        assert statement.type_name == kind


@pytest.mark.parametrize(("kind", "field"), EVERY_FIELD, ids=[f"{kind}:{field}" for kind, field in EVERY_FIELD])
def test_changing_a_field_is_refused(kind: str, field: str) -> None:
    raw, _seed = signed_example(kind)
    if field == "version":
        content = content_of(raw) | {FIELDS[field].key: 2}
        with pytest.raises(NotUnderstood, match="up to version 1, not 2"):
            signing.open_statement(reseal(raw, codec.encode(content)))
        return
    if field == "type":
        for other in TYPES.keys() - {kind}:
            content = content_of(raw) | {FIELDS[field].key: other}
            with pytest.raises(Malformed):
                signing.open_statement(reseal(raw, codec.encode(content)))
        return
    statement = EXAMPLES[kind][1]
    assert s.values_of(statement)[field] != OTHER[field]
    changed = altered(statement, **{field: OTHER[field]})
    with pytest.raises(BadSignature):
        signing.open_statement(reseal(raw, signing.encode_payload(changed)))


@pytest.mark.parametrize(
    ("kind", "field"),
    [(kind, part.name) for kind in TYPES for part in s.parts_of(TYPES[kind]) if not part.required],
)
def test_leaving_an_optional_field_out_is_refused(kind: str, field: str) -> None:
    raw, _seed = signed_example(kind)
    content = content_of(raw)
    del content[FIELDS[field].key]
    with pytest.raises(BadSignature):
        signing.open_statement(reseal(raw, codec.encode(content)))


@pytest.mark.parametrize("name", all_examples())
def test_every_altered_byte_is_refused(name: str) -> None:
    signer, statement = all_examples()[name]
    raw = signer.sign(statement).raw
    assert signing.open_statement(raw).statement == statement
    for place in range(len(raw)):
        for flipped in (1 << place % 8, 0xFF):
            with pytest.raises((Malformed, BadSignature)):
                signing.open_statement(_replaced(raw, place, raw[place] ^ flipped))


@pytest.mark.parametrize("kind", ["device-set", "cancel"])
def test_every_altered_bit_is_refused(kind: str) -> None:
    raw, _seed = signed_example(kind)
    for place in range(len(raw)):
        for byte in {raw[place] ^ 1 << bit for bit in range(8)} | {0, 0x17, 0x18, 0x60, 0x7F, 0xFF}:
            if byte != raw[place]:
                with pytest.raises((Malformed, BadSignature)):
                    signing.open_statement(_replaced(raw, place, byte))


@pytest.mark.parametrize("kind", ["device-set", "cancel"])
def test_a_byte_more_or_less_anywhere_is_refused(kind: str) -> None:
    raw, _seed = signed_example(kind)
    for place in range(len(raw)):
        for damaged in (raw[:place], raw[:place] + raw[place + 1 :], raw[: place + 1] + raw[place:]):
            with pytest.raises((Malformed, BadSignature)):
                signing.open_statement(damaged)
    with pytest.raises(Malformed):
        signing.open_statement(raw + raw)


def _replaced(raw: bytes, place: int, byte: int) -> bytes:
    return raw[:place] + bytes((byte,)) + raw[place + 1 :]


@given(any_statement)
def test_round_trip(statement: Statement) -> None:
    signed = signer_of(statement).sign(statement)
    opened = signing.open_statement(signed.raw)
    assert opened == signed
    assert opened.statement == statement
    assert signing.encode_payload(opened.statement) == cose.parse(signed.raw).payload
    assert signer_of(statement).sign(opened.statement).digest == signed.digest
    of_type, again = signing.open_as(type(statement), signed.raw)
    assert (of_type, again) == (statement, signed)


@given(any_statement, any_statement)
def test_different_statements_have_different_bytes(one: Statement, other: Statement) -> None:
    assert (one == other) == (signing.encode_payload(one) == signing.encode_payload(other))


@given(any_statement, st.data())
def test_no_opened_statement_survives_a_change(statement: Statement, data: st.DataObject) -> None:
    raw = bytearray(signer_of(statement).sign(statement).raw)
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises((Malformed, BadSignature)):
        signing.open_statement(bytes(raw))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_only_our_errors(data: bytes) -> None:
    for raw in (data, b"\xd2" + data, reseal(_CANCEL_RAW, data)):
        with pytest.raises((Malformed, BadSignature)):
            signing.open_statement(raw)


# -- the form of a payload, under a right signature ---------------------------------------------------------------

_CANCEL_RAW, _CANCEL_SEED = signed_example("cancel")
_KEY = {name: field.key for name, field in FIELDS.items()}


def _refusal(raw: bytes, content: Any, seed: bytes) -> DispatchError:
    with pytest.raises(DispatchError) as caught:
        signing.open_statement(resign(raw, content, seed))
    return caught.value


def test_every_malformed_class_has_an_error_of_its_own() -> None:
    raw, seed = _CANCEL_RAW, _CANCEL_SEED
    good = content_of(raw)
    assert signing.open_statement(resign(raw, good, seed)).statement == EXAMPLES["cancel"][1]

    def without(field: str) -> dict[int, Any]:
        return {key: value for key, value in good.items() if key != _KEY[field]}

    def having(field: str, value: Any) -> dict[int, Any]:
        return good | {_KEY[field]: value}

    cases: list[tuple[Any, str]] = [
        ([], "the payload of a statement must be a map"),
        (without("type"), "type is missing"),
        (having("type", b"cancel"), "type: must be text of at most 32 characters"),
        (having("type", "x" * 33), "type: must be text of at most 32 characters"),
        ({}, "type is missing"),
        ({"type": "cancel"}, "type is missing"),
        (without("version"), "version is missing"),
        (having("version", 256), "version: must be a whole number up to 255"),
        (having("version", True), "version: must be a whole number up to 255"),
        (having("version", "1"), "version: must be a whole number up to 255"),
        *((without(name), f"{name} is missing") for name in SIGNED_FIELDS["cancel"][2:] if name != "reason"),
        (having("reason", ""), "reason must be left out when it is empty"),
        (having("reason", 1), "reason: must be text of at most 2,000 characters"),
        (having("reason", None), "reason: must be text of at most 2,000 characters"),
        (having("reason", "x" * 2001), "reason: must be text of at most 2,000 characters"),
        (having("created", True), "created: must be a whole number up to 253,402,300,799,999"),
        (having("created", -1), "created: must be a whole number up to 253,402,300,799,999"),
        (having("created", 1 << 53), "created: must be a whole number up to 253,402,300,799,999"),
        (having("created", "1"), "created: must be a whole number up to 253,402,300,799,999"),
        (having("id", bytes(15)), "id: an id has 16 bytes"),
        (having("id", an_id(1)), "id: must be an id"),
        (having("issuer_user", b"alice@example.org"), "issuer_user: must be an e-mail address"),
        (having("issuer_user", "Alice@example.org"), "issuer_user: must be an e-mail address in lower case"),
        (having("issuer_user", "alice"), "issuer_user: 'alice' is not an e-mail address"),
        (having("issuer_user", " alice@example.org"), "issuer_user: must be an e-mail address in lower case"),
        (having("issuer_device", ALICE.device), "issuer_device: must be a peer id"),
        (having("issuer_device", bytes(38)), "issuer_device: not the peer id of an Ed25519 key"),
        (having("audience_device", b""), "audience_device: not the peer id of an Ed25519 key"),
    ]
    for content, message in cases:
        error = _refusal(raw, content, seed)
        assert (type(error), error.message, error.code) == (Malformed, message, 422)
        assert error.fix


# The other forms, one field of each.
WRONG_FORMS: list[tuple[str, str, Any, str]] = [
    ("result", "dispatch_digest", bytes(31), "dispatch_digest: must be 32 bytes"),
    ("result", "head", "x" * 32, "head: must be 32 bytes"),
    ("acceptance", "proof", bytes(33), "proof: must be 0 to 32 bytes"),
    ("invitation", "device_set", b"", "device_set: must be 1 to 24,576 bytes"),
    ("device-set", "root", bytes(33), "root: must be 32 bytes"),
    ("edge-change", "edge_status", "revoked", "edge_status: must be one of active, paused"),
    ("edge-change", "edge_status", 1, "edge_status: must be one of active, paused"),
    ("dispatch", "links", "x", "links: must be a list of at most 10 values"),
    ("dispatch", "links", [1], "links: must be text of at most 500 characters"),
    ("dispatch", "meta", [], "meta: must be a map of at most 32 pairs"),
    ("dispatch", "meta", {1: "x"}, "meta: must be text of at most 64 characters"),
    ("dispatch", "meta", {"x": 1}, "meta: must be text of at most 1,000 characters"),
    ("dispatch", "files", [{}], "files: must be a FileRef with its 3 fields"),
    ("dispatch", "files", [{1: "a", 2: 1}], "files: must be a FileRef with its 3 fields"),
    (
        "dispatch",
        "files",
        [{"name": "a", "size": 1, "digest": bytes(32)}],
        "files: must be a FileRef with its 3 fields",
    ),
    ("dispatch", "files", ["a"], "files: must be a FileRef with its 3 fields"),
    ("dispatch", "files", [{1: "a", 2: -1, 3: bytes(32)}], "files: must be a whole number up to 9,007,199,254,740,991"),
    ("device-set", "devices", [{}], "devices: must be a Device with its 4 fields"),
    ("dispatch", "files", [], "files must be left out when it is empty"),
    ("dispatch", "meta", {}, "meta must be left out when it is empty"),
    ("result", "code", 0, "code must be left out when it is empty"),
    ("acceptance", "proof", b"", "proof must be left out when it is empty"),
]


@pytest.mark.parametrize(("kind", "field", "value", "message"), WRONG_FORMS)
def test_a_field_of_another_form_is_refused(kind: str, field: str, value: Any, message: str) -> None:
    raw, seed = signed_example(kind)
    error = _refusal(raw, content_of(raw) | {_KEY[field]: value}, seed)
    assert (type(error), error.message) == (Malformed, message)


# -- bounds: the largest value that travels, and the smallest that does not ---------------------------------------

_WIDE = "\U0001f600"
_FILE = FileRef("f", 1, bytes(32))
_MEMBERS = tuple(
    dataclasses.replace(Person(f"member {n}").entry(ALICE.user, ALICE.root), name=_WIDE * 64) for n in range(17)
)
LIMITS: list[tuple[str, str, Any, Any]] = [
    ("dispatch", "task", _WIDE * 100_000, "x" * 100_001),
    *(("dispatch", text.name, _WIDE * text.limit, "x" * (text.limit + 1)) for text in TEXTS),
    ("dispatch", "links", (_WIDE * 500,) * 10, ("x",) * 11),
    ("dispatch", "links", ("x" * 500,), ("x" * 501,)),
    ("dispatch", "meta", {str(n): "" for n in range(32)}, {str(n): "" for n in range(33)}),
    ("dispatch", "meta", {_WIDE * 64: _WIDE * 1_000}, {"x" * 65: ""}),
    ("dispatch", "meta", {"x": "x" * 1_000}, {"x": "x" * 1_001}),
    ("dispatch", "files", (_FILE,) * 50, (_FILE,) * 51),
    ("dispatch", "files", (FileRef(_WIDE * 255, (1 << 53) - 1, bytes(32)),), (FileRef("x" * 256, 1, bytes(32)),)),
    ("dispatch", "files", (FileRef("x", 0, bytes(32)),), (FileRef("x", 1 << 53, bytes(32)),)),
    ("dispatch", "files", (_FILE,), (FileRef("x", 1, bytes(31)),)),
    ("dispatch", "parent", "x" * 36, "x" * 37),
    ("dispatch", "created", LAST_TIME, LAST_TIME + 1),
    ("dispatch", "created", 0, -1),
    ("dispatch", "audience_user", f"{'a' * 64}@example.org", f"{'a' * 65}@example.org"),
    ("dispatch", "audience_user", "a@" + ".".join(["b" * 63] * 3 + ["c" * 60]), "a@" + ".".join(["b" * 63] * 4)),
    ("device-set", "devices", _MEMBERS[:16], _MEMBERS),
    ("device-set", "devices", (), (dataclasses.replace(_MEMBERS[0], name="x" * 65),)),
    ("device-set", "devices", (), (dataclasses.replace(_MEMBERS[0], sealing_key=bytes(31)),)),
    ("device-set", "devices", (), (dataclasses.replace(_MEMBERS[0], membership=bytes(2_049)),)),
    ("hello", "features", ("x" * 64,) * 64, ("x",) * 65),
    ("hello", "versions", {"x": 255}, {"x": 256}),
    ("hello", "brokers", (bytes(16),) * 8, (bytes(16),) * 9),
    ("hello", "brokers", (bytes(16),), (bytes(17),)),
    ("decision", "unread", ((41, 1, 2, 65_535),) * 32, ((200,),) * 33),
    ("decision", "unread", ((65_535,),), ((65_536,),)),
    ("decision", "unread", ((1, 2, 3, 200),), ((1, 2, 3, 4, 200),)),
    ("invitation", "device_set", bytes(24_576), bytes(24_577)),
    ("acceptance", "scope", _WIDE * 16_384, "x" * 16_385),
    ("acceptance", "proof", bytes(32), bytes(33)),
    ("decision", "attempt", 1_000_000, 1_000_001),
    ("decision", "reason", _WIDE * 2_000, "x" * 2_001),
    ("events", "events", ("x" * 262_144,), ("x" * 262_145,)),
    ("events", "events", ("x",) * 256, ("x",) * 257),
    ("result", "reply", _WIDE * 100_000, "x" * 100_001),
    ("result", "usage", {str(n): 1 for n in range(16)}, {str(n): 1 for n in range(17)}),
    ("result", "usage", {"x" * 32: (1 << 53) - 1}, {"x" * 33: 1}),
    ("result", "usage", {"x": 0}, {"x": 1 << 53}),
    ("result", "sandbox", _WIDE * 4_096, "x" * 4_097),
    ("result", "code", 599, 600),
    ("broker-request", "origin", "x" * 512, "x" * 513),
    ("broker-request", "action", "x" * 32, "x" * 33),
    ("broker-request", "arguments", bytes(262_144), bytes(262_145)),
]


@pytest.mark.parametrize(("kind", "field", "most", "over"), LIMITS, ids=[f"{row[0]}:{row[1]}" for row in LIMITS])
def test_limits(kind: str, field: str, most: Any, over: Any) -> None:
    signer, statement = EXAMPLES[kind]
    largest = altered(statement, **{field: most})
    assert signing.open_statement(signer.sign(largest).raw).statement == largest
    with pytest.raises(Invalid) as caught:
        signer.sign(altered(statement, **{field: over}))
    assert caught.value.message.startswith(f"{field}: ")
    assert type(caught.value) is Invalid, "the sender's own mistake is not the other side's malformed statement"


def test_a_dispatch_with_every_field_full_still_travels() -> None:
    signer, statement = EXAMPLES["dispatch"]
    fullest = altered(
        statement,
        **{
            "task": _WIDE * 100_000,
            "files": (FileRef(_WIDE * 255, (1 << 53) - 1, bytes(32)),) * 50,
            **{text.name: _WIDE * text.limit for text in TEXTS},
            "links": (_WIDE * 500,) * 10,
            "meta": {_WIDE * 62 + f"{n:02}": _WIDE * 1_000 for n in range(32)},
            "parent": _WIDE * 36,
        },
    )
    raw = signer.sign(fullest).raw
    assert signing.open_statement(raw).statement == fullest
    assert len(raw) < 720_000 < codec.MAX_BYTES


def test_a_full_device_set_fits_into_an_invitation() -> None:
    user = "a@" + ".".join(["b" * 63] * 3 + ["c" * 60])
    people = (Person(f"member {n}") for n in range(MAX_DEVICES))
    devices = tuple(
        dataclasses.replace(each.entry(user, ALICE.root, counter=(1 << 53) - 1), name=_WIDE * 64) for each in people
    )
    changes: dict[str, Any] = {"devices": devices, "issuer_user": user, "epoch": (1 << 53) - 1}
    largest = dataclasses.replace(EXAMPLES["device-set"][1], **changes)
    raw = ALICE.sign(largest).raw
    assert len(raw) < 16_000 < MAX_DEVICE_SET
    invitation = altered(EXAMPLES["invitation"][1], device_set=raw)
    assert signing.open_statement(ALICE.sign(invitation).raw).statement == invitation


def test_events_over_the_limit_of_a_statement_are_not_signed() -> None:
    signer, statement = EXAMPLES["events"]
    with pytest.raises(TooLarge):
        signer.sign(altered(statement, **{"events": ("x" * 262_144,) * 4}))


def test_half_a_surrogate_pair_is_not_signed() -> None:
    signer, statement = EXAMPLES["cancel"]
    with pytest.raises(Invalid, match="half of a surrogate pair"):
        signer.sign(altered(statement, **{"reason": "\ud800"}))


@pytest.mark.parametrize("kind", TYPES)
def test_values_of_another_python_type_are_not_signed(kind: str) -> None:
    signer, statement = EXAMPLES[kind]
    for part in s.parts_of(TYPES[kind]):
        for value in (object(), None, True, 1.5, [], {1: 2}, bytearray(32)):
            with pytest.raises(Invalid):
                signing.encode_payload(altered(statement, **{part.name: value}))
    assert signer.sign(statement)


def test_a_content_of_another_type_is_not_signed() -> None:
    statement = EXAMPLES["dispatch"][1]
    for value in (object(), None, {"task": "x"}):
        with pytest.raises(Invalid, match="content: must be a Content"):
            wrong: dict[str, Any] = {"content": value}
            signing.encode_payload(dataclasses.replace(statement, **wrong))


# -- who signed ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TYPES)
def test_a_header_of_another_type_is_refused(kind: str) -> None:
    raw, seed = signed_example(kind)
    envelope = cose.parse(raw)
    for other in (*(TYPES.keys() - {kind}), "", f"{kind} "):
        mislabelled = cose.sign(envelope.payload, key=SigningKey(seed), kid=envelope.kid, typ=signing.media_type(other))
        with pytest.raises(Malformed, match="the header names another type than the statement"):
            signing.open_statement(mislabelled)


@pytest.mark.parametrize("kind", TYPES)
def test_another_key_under_the_issuers_name_is_refused(kind: str) -> None:
    raw, _seed = signed_example(kind)
    envelope = cose.parse(raw)
    root = kind == "device-set"
    other_seed = MALLORY.root_seed if root else MALLORY.device_seed
    other_kid = signing.root_kid(MALLORY.root) if root else names.peer_id_bytes(MALLORY.device)
    with pytest.raises(BadSignature, match="does not fit"):
        signing.open_statement(
            cose.sign(envelope.payload, key=SigningKey(other_seed), kid=envelope.kid, typ=envelope.typ)
        )
    with pytest.raises(BadSignature, match="another key than its issuer's"):
        signing.open_statement(cose.sign(envelope.payload, key=SigningKey(other_seed), kid=other_kid, typ=envelope.typ))


def test_a_kid_over_the_right_signature_may_not_be_swapped() -> None:
    raw, seed = signed_example("dispatch")
    envelope = cose.parse(raw)
    for kid in (b"", names.peer_id_bytes(BOB.device), ALICE.device.encode(), signing.root_kid(ALICE.root)):
        with pytest.raises(BadSignature, match="another key than its issuer's"):
            signing.open_statement(cose.sign(envelope.payload, key=SigningKey(seed), kid=kid, typ=envelope.typ))


def test_a_device_cannot_sign_a_device_set_nor_a_root_a_dispatch() -> None:
    device_set = cose.parse(signed_example("device-set")[0])
    dispatch = cose.parse(signed_example("dispatch")[0])
    for envelope, seed, kid in (
        (device_set, ALICE.device_seed, device_set.kid),
        (device_set, ALICE.device_seed, names.peer_id_bytes(ALICE.device)),
        (dispatch, ALICE.root_seed, dispatch.kid),
        (dispatch, ALICE.root_seed, signing.root_kid(ALICE.root)),
    ):
        with pytest.raises(BadSignature):
            signing.open_statement(cose.sign(envelope.payload, key=SigningKey(seed), kid=kid, typ=envelope.typ))


@pytest.mark.parametrize("kind", TYPES)
def test_no_key_but_the_named_one_is_used_to_sign(kind: str) -> None:
    statement: Any = EXAMPLES[kind][1]
    with pytest.raises(Invalid, match="not the one that the statement names"):
        if kind == "device-set":
            signing.sign_by_root(statement, MALLORY.root_seed)
        else:
            signing.sign_by_device(statement, MALLORY.device_seed)


def test_mallory_may_write_alices_name_over_her_own_key() -> None:
    """Opening proves which key signed, never whose key it is: the pinned device-set must say so (admission, trust)."""
    forged = altered(EXAMPLES["dispatch"][1], **{"issuer_device": MALLORY.device})
    opened = signing.open_statement(MALLORY.sign(forged).raw).statement
    assert (opened.issuer_user, opened.issuer_device) == (ALICE.user, MALLORY.device)
    pinned = {device.device for device in EXAMPLES["device-set"][1].devices}  # type: ignore[attr-defined]
    assert opened.issuer_device not in pinned

    devices = (MALLORY.entry(ALICE.user),)
    own_root = altered(EXAMPLES["device-set"][1], root=MALLORY.root, devices=devices)
    assert signing.open_statement(MALLORY.sign(own_root).raw).statement.issuer_user == ALICE.user


def test_a_small_order_key_inside_a_peer_id_signs_nothing() -> None:
    identity = bytes((1, *(0,) * 31))
    device = names.peer_id_text(names.peer_id_of(identity))
    statement = altered(EXAMPLES["dispatch"][1], **{"issuer_device": device})
    protected = codec.encode({1: -8, 4: names.peer_id_of(identity), 16: signing.media_type("dispatch")})
    forged = codec.encode([protected, {}, signing.encode_payload(statement), identity + bytes(32)])
    with pytest.raises(BadSignature):
        signing.open_statement(cose.TAG_SIGN1 + forged)


@pytest.mark.parametrize("kind", TYPES)
def test_opening_as_another_type_is_refused(kind: str) -> None:
    raw, _seed = signed_example(kind)
    assert signing.open_as(TYPES[kind], raw)[0] == EXAMPLES[kind][1]
    other = s.Revocation if kind != "revocation" else s.Cancel
    with pytest.raises(Malformed, match=f"a statement of type {other.type_name} belongs here"):
        signing.open_as(other, raw)
