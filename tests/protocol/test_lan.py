"""Beacons and prefaces on the local network: fixed bytes, whom a mark is for, and what a preface proves."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.protocol import lan
from peer.protocol.errors import Forbidden, Invalid
from peer.protocol.lan import Pair

ALICE, BOB = b"\x00\x24\x08\x01\x12\x20" + bytes([1]) * 32, b"\x00\x24\x08\x01\x12\x20" + bytes([2]) * 32
NONCE, FRESH = bytes(range(16)), bytes(range(16, 32))
PAIR = Pair(bytes(range(32)), ALICE, BOB, NONCE, lan.place("192.168.1.20", 40123))

PAIRS = st.builds(
    Pair,
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=38, max_size=38),
    st.binary(min_size=38, max_size=38),
    st.binary(min_size=16, max_size=16),
    st.builds(lan.place, st.ip_addresses().map(str), st.integers(1, 65_535)),
)
NONCES = st.binary(min_size=16, max_size=16)


def test_the_bytes_are_fixed() -> None:
    """As docs/protocol.md has them; another implementation computes the same."""
    assert PAIR.place.hex() == "9cbbc0a80114"
    assert lan.place("fe80::1", 40123).hex() == "9cbbfe800000000000000000000000000001"
    assert PAIR.mark.hex() == "d9446f1e8db8"
    assert PAIR.hint.hex() == "9a3770d778f37e61"
    assert (
        PAIR.preface(FRESH).hex()
        == "9a3770d778f37e61" + FRESH.hex() + "de6ea33cf194a17b331cffda314c96b8b880f6ae0c414250a20a05cb4d6ea84c"
    )
    assert [mask.hex() for mask in PAIR.masks(FRESH)] == [
        "65f6cb81740231f4e213cff48b6ca0f8c23ec8f6b832531316010947544c94ad",
        "9f042483574bf4654e2c0ee3bae087f277e5a1830d30c5c1400681f1be59510a",
    ]
    assert lan.text(NONCE, [bytes([number]) * 6 for number in range(16)]).hex() == (
        "09747874766572733d31"
        + "126e3d"
        + NONCE.hex()
        + "636d303d"
        + "".join(f"{number:02x}" * 6 for number in range(16))
    )


@given(PAIRS, NONCES)
def test_a_preface_is_taken_from_this_reader_to_this_beacon(pair: Pair, fresh: bytes) -> None:
    preface = pair.preface(fresh)
    assert len(preface) == lan.PREFACE_BYTES and preface.startswith(pair.hint) and pair.check(preface) == fresh


@given(
    PAIRS,
    NONCES,
    st.sampled_from(["key", "announcer", "reader", "nonce", "place"]),
    st.integers(0, 5),
    st.integers(1, 255),
)
def test_a_bit_elsewhere_is_another_mark_hint_preface_and_mask(
    pair: Pair, fresh: bytes, what: str, at: int, change: int
) -> None:
    value = bytearray(getattr(pair, what))
    value[at] ^= change
    other = replace(pair, **{what: bytes(value)})
    assert pair.mark != other.mark and pair.hint != other.hint
    assert not {*pair.masks(fresh)} & {*other.masks(fresh)} and len({*pair.masks(fresh)}) == 2
    with pytest.raises(Forbidden):
        pair.check(other.preface(fresh))
    with pytest.raises(Forbidden):  # also behind the right hint
        pair.check(pair.hint + other.preface(fresh)[lan.HINT_BYTES :])


def test_a_mark_says_who_announces() -> None:
    """Both have one secret; a beacon that is thrown back is not the other one's."""
    assert PAIR.mark != replace(PAIR, announcer=BOB, reader=ALICE).mark


@given(PAIRS, NONCES, st.integers(0, lan.PREFACE_BYTES - 1), st.integers(1, 255))
def test_an_altered_preface_is_refused(pair: Pair, fresh: bytes, at: int, change: int) -> None:
    preface = bytearray(pair.preface(fresh))
    preface[at] ^= change
    for altered in (bytes(preface), pair.preface(fresh)[:at], pair.preface(fresh) + b"\0"):
        with pytest.raises(Forbidden):
            pair.check(altered)


@given(st.lists(st.binary(min_size=6, max_size=6), unique=True, max_size=200), NONCES)
def test_marks_are_padded_to_steps_and_read_back(marks: list[bytes], nonce: bytes) -> None:
    padded = lan.padded(marks)
    assert len(padded) % lan.STEP == 0 and lan.STEP <= len(padded) <= lan.MAX_MARKS
    assert len(padded) - min(len(marks), lan.MAX_MARKS) < lan.STEP or not marks
    kept = set(marks) & set(padded)
    assert len(kept) >= min(len(marks), lan.MAX_MARKS)
    text = lan.text(nonce, padded)
    assert lan.read_text(text) == (nonce, frozenset(padded)) and len(text) <= lan.MAX_TEXT


def test_of_too_many_contacts_each_beacon_marks_others() -> None:
    marks = [number.to_bytes(6, "big") for number in range(1_000)]
    beacons = [set(lan.padded(marks)) for _ in range(50)]
    assert all(len(each) == lan.MAX_MARKS and each <= set(marks) for each in beacons)
    assert len(set.union(*beacons)) > 900


def test_the_order_of_marks_says_nothing() -> None:
    marks = [number.to_bytes(6, "big") for number in range(16)]
    assert len({lan.padded(marks) for _ in range(20)}) > 1
    firsts = {lan.padded(marks[:1]).index(marks[0]) for _ in range(200)}
    assert len(firsts) > 4, "nor does padding come after them"


@given(st.binary(max_size=1_500))
def test_whatever_comes_is_a_beacon_or_none(content: bytes) -> None:
    try:
        nonce, marks = lan.read_text(content)
    except Invalid:
        return
    assert len(nonce) == 16 and marks


def string(content: bytes) -> bytes:
    return bytes([len(content)]) + content


FORM, NONCE_STRING = string(b"txtvers=1"), string(b"n=" + NONCE)
MARKS = string(b"m0=" + bytes(96))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        FORM,
        FORM + NONCE_STRING,
        NONCE_STRING + FORM + MARKS,
        string(b"txtvers=2") + NONCE_STRING + MARKS,
        FORM + string(b"n=" + NONCE[1:]) + MARKS,
        FORM + NONCE_STRING + string(b"m0=" + bytes(95)),
        FORM + NONCE_STRING + MARKS[:-1],
        FORM + NONCE_STRING + MARKS + string(b"x") * 600,
    ],
)
def test_what_is_no_beacon_is_refused(content: bytes) -> None:
    with pytest.raises(Invalid):
        lan.read_text(content)


def test_what_comes_later_and_what_comes_twice_is_ignored() -> None:
    later = FORM + NONCE_STRING + MARKS + string(b"later=1") + string(b"n=" + bytes(16)) + string(b"flag")
    assert lan.read_text(later) == (NONCE, frozenset([bytes(6)]))
