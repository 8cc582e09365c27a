"""Fingerprints and safety numbers: fixed vectors, an independent making, comparison by what people type."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.protocol.errors import Invalid
from peer.trust import fingerprints
from peer.trust.wordlist import WORDS
from tests.conftest import few

# Public keys of RFC 8032 section 7.1, tests 1 and 2.
ROOT_1 = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
ROOT_2 = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")


def independent(root: bytes, groups: int) -> list[str]:
    state = b"\x00\x00" + root + b"dispatch root key"
    for _ in range(5200):
        hasher = hashlib.sha512()
        hasher.update(state)
        hasher.update(root)
        state = hasher.digest()
    chunks = [state[i * 5 : i * 5 + 5] for i in range(groups)]
    return [str(sum(b << (8 * (4 - i)) for i, b in enumerate(chunk)) % 100000).zfill(5) for chunk in chunks]


def test_fixed_vectors() -> None:
    one = fingerprints.fingerprint(ROOT_1)
    assert one.digits == "66979 17152 57562 91348 61340 93646 95753 05911"
    assert one.words == "camera yacht angel circus trumpet guitar teapot august anchor jungle gazelle thistle"
    assert fingerprints.safety_number(ROOT_1, ROOT_2) == (
        "55995 28059 12669 32563 34182 02400 66979 17152 57562 91348 61340 93646"
    )


@few(15)
@given(st.binary(min_size=32, max_size=32))
def test_an_independent_making_gives_the_same_digits(root: bytes) -> None:
    assert str(fingerprints.fingerprint(root)).split() == independent(root, 8)


@few(15)
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_a_safety_number_is_the_same_from_both_ends(a: bytes, b: bytes) -> None:
    number = fingerprints.safety_number(a, b)
    assert number == fingerprints.safety_number(b, a)
    assert sorted([number[:35], number[36:]]) == sorted(" ".join(independent(root, 6)) for root in (a, b))
    assert len(number.replace(" ", "")) == 60


def test_what_people_type_is_compared_whole() -> None:
    one = fingerprints.fingerprint(ROOT_1)
    for typed in (one.digits, one.digits.replace(" ", ""), one.digits.replace(" ", "-"), f" {one.digits}\n"):
        assert fingerprints.matches(ROOT_1, typed)
        assert not fingerprints.matches(ROOT_2, typed)
    for typed in (one.words, one.words.upper(), one.words.replace(" ", ", ")):
        assert fingerprints.matches(ROOT_1, typed)
        assert not fingerprints.matches(ROOT_2, typed)
    for part in (
        "",
        one.digits[:-1],
        one.digits + "0",
        one.words.rsplit(" ", 1)[0],
        "٣" * 40,
        "acorn " * 13,
        "qqq " + one.words.partition(" ")[2],
    ):
        with pytest.raises(Invalid):
            fingerprints.matches(ROOT_1, part)


def test_only_whole_keys_have_one() -> None:
    for wrong in (b"", ROOT_1[:-1], ROOT_1 + b"x"):
        with pytest.raises(Invalid):
            fingerprints.fingerprint(wrong)
        with pytest.raises(Invalid):
            fingerprints.safety_number(ROOT_1, wrong)


def distance(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row[0] = row[:], i
        for j, y in enumerate(b, 1):
            row[j] = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (x != y))
    return row[-1]


def test_the_words_are_told_apart() -> None:
    assert len(WORDS) == 256 and list(WORDS) == sorted(set(WORDS))
    assert len({word[:3] for word in WORDS}) == 256
    assert all(word.isascii() and word.islower() and 4 <= len(word) <= 8 for word in WORDS)
    assert all(distance(a, b) >= 3 for n, a in enumerate(WORDS) for b in WORDS[:n])
    # The order is part of the format: another one would show other words for the same key.
    assert (
        hashlib.sha256(" ".join(WORDS).encode()).hexdigest()
        == "7abad3d24fd887498b34289533b629f49e8ca22912299c9ab557d7b7a10e8b8c"
    )


@pytest.mark.long
def test_fingerprints_that_were_computed_are_forgotten_when_there_are_many() -> None:
    most = fingerprints.fingerprint.cache_parameters()["maxsize"]
    assert most is not None
    for number in range(most + 10):
        fingerprints.fingerprint(number.to_bytes(32, "big"))
    assert fingerprints.fingerprint.cache_info().currsize == most
