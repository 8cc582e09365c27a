"""The CBOR of statements: published vectors in, everything outside the data model or its one encoding out."""

from __future__ import annotations

import datetime
import decimal
import tracemalloc
from typing import Any

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from peer.protocol import codec
from peer.protocol.codec import (
    BadText,
    DuplicateKey,
    Malformed,
    NotDeterministic,
    OutsideModel,
    TooDeep,
    TrailingBytes,
    Truncated,
)
from peer.protocol.errors import TooLarge
from tests.protocol.strategies import unsigned, values

TO_25 = list(range(1, 26))

# RFC 8949 Appendix A, in its order: those of the data model.
PUBLISHED: list[tuple[str, Any]] = [
    ("00", 0),
    ("01", 1),
    ("0a", 10),
    ("17", 23),
    ("1818", 24),
    ("1819", 25),
    ("1864", 100),
    ("1903e8", 1000),
    ("1a000f4240", 1_000_000),
    ("1b000000e8d4a51000", 1_000_000_000_000),
    ("1bffffffffffffffff", (1 << 64) - 1),
    ("3bffffffffffffffff", -(1 << 64)),
    ("20", -1),
    ("29", -10),
    ("3863", -100),
    ("3903e7", -1000),
    ("f4", False),
    ("f5", True),
    ("f6", None),
    ("40", b""),
    ("4401020304", bytes((1, 2, 3, 4))),
    ("60", ""),
    ("6161", "a"),
    ("6449455446", "IETF"),
    ("62225c", '"\\'),
    ("62c3bc", "ü"),
    ("63e6b0b4", "水"),
    ("64f0908591", "\U00010151"),
    ("80", []),
    ("83010203", [1, 2, 3]),
    ("8301820203820405", [1, [2, 3], [4, 5]]),
    ("98190102030405060708090a0b0c0d0e0f101112131415161718181819", TO_25),
    ("a0", {}),
    ("a201020304", {1: 2, 3: 4}),
    ("a26161016162820203", {"a": 1, "b": [2, 3]}),
    ("826161a161626163", ["a", {"b": "c"}]),
    ("a56161614161626142616361436164614461656145", {"a": "A", "b": "B", "c": "C", "d": "D", "e": "E"}),
]

FLOAT = "a float is not part of the data model"
TAG = "a tag is not part of the data model"
SIMPLE = "a simple value other than false, true and null is not part of the data model"
UNDEFINED = "undefined is not part of the data model"
INDEFINITE = "a length is indefinite"
LONG = "an integer or a length takes more bytes than it needs"
RESERVED = "that is not CBOR: a head with reserved bits"

# RFC 8949 Appendix A: those that are not, and why.
PUBLISHED_REFUSED: list[tuple[str, type[Malformed], str]] = [
    ("c249010000000000000000", OutsideModel, TAG),  # 2^64 as a bignum
    ("c349010000000000000000", OutsideModel, TAG),
    *((f"f9{half}", OutsideModel, FLOAT) for half in ("0000", "8000", "3c00", "3e00", "7bff", "0001", "0400", "c400")),
    *((f"f9{half}", OutsideModel, FLOAT) for half in ("7c00", "7e00", "fc00")),
    *((f"fa{single}", OutsideModel, FLOAT) for single in ("47c35000", "7f7fffff", "7f800000", "7fc00000", "ff800000")),
    ("fb3ff199999999999a", OutsideModel, FLOAT),
    ("fb7e37e43c8800759c", OutsideModel, FLOAT),
    ("fbc010666666666666", OutsideModel, FLOAT),
    ("fb7ff0000000000000", OutsideModel, FLOAT),
    ("fb7ff8000000000000", OutsideModel, FLOAT),
    ("fbfff0000000000000", OutsideModel, FLOAT),
    ("f7", OutsideModel, UNDEFINED),
    ("f0", OutsideModel, SIMPLE),
    ("f8ff", OutsideModel, SIMPLE),
    ("c074323031332d30332d32315432303a30343a30305a", OutsideModel, TAG),
    ("c11a514b67b0", OutsideModel, TAG),
    ("c1fb41d452d9ec200000", OutsideModel, TAG),
    ("d74401020304", OutsideModel, TAG),
    ("d818456449455446", OutsideModel, TAG),
    ("d82076687474703a2f2f7777772e6578616d706c652e636f6d", OutsideModel, TAG),
    ("5f42010243030405ff", NotDeterministic, INDEFINITE),
    ("7f657374726561646d696e67ff", NotDeterministic, INDEFINITE),
    ("9fff", NotDeterministic, INDEFINITE),
    ("9f018202039f0405ffff", NotDeterministic, INDEFINITE),
    ("9f01820203820405ff", NotDeterministic, INDEFINITE),
    ("83018202039f0405ff", NotDeterministic, INDEFINITE),
    ("83019f0203ff820405", NotDeterministic, INDEFINITE),
    ("9f0102030405060708090a0b0c0d0e0f101112131415161718181819ff", NotDeterministic, INDEFINITE),
    ("bf61610161629f0203ffff", NotDeterministic, INDEFINITE),
    ("826161bf61626163ff", NotDeterministic, INDEFINITE),
    ("bf6346756ef563416d7421ff", NotDeterministic, INDEFINITE),
]

# One example at least of every class of malformed bytes.
MALFORMED: list[tuple[str, type[Malformed], str]] = [
    ("", Truncated, "the bytes end before the value does"),
    ("8201", Truncated, "an array or map claims more items than there are bytes"),
    ("a2010203", Truncated, "an array or map claims more items than there are bytes"),
    ("a1", Truncated, "an array or map claims more items than there are bytes"),
    ("8281", Truncated, "an array or map claims more items than there are bytes"),
    ("82820100", Truncated, "the bytes end before the value does"),
    ("9bffffffffffffffff", Truncated, "an array or map claims more items than there are bytes"),
    ("bbffffffffffffffff", Truncated, "an array or map claims more items than there are bytes"),
    ("5bffffffffffffffff", Truncated, "a string claims more bytes than there are"),
    ("7bffffffffffffffff", Truncated, "a string claims more bytes than there are"),
    ("430102", Truncated, "a string claims more bytes than there are"),
    ("18", Truncated, "the bytes end inside the head of a value"),
    ("1b00000000000000", Truncated, "the bytes end inside the head of a value"),
    ("0000", TrailingBytes, "1 bytes follow the end of the value"),
    ("a0f6f6", TrailingBytes, "2 bytes follow the end of the value"),
    ("1800", NotDeterministic, LONG),
    ("1817", NotDeterministic, LONG),
    ("1900ff", NotDeterministic, LONG),
    ("1a0000ffff", NotDeterministic, LONG),
    ("1b00000000ffffffff", NotDeterministic, LONG),
    ("3817", NotDeterministic, LONG),
    ("580101", NotDeterministic, LONG),
    ("780161", NotDeterministic, LONG),
    ("980101", NotDeterministic, LONG),
    ("b8010101", NotDeterministic, LONG),
    ("a21818001700", NotDeterministic, "map keys are not in bytewise order"),
    ("a202600160", NotDeterministic, "map keys are not in bytewise order"),
    ("a2616200616100", NotDeterministic, "map keys are not in bytewise order"),
    ("a262616100616200", NotDeterministic, "map keys are not in bytewise order"),
    ("a201000100", DuplicateKey, "a map names a key twice"),
    ("a2616100616101", DuplicateKey, "a map names a key twice"),
    ("a12000", OutsideModel, "a map key is neither an unsigned integer nor text"),
    ("a1f400", OutsideModel, "a map key is neither an unsigned integer nor text"),
    ("a1f600", OutsideModel, "a map key is neither an unsigned integer nor text"),
    ("a1410000", OutsideModel, "a map key is neither an unsigned integer nor text"),
    ("a18000", OutsideModel, "a map key is neither an unsigned integer nor text"),
    ("a200006000", OutsideModel, "a map mixes integer keys and text keys"),
    ("a1f9000000", OutsideModel, FLOAT),
    ("f820", OutsideModel, SIMPLE),
    ("d28443a10126a0f640", OutsideModel, TAG),
    ("d82301", OutsideModel, TAG),
    ("d81c00", OutsideModel, TAG),
    ("61ff", BadText, "a text string is not UTF-8"),
    ("63eda080", BadText, "a text string is not UTF-8"),  # a surrogate
    ("62c080", BadText, "a text string is not UTF-8"),  # an overlong NUL
    ("a161ff00", BadText, "a text string is not UTF-8"),
    ("ff", Malformed, "that is not CBOR: a break outside of an indefinite length"),
    *((f"{head:02x}", Malformed, RESERVED) for major in range(8) for head in range(major * 32 + 28, major * 32 + 31)),
    *((f"{head:02x}", Malformed, RESERVED) for head in (0x1F, 0x3F, 0xDF)),
    ("81" * 17 + "00", TooDeep, "nested deeper than 16"),
    ("a100" * 17 + "00", TooDeep, "nested deeper than 16"),
    ("81" * 500_000 + "00", TooDeep, "nested deeper than 16"),
]


@pytest.mark.parametrize(("encoded", "value"), PUBLISHED, ids=[row[0][:20] for row in PUBLISHED])
def test_published_vectors_of_the_data_model(encoded: str, value: Any) -> None:
    decoded = codec.decode(bytes.fromhex(encoded))
    assert decoded == value
    assert type(decoded) is type(value)
    assert codec.encode(value).hex() == encoded


@pytest.mark.parametrize(
    ("encoded", "kind", "message"), PUBLISHED_REFUSED + MALFORMED, ids=lambda part: str(part)[:24] if part else "none"
)
def test_anything_else_is_refused_by_its_own_error(encoded: str, kind: type[Malformed], message: str) -> None:
    with pytest.raises(Malformed) as caught:
        codec.decode(bytes.fromhex(encoded))
    assert (type(caught.value), caught.value.message) == (kind, message)
    assert caught.value.code == 422
    assert caught.value.fix


def test_depth_16_is_read_and_written() -> None:
    value = codec.decode(bytes.fromhex("81" * 15 + "80"))
    assert codec.encode(value).hex() == "81" * 15 + "80"
    assert codec.encode(codec.decode(bytes.fromhex("81" * 16 + "00"))).hex() == "81" * 16 + "00"


@given(values)
def test_round_trip(value: Any) -> None:
    data = codec.encode(value)
    decoded = codec.decode(data)
    assert decoded == value
    assert codec.encode(decoded) == data


@given(st.binary(max_size=60))
@example(bytes.fromhex("a2f400f500"))
@example(bytes.fromhex("c249010000000000000000"))
def test_arbitrary_bytes_are_refused_or_are_the_one_encoding_of_their_value(data: bytes) -> None:
    try:
        value = codec.decode(data)
    except Malformed:
        return
    assert codec.encode(value) == data
    assert codec.decode(codec.encode(value)) == value


@given(values, st.data())
def test_a_changed_encoding_is_refused_or_is_another_value(value: Any, data: st.DataObject) -> None:
    encoded = bytearray(codec.encode(value))
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] ^= data.draw(st.integers(1, 255))
    try:
        other = codec.decode(bytes(encoded))
    except Malformed:
        return
    assert codec.encode(other) == bytes(encoded) != codec.encode(value)


def _bytewise(pairs: dict[Any, int]) -> bytes:
    """RFC 8949 4.2.1: keys in the bytewise order of their encodings."""
    rows = sorted((codec.encode(key), codec.encode(value)) for key, value in pairs.items())
    return codec.encode(len(rows)).translate(_TO_MAP_HEAD) + b"".join(key + value for key, value in rows)


# The head of an unsigned integer below 24 turned into the head of a map of that many pairs.
_TO_MAP_HEAD = bytes(byte | 0xA0 if byte < 24 else byte for byte in range(256))

_keys_of_one_kind = st.one_of(
    st.dictionaries(unsigned, st.integers(0, 9), max_size=20),
    st.dictionaries(st.text(max_size=300), st.integers(0, 9), max_size=20),
)


@given(_keys_of_one_kind)
@example({23: 0, 24: 0, 255: 0, 256: 0, 65535: 0, 65536: 0, (1 << 32) - 1: 0, 1 << 32: 0, (1 << 64) - 1: 0})
@example({"": 0, "b": 0, "aa": 0, "a" * 23: 0, "a" * 24: 0, "b" * 23: 0, "z" * 255: 0, "a" * 256: 0})
@example({"z": 0, "é": 0, "zz": 0})
def test_length_first_order_is_bytewise_order_for_keys_of_one_kind(pairs: dict[Any, int]) -> None:
    """cbor2 sorts by length first (RFC 7049); what it writes for us is in RFC 8949's order all the same."""
    assert codec.encode(pairs) == _bytewise(pairs)


def test_for_keys_of_two_kinds_the_two_orders_differ() -> None:
    """Why they may not mix: 24 encodes to two bytes beginning 18, the empty text to one byte 60."""
    assert cbor2.dumps({24: 0, "": 0}, canonical=True).hex() == "a26000181800"
    assert sorted((24, ""), key=codec.encode) == [24, ""]
    with pytest.raises(OutsideModel, match="mixes"):
        codec.encode({24: 0, "": 0})


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


def _deep(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1.0, OutsideModel),
        (float("nan"), OutsideModel),
        (1 << 64, OutsideModel),
        (-(1 << 64) - 1, OutsideModel),
        ({1 << 64: 0}, OutsideModel),
        ({-1: 0}, OutsideModel),
        ({True: 0}, OutsideModel),
        ({b"": 0}, OutsideModel),
        ({None: 0}, OutsideModel),
        ({(): 0}, OutsideModel),
        ({1: 0, "a": 0}, OutsideModel),
        ({1, 2}, OutsideModel),
        (bytearray(b"x"), OutsideModel),
        (cbor2.undefined, OutsideModel),
        (cbor2.CBORTag(18, []), OutsideModel),
        (datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), OutsideModel),
        (decimal.Decimal(1), OutsideModel),
        ("\ud800", BadText),
        ({"\udfff": 0}, BadText),
        (CYCLE, TooDeep),
        (_deep(18), TooDeep),
        (_deep(200_000), TooDeep),
    ],
    ids=lambda part: part.__name__ if isinstance(part, type) else type(part).__name__,
)
def test_what_the_data_model_lacks_is_not_written(value: object, kind: type[Malformed]) -> None:
    with pytest.raises(kind):
        codec.encode(value)


def test_a_tuple_is_written_as_an_array() -> None:
    assert codec.encode((1, (2, 3))).hex() == "8201820203"


def test_too_many_bytes_are_refused_before_they_are_read() -> None:
    with pytest.raises(TooLarge, match="1048577 bytes of CBOR, at most 1048576 are read"):
        codec.decode(b"\xff" * (codec.MAX_BYTES + 1))
    with pytest.raises(TooLarge, match="3 bytes of CBOR, at most 2 are read"):
        codec.decode(b"\x42ab", max_bytes=2)
    assert codec.decode(b"\x42ab", max_bytes=3) == b"ab"
    whole = codec.MAX_BYTES - 5
    assert len(codec.encode(bytes(whole))) == codec.MAX_BYTES
    with pytest.raises(TooLarge, match="1048577 bytes of CBOR, at most 1048576 travel"):
        codec.encode(bytes(whole + 1))
    assert len(codec.encode(bytes(whole + 1), max_bytes=codec.MAX_BYTES + 1)) == codec.MAX_BYTES + 1


def test_too_many_items_are_refused_both_ways() -> None:
    fits = [0] * (codec.MAX_ITEMS - 1)
    assert codec.decode(codec.encode(fits)) == fits
    pairs = {key: [0] for key in range((codec.MAX_ITEMS - 1) // 3)}
    assert codec.decode(codec.encode(pairs)) == pairs
    for more in ([*fits, 0], [fits], {**pairs, 1 << 20: []}):
        with pytest.raises(TooLarge, match="more than 16384 items"):
            codec.encode(more)
    with pytest.raises(TooLarge, match="more than 16384 items"):
        codec.decode(b"\x9a\x00\x0f\x00\x00" + bytes(0x0F0000))


@pytest.mark.parametrize("head", ["5a7fffffff", "7a7fffffff", "9a7fffffff", "ba7fffffff", "82009b0000ffffffffffff"])
def test_a_claimed_length_allocates_nothing(head: str) -> None:
    data = bytes.fromhex(head) + bytes(1000)
    tracemalloc.start()
    try:
        with pytest.raises(Truncated):
            codec.decode(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100_000


def test_foreign_tags_are_refused_before_anything_is_built_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """cbor2 alone compiles a regular expression for tag 35 and would reach for the sender's decimal exponents."""

    def never(*_arguments: object, **_options: object) -> None:
        raise AssertionError("cbor2 was asked to build an object")

    monkeypatch.setattr(cbor2, "loads", never)
    for encoded in ("d8236161", "c4821b7fffffffffffffff01", "c5821a3fffffff01", "d81e820102", "d901028100"):
        with pytest.raises(OutsideModel, match=r"^a tag is not part of the data model$"):
            codec.decode(bytes.fromhex(encoded))
