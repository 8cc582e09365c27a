"""Keys, types and versions of a later dispatch: ignored within bounds, or refused with what helps."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from peer.protocol import codec, cose, signing
from peer.protocol import statements as s
from peer.protocol.cose import BadSignature
from peer.protocol.errors import TooLarge
from peer.protocol.growth import MAX_IGNORED, MAX_IGNORED_BYTES, NotUnderstood
from peer.protocol.signing import NotAMember
from peer.protocol.statements import Statement
from peer.protocol.table import FIELDS
from tests.protocol.examples import ALICE, BOB, CREATED, MALLORY, Person, altered, full_examples
from tests.protocol.strategies import any_statement, signer_of, values
from tests.protocol.test_statements import content_of, reseal, resign, signed_example

EXAMPLES = full_examples()


def opened(kind: str, content: dict[int, Any]) -> signing.Signed:
    raw, seed = signed_example(kind)
    return signing.open_statement(resign(raw, content, seed))


@pytest.mark.parametrize("kind", s.TYPES)
@pytest.mark.parametrize("key", [128, 200, 65_535])
def test_an_ignorable_key_is_kept_named_and_without_effect(kind: str, key: int) -> None:
    raw, seed = signed_example(kind)
    grown = resign(raw, content_of(raw) | {key: ["anything", {1: None}]}, seed)
    signed = signing.open_statement(grown)
    assert signed.statement == EXAMPLES[kind][1]
    assert (signed.ignored, signed.raw) == (((key,),), grown)
    assert signing.open_statement(raw).ignored == ()
    without = reseal(grown, cose.parse(raw).payload)
    with pytest.raises(BadSignature):
        signing.open_statement(without)  # it is under the signature like every other


@pytest.mark.parametrize("kind", s.TYPES)
@pytest.mark.parametrize("key", [0, 75, 127, 65_536, (1 << 64) - 1])
def test_a_critical_key_refuses_with_the_fix(kind: str, key: int) -> None:
    raw, _ = signed_example(kind)
    assert key not in {field.key for field in FIELDS.values()}
    with pytest.raises(NotUnderstood, match=f"a {kind} has no field of key {key} ") as refused:
        opened(kind, content_of(raw) | {key: 0})
    assert (refused.value.code, refused.value.fix) == (415, "update dispatch on the machine that refused it")


def test_a_field_of_another_type_is_critical_where_it_is_not_known() -> None:
    raw, _ = signed_example("cancel")
    with pytest.raises(NotUnderstood, match="a cancel has no field of key 40"):
        opened("cancel", content_of(raw) | {FIELDS["task"].key: "x"})


def test_records_grow_by_the_same_rule() -> None:
    raw, _ = signed_example("dispatch")
    content, files = content_of(raw), FIELDS["files"].key
    newer = [entry | {200: "text/plain", 130 + n: b"x"} for n, entry in enumerate(content[files])]
    signed = opened("dispatch", content | {files: newer, 300: 1})
    assert signed.statement == EXAMPLES["dispatch"][1]
    assert signed.ignored == ((files, 130), (files, 131), (files, 200), (300,))
    for key in (4, 127, 65_536):
        with pytest.raises(NotUnderstood, match=f"files: a FileRef has no field of key {key} "):
            opened("dispatch", content | {files: [content[files][0] | {key: 0}]})


def test_words_are_no_fields() -> None:
    """Metadata and usage are maps of the person's and the runtime's own words: nothing in them is ignored."""
    raw, _ = signed_example("result")
    usage = {f"word {n}": n for n in range(16)}
    assert opened("result", content_of(raw) | {FIELDS["usage"].key: usage}).ignored == ()


def test_what_is_ignored_is_bounded() -> None:
    raw, _ = signed_example("cancel")
    content = content_of(raw)
    deep: Any = 1
    for _ in range(4):
        deep = [deep]
    room = MAX_IGNORED_BYTES - 3  # for the head of the byte string
    for good in (
        {128 + n: n for n in range(MAX_IGNORED)},
        {200: deep},
        {200: b"x" * room},
        {200: b"x" * (room - 100), 201: b"x" * 98},
    ):
        assert len(opened("cancel", content | good).ignored) == len(good)
    for bad, message in (
        ({128 + n: n for n in range(MAX_IGNORED + 1)}, "more than 32 fields"),
        ({200: [deep]}, "nested deeper than 4"),
        ({200: {1: {1: {1: {1: {}}}}}}, "nested deeper than 4"),
        ({200: b"x" * (room + 1)}, "more than 65,536 bytes"),
        ({200: b"x" * (room - 100), 201: b"x" * 99}, "more than 65,536 bytes"),
    ):
        with pytest.raises(TooLarge, match=message):
            opened("cancel", content | bad)
    files, entry = FIELDS["files"].key, {1: "a", 2: 1, 3: bytes(32)}
    dispatch = content_of(signed_example("dispatch")[0])
    assert opened("dispatch", dispatch | {files: [entry | {200: 1}] * 50}).ignored == ((files, 200),)
    with pytest.raises(TooLarge, match="more than 32 fields"):
        opened("dispatch", dispatch | {files: [entry | {200 + n: 1} for n in range(33)]})
    with pytest.raises(TooLarge, match="bytes"):
        opened("dispatch", dispatch | {files: [entry | {200: b"x" * 1_400}] * 50})


KNOWN = {field.key for field in FIELDS.values()}
later = st.integers(128, 65_535).filter(lambda key: key not in KNOWN)


@given(any_statement, st.dictionaries(later, st.integers() | st.text(max_size=9), max_size=9))
def test_whatever_is_added_reads_as_before(statement: Statement, more: dict[int, Any]) -> None:
    signer = signer_of(statement)
    raw = signer.sign(statement).raw
    seed = signer.root_seed if isinstance(statement, s.DeviceSet) else signer.device_seed
    more = {key: value for key, value in more.items() if not isinstance(value, int) or abs(value) < 1 << 64}
    signed = signing.open_statement(resign(raw, content_of(raw) | more, seed))
    assert signed.statement == statement
    assert signed.ignored == tuple((key,) for key in sorted(more))


@given(st.dictionaries(st.integers(0, 70_000), values, max_size=9))
def test_any_keys_give_only_our_errors(more: dict[int, Any]) -> None:
    raw, _ = signed_example("cancel")
    content = content_of(raw)
    try:
        signed = opened("cancel", more | content)
    except (codec.Malformed, TooLarge):
        return
    assert signed.ignored == tuple((key,) for key in sorted(more.keys() - content.keys()))


# -- types and versions -------------------------------------------------------------------------------------------


def test_an_unknown_type_and_version_are_named_with_the_fix() -> None:
    raw, _ = signed_example("cancel")
    content = content_of(raw)
    for changed, message in (
        ({FIELDS["type"].key: "plan"}, "this version knows no statement of type 'plan'"),
        ({FIELDS["version"].key: 2}, "this version reads a cancel up to version 1, not 2"),
        ({FIELDS["version"].key: 0}, "this version reads a cancel up to version 1, not 0"),
    ):
        with pytest.raises(NotUnderstood) as refused:
            opened("cancel", content | changed)
        assert (refused.value.message, refused.value.code) == (message, 415)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel2(s.Cancel):
    """A second version of a type, as a later dispatch may have one."""

    version: ClassVar[int] = 2


def test_a_newer_version_is_read_beside_the_older_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(s.VERSIONS, "cancel", {1: s.Cancel, 2: Cancel2})
    older = EXAMPLES["cancel"][1]
    newer = Cancel2(**{spec.name: getattr(older, spec.name) for spec in dataclasses.fields(older)})
    for statement in (older, newer):
        signed = signing.open_statement(ALICE.sign(statement).raw)
        assert (type(signed.statement), signed.statement) == (type(statement), statement)
    assert signing.encode_payload(older) != signing.encode_payload(newer)


# -- memberships --------------------------------------------------------------------------------------------------


def device_set(*entries: s.Device) -> bytes:
    return ALICE.sign(altered(EXAMPLES["device-set"][1], devices=entries)).raw


def test_a_device_set_holds_what_its_devices_signed() -> None:
    guest = Person("guest").entry(ALICE.user, ALICE.root)
    statement, _ = signing.open_as(s.DeviceSet, device_set(ALICE.entry(), guest))
    assert [entry.device for entry in statement.devices] == [ALICE.device, Person("guest").device]


def test_nobody_lists_a_device_that_did_not_sign_for_it() -> None:
    """Each case was seen to open without its check."""
    for entry, message in (
        # Bob's device with what it signed for Bob, with what Mallory signed, with nothing
        (BOB.entry(), "of another device, user or root"),
        (BOB.entry(ALICE.user, BOB.root), "of another device, user or root"),
        (BOB.entry(BOB.user, ALICE.root), "of another device, user or root"),
        (dataclasses.replace(MALLORY.entry(ALICE.user, ALICE.root), device=BOB.device), "of another device"),
        (dataclasses.replace(BOB.entry(ALICE.user, ALICE.root), sealing_key=bytes(32)), "of another device"),
        (dataclasses.replace(BOB.entry(), membership=b"x"), "without its membership"),
        (dataclasses.replace(BOB.entry(), membership=forged_membership()), "without its membership"),
        (dataclasses.replace(BOB.entry(), membership=signed_example("cancel")[0]), "without its membership"),
        (BOB.entry(ALICE.user, ALICE.root, standing="left"), "that has left"),
    ):
        with pytest.raises(NotAMember, match=message) as refused:
            signing.open_statement(device_set(ALICE.entry(), entry))
        assert refused.value.code == 403
    with pytest.raises(NotAMember, match="lists a device twice"):
        signing.open_statement(device_set(ALICE.entry(), ALICE.entry()))


def forged_membership() -> bytes:
    """What Bob's device would have to sign, signed by Mallory's key."""
    genuine = cose.parse(BOB.membership(ALICE.user, ALICE.root))
    return cose.sign(genuine.payload, key=SigningKey(MALLORY.device_seed), kid=genuine.kid, typ=genuine.typ)


def test_a_membership_that_only_a_later_version_reads_says_so() -> None:
    raw = BOB.membership(ALICE.user, ALICE.root)
    newer = resign(raw, content_of(raw) | {100: 1}, BOB.device_seed)
    with pytest.raises(NotUnderstood):
        signing.open_statement(device_set(dataclasses.replace(BOB.entry(), membership=newer)))
    harmless = resign(raw, content_of(raw) | {200: 1}, BOB.device_seed)
    entry = dataclasses.replace(BOB.entry(ALICE.user, ALICE.root), membership=harmless)
    assert signing.open_statement(device_set(entry)).statement.devices == (entry,)
    assert signing.open_as(s.Membership, harmless)[0].counter == CREATED
