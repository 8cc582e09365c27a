"""The presence box: who can open it, what it shows to others, and that nobody can pass off another's or an old one."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import sodium_pad
from nacl.public import PrivateKey, SealedBox
from nacl.secret import SecretBox
from nacl.signing import SigningKey

from peer.broker import presence
from peer.broker.presence import open_presence, seal_presence
from peer.mesh import peer_record
from peer.mesh.peer_record import Announcement
from peer.protocol import codec, names
from peer.protocol.cose import BadSignature
from peer.protocol.errors import DispatchError, Forbidden, Invalid, TooLarge

SEED = bytes(range(32))
DEVICE = names.peer_id_text(names.peer_id_of(bytes(SigningKey(SEED).verify_key)))
ADDRESSES = ("/ip4/192.0.2.1/tcp/4001", "/ip6/2001:db8::1/tcp/4001")
KEYS = [PrivateKey(bytes([n]) * 32) for n in range(1, 20)]


def parts(box: bytes) -> Any:
    """Return the map inside a box."""
    return codec.decode(box)


def public(*keys: PrivateKey) -> list[bytes]:
    return [bytes(key.public_key) for key in keys]


def sealed(*keys: PrivateKey, seq: int = 7, addresses: tuple[str, ...] = ADDRESSES, seed: bytes = SEED) -> bytes:
    return seal_presence(seed=seed, addresses=addresses, seq=seq, recipients=public(*keys))


def opened(box: bytes, key: PrivateKey, device: str = DEVICE, seq: int = 7) -> Announcement:
    return open_presence(box, sealing_key=bytes(key), device=device, seq=seq)


def rebuilt(envelope: bytes, key: PrivateKey) -> bytes:
    """A box around any bytes, sealed as ours are."""
    content_key = os.urandom(32)
    keys = [bytes(SealedBox(key.public_key).encrypt(content_key))]
    padded = sodium_pad(envelope, presence.RECORD_STEP)
    return codec.encode({1: keys, 2: bytes(SecretBox(content_key).encrypt(padded))})


def test_every_recipient_reads_it_and_nobody_else() -> None:
    box = sealed(*KEYS[:3])
    for key in KEYS[:3]:
        assert opened(box, key) == Announcement(DEVICE, 7, ADDRESSES)
    with pytest.raises(Forbidden):
        opened(box, KEYS[3])
    for address in ADDRESSES:
        assert address.split("/")[2].encode() not in box
    assert names.peer_id_bytes(DEVICE)[-32:] not in box


@pytest.mark.parametrize(("recipients", "shown"), [(0, 8), (1, 8), (8, 8), (9, 16), (19, 24)])
def test_the_number_of_recipients_is_padded(recipients: int, shown: int) -> None:
    keys = parts(sealed(*KEYS[:recipients]))[1]
    assert len(keys) == shown and {len(key) for key in keys} == {80} and len({bytes(key) for key in keys}) == shown


def test_the_order_of_recipients_is_not_that_of_the_list() -> None:
    places = set()
    for _ in range(40):
        keys = parts(sealed(*KEYS[:8]))[1]
        places.add(next(n for n, key in enumerate(keys) if _opens(KEYS[0], key)))
    assert len(places) > 3


def _opens(key: PrivateKey, box: bytes) -> bool:
    try:
        SealedBox(key).decrypt(box)
    except Exception:
        return False
    return True


def test_its_size_does_not_tell_how_many_addresses() -> None:
    few, many = sealed(KEYS[0], addresses=()), sealed(KEYS[0], addresses=ADDRESSES * 4)
    assert len(few) == len(many)


def test_the_p2p_part_of_an_address_is_dropped() -> None:
    box = sealed(KEYS[0], addresses=(f"{ADDRESSES[0]}/p2p/{DEVICE}",))
    assert opened(box, KEYS[0]).addresses == ADDRESSES[:1]


def test_another_device_or_an_older_box_is_not_taken_for_it() -> None:
    box = sealed(KEYS[0])
    other = names.peer_id_text(names.peer_id_of(bytes(SigningKey(bytes(32)).verify_key)))
    for device, seq in ((other, 7), (DEVICE, 6), (DEVICE, 8)):
        with pytest.raises(BadSignature):
            opened(box, KEYS[0], device=device, seq=seq)


def test_a_record_that_names_another_device_than_its_signer_is_refused() -> None:
    """A contact holds the content key and could make a box of its own: the record inside must be the device's."""
    from libp2p.crypto.ed25519 import Ed25519PrivateKey
    from libp2p.peer.envelope import seal_record
    from libp2p.peer.id import ID
    from libp2p.peer.peer_record import PeerRecord

    victim = ID(names.peer_id_bytes(DEVICE))
    mallory = Ed25519PrivateKey.from_bytes(bytes(32))
    envelope = seal_record(PeerRecord(victim, [], 7), mallory).marshal_envelope()
    with pytest.raises(BadSignature, match="a different device from the one that signed it"):
        opened(rebuilt(envelope, KEYS[0]), KEYS[0])


def test_any_altered_byte_of_the_record_is_refused() -> None:
    envelope = peer_record.sign(SEED, ADDRESSES, 7)
    assert opened(rebuilt(envelope, KEYS[0]), KEYS[0]).addresses == ADDRESSES
    for position in range(len(envelope)):
        altered = bytearray(envelope)
        altered[position] ^= 1
        with pytest.raises(DispatchError):
            opened(rebuilt(bytes(altered), KEYS[0]), KEYS[0])


def test_any_altered_byte_of_the_box_is_refused() -> None:
    box = sealed(KEYS[0])
    content = parts(box)
    mine = next(n for n, key in enumerate(content[1]) if _opens(KEYS[0], key))
    refused = 0
    for position in range(0, len(box), 3):
        altered = bytearray(box)
        altered[position] ^= 0x10
        try:
            assert opened(bytes(altered), KEYS[0]).addresses == ADDRESSES  # another recipient's key was hit
        except DispatchError:
            refused += 1
    assert refused >= (len(box) - 8 * 82) // 3 and mine < 8


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_as_a_box_and_as_a_record(data: bytes) -> None:
    for box in (data, rebuilt(data, KEYS[0])):
        with pytest.raises(DispatchError):
            opened(box, KEYS[0])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(0, 100) | st.binary(max_size=90) | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers(0, 3), inner, max_size=4),
    )
)
def test_any_cbor_is_refused(value: object) -> None:
    with pytest.raises(DispatchError):
        opened(codec.encode(value), KEYS[0])


def test_bounds() -> None:
    with pytest.raises(TooLarge):
        seal_presence(seed=SEED, addresses=(), seq=1, recipients=[bytes(32)] * 1025)
    with pytest.raises(TooLarge):
        seal_presence(seed=SEED, addresses=ADDRESSES * 17, seq=1, recipients=[])
    with pytest.raises(TooLarge):
        opened(bytes(presence.MAX_BOX + 1), KEYS[0])
    with pytest.raises(Invalid):
        seal_presence(seed=SEED, addresses=(), seq=1, recipients=[b"short"])
    for address in ("", "x", "/ip4/999.1.1.1/tcp/1", "/ip4/1.2.3.4/tcp/99999"):
        with pytest.raises(Invalid, match="multiaddr"):
            seal_presence(seed=SEED, addresses=(address,), seq=1, recipients=[])


def test_the_largest_box_fits() -> None:
    many = public(*(PrivateKey.generate() for _ in range(presence.MAX_RECIPIENTS - 1))) + public(KEYS[0])
    box = seal_presence(seed=SEED, addresses=ADDRESSES * 16, seq=7, recipients=many)
    assert len(box) <= presence.MAX_BOX
    assert opened(box, KEYS[0]).addresses == ADDRESSES * 16
