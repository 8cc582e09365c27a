"""The proof that a connection is a device's, and a broker's token for it."""

from __future__ import annotations

import pytest
from nacl.signing import SigningKey

from peer.protocol import codec, cose, names
from peer.protocol.codec import Malformed
from peer.protocol.cose import BadSignature
from peer.protocol.errors import Forbidden
from peer.protocol.relays import admission

SEED, OTHER = bytes([1]) * 32, bytes([2]) * 32
DEVICE = names.peer_id_text(names.peer_id_of(cose.public_key(SEED)))
THEIRS = names.peer_id_text(names.peer_id_of(cose.public_key(OTHER)))
BROKER = bytes([3]) * 32
BROKERS = frozenset([cose.public_key(BROKER)])
NONCE, ORIGIN = bytes(32), "https://relay.example"
NOW = 1_800_000_000_000
USER = bytes(16)


def test_a_proof_is_good_for_its_device_nonce_and_relay_alone() -> None:
    signature = admission.sign_proof(SEED, nonce=NONCE, origin=ORIGIN)
    admission.check_proof(DEVICE, signature, nonce=NONCE, origin=ORIGIN)
    for device, nonce, origin in (
        (THEIRS, NONCE, ORIGIN),
        (DEVICE, bytes(31) + b"1", ORIGIN),
        (DEVICE, NONCE, "https://other.example"),
    ):
        with pytest.raises(BadSignature):
            admission.check_proof(device, signature, nonce=nonce, origin=origin)


def token(expires: int = NOW + 1000, *, seed: bytes = BROKER, device: str = DEVICE) -> bytes:
    return admission.sign_token(seed, device=device, expires=expires, user=USER)


def opened(raw: bytes, now: int = NOW) -> admission.RelayToken:
    return admission.open_token(raw, brokers=BROKERS, device=DEVICE, now=now)


def test_a_token_says_whose_it_is_and_until_when() -> None:
    assert opened(token()) == admission.RelayToken(DEVICE, NOW + 1000, USER, cose.public_key(BROKER))
    opened(token(), NOW + admission.CLOCKS_DIFFER_MS)


def test_another_brokers_another_devices_and_an_old_token_are_refused() -> None:
    for raw, now in (
        (token(seed=OTHER), NOW),
        (token(device=THEIRS), NOW),
        (token(), NOW + 1001 + admission.CLOCKS_DIFFER_MS),
    ):
        with pytest.raises(Forbidden):
            opened(raw, now)


def test_an_altered_token_is_refused() -> None:
    raw = token()
    for at in range(len(raw)):
        with pytest.raises((BadSignature, Malformed, Forbidden)):
            opened(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])


@pytest.mark.parametrize(
    "payload",
    [
        codec.encode([]),
        codec.encode({1: names.peer_id_bytes(DEVICE), 2: NOW}),
        codec.encode({1: names.peer_id_bytes(DEVICE), 2: "later", 3: USER}),
        codec.encode({1: names.peer_id_bytes(DEVICE), 2: NOW, 3: b""}),
        codec.encode({1: names.peer_id_bytes(DEVICE), 2: 2**60, 3: USER}),
        b"",
    ],
)
def test_a_token_of_another_form_is_refused(payload: bytes) -> None:
    raw = cose.sign(payload, key=SigningKey(BROKER), kid=cose.public_key(BROKER), typ=admission.TOKEN_TYPE)
    with pytest.raises(Malformed):
        opened(raw)


def test_a_statement_is_no_token() -> None:
    payload = codec.encode({1: names.peer_id_bytes(DEVICE), 2: NOW, 3: USER})
    raw = cose.sign(
        payload, key=SigningKey(BROKER), kid=cose.public_key(BROKER), typ="application/dispatch-result+cbor"
    )
    with pytest.raises(Malformed):
        opened(raw)


def test_a_pseudonym_depends_on_broker_and_user() -> None:
    found = {admission.pseudonym(secret, user) for secret in (b"a" * 32, b"b" * 32) for user in ("x@y.z", "y@y.z")}
    assert len(found) == 4 and all(len(each) == admission.PSEUDONYM_BYTES for each in found)
