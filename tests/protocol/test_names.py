"""Names: one spelling of every user, device and id."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.protocol import names
from peer.protocol.errors import Invalid
from tests.protocol.examples import ALICE, an_id
from tests.protocol.strategies import user_ids


@pytest.mark.parametrize(
    ("typed", "user"),
    [
        ("alice@example.org", "alice@example.org"),
        (" Alice@Example.ORG\n", "alice@example.org"),
        ("a.b+c_d-e@x", "a.b+c_d-e@x"),
        ("!#$%&'*+/=?^_`{|}~-@x-y.z", "!#$%&'*+/=?^_`{|}~-@x-y.z"),
    ],
)
def test_user_ids(typed: str, user: str) -> None:
    assert names.user_id(typed) == user


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "alice",
        "@example.org",
        "alice@",
        "alice@@example.org",
        "al ice@example.org",
        ".alice@example.org",
        "alice.@example.org",
        "al..ice@example.org",
        "alice@example..org",
        "alice@.example.org",
        "alice@example.org.",
        "alice@-example.org",
        "alice@example-.org",
        "alice@exam_ple.org",
        '"alice"@example.org',
        "alice@[127.0.0.1]",
        "alice@example.org\n.evil.org",
        "alice@example.org\x00",
        "\x1b[2Jalice@example.org",
        "alice@example.org\x1f",
        "аlice@example.org",  # a Cyrillic a
        "\u212aelvin@example.org",  # the Kelvin sign, which lower() makes a plain k
        "alice\u202e@example.org",
        "alice@ex\u00admple.org",
        "\ud800@example.org",
        f"{'a' * 65}@example.org",
        f"a@{'b' * 64}.org",
        "a@" + ".".join(["b" * 63] * 4),
    ],
)
def test_what_is_not_a_user_id(typed: str) -> None:
    with pytest.raises(Invalid) as caught:
        names.user_id(typed)
    assert caught.value.message.isprintable()
    assert caught.value.fix.isascii(), "what is to be typed cannot be mistaken for other letters"


@given(user_ids)
def test_a_user_id_is_its_own_name(user: str) -> None:
    assert names.user_id(user) == user
    assert names.user_id(f"\t{user.upper()} ") == user


def test_a_published_peer_id() -> None:
    """libp2p specs, peer-ids.md: the identity multihash of an Ed25519 key's protobuf, in base58btc."""
    text = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
    assert names.peer_id_text(names.peer_id_bytes(text)) == text
    assert names.peer_id_of(names.key_of_peer_id(names.peer_id_bytes(text))) == names.peer_id_bytes(text)


@given(st.binary(min_size=32, max_size=32))
def test_peer_ids_round_trip(key: bytes) -> None:
    text = names.peer_id_text(names.peer_id_of(key))
    assert text.startswith("12D3Koo")
    assert names.key_of_peer_id(names.peer_id_bytes(text)) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "12D3KooW",
        ALICE.device[:-1],
        ALICE.device + "\n",
        ALICE.device + " ",
        " " + ALICE.device,
        "1" + ALICE.device,
        ALICE.device[:-1] + "0",
        ALICE.device[:-1] + "é",
        ALICE.device.swapcase(),
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",  # of an RSA key
        ALICE.device * 1000,
    ],
)
def test_what_is_not_a_peer_id(text: str) -> None:
    with pytest.raises(Invalid):
        names.peer_id_bytes(text)


@given(st.text(min_size=50, max_size=54))
def test_no_other_text_names_a_device(text: str) -> None:
    with pytest.raises(Invalid):
        names.peer_id_bytes(text)


def test_keys_of_another_length_have_no_peer_id() -> None:
    for length in (0, 31, 33):
        with pytest.raises(Invalid):
            names.peer_id_of(bytes(length))
        with pytest.raises(Invalid):
            names.key_of_peer_id(names.PEER_ID_PREFIX + bytes(length))
    with pytest.raises(Invalid):
        names.key_of_peer_id(b"\x12" + names.PEER_ID_PREFIX[1:] + bytes(32))


@given(st.integers(0, (1 << 48) - 1), st.binary(min_size=10, max_size=10))
def test_ids_are_uuid7_and_keep_their_time(unix_ms: int, random: bytes) -> None:
    text = names.uuid7(unix_ms, random)
    assert (uuid.UUID(text).version, uuid.UUID(text).variant) == (7, uuid.RFC_4122)
    assert int(text.replace("-", "")[:12], 16) == unix_ms
    assert names.uuid_text(names.uuid_bytes(text)) == text


def test_a_published_uuid7() -> None:
    """RFC 9562 A.6."""
    random = (0xCC3 << 62 | 0x18C4DC0C0C07398F).to_bytes(10)
    assert names.uuid7(0x017F22E279B0, random) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        an_id(1).upper(),
        an_id(1).replace("-", ""),
        f"{{{an_id(1)}}}",
        f"urn:uuid:{an_id(1)}",
        an_id(1) + "\n",
        an_id(1)[:-1],
    ],
)
def test_what_is_not_an_id(text: str) -> None:
    with pytest.raises(Invalid):
        names.uuid_bytes(text)


def test_ids_of_another_length() -> None:
    for length in (0, 15, 17):
        with pytest.raises(Invalid):
            names.uuid_text(bytes(length))


def test_peer_ids_that_were_read_are_forgotten_when_there_are_many() -> None:
    most = names.peer_id_bytes.cache_parameters()["maxsize"]
    assert most is not None
    for number in range(most + 10):
        raw = names.peer_id_of(number.to_bytes(32))
        assert names.peer_id_bytes(names.peer_id_text(raw)) == raw
    assert names.peer_id_bytes.cache_info().currsize == most
