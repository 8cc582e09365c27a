"""A device's addresses as a signed libp2p peer record (libp2p RFC 0003) in its envelope (RFC 0002). Seals nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import multiaddr
from libp2p.crypto.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from libp2p.peer.envelope import consume_envelope, seal_record
from libp2p.peer.id import ID
from libp2p.peer.peer_record import PEER_RECORD_ENVELOPE_DOMAIN, PEER_RECORD_ENVELOPE_PAYLOAD_TYPE, PeerRecord

from peer.protocol import names
from peer.protocol.codec import Malformed
from peer.protocol.cose import BadSignature
from peer.protocol.errors import Invalid, TooLarge

MAX_ADDRESSES = 32


@dataclass(frozen=True, slots=True)
class Announcement:
    """A verified record: its device, its sequence number, and multiaddrs as text (without /p2p/)."""

    device: str
    seq: int
    addresses: tuple[str, ...]


def sign(seed: bytes, addresses: Sequence[str], seq: int) -> bytes:
    """Return the envelope, signed with the device's 32-byte Ed25519 seed.

    `addresses`: multiaddrs as text, a /p2p/ part is dropped. Raises Invalid for a bad address.
    """
    key = Ed25519PrivateKey.from_bytes(seed)
    try:
        parsed = [multiaddr.Multiaddr(address.partition("/p2p/")[0]) for address in addresses]
    except (ValueError, multiaddr.exceptions.Error) as error:
        raise Invalid("that is not a multiaddr", fix="an address looks like /ip4/192.0.2.1/tcp/4001") from error
    if not all(bytes(address.to_bytes()) for address in parsed):
        raise Invalid("that is an empty multiaddr", fix="an address looks like /ip4/192.0.2.1/tcp/4001")
    record = PeerRecord(ID.from_pubkey(key.get_public_key()), parsed, seq)
    return bytes(seal_record(record, key).marshal_envelope())


def verify(raw: bytes) -> Announcement:
    """Return the content of an envelope signed by the device it names. Raises BadSignature, Malformed, TooLarge."""
    try:
        envelope, record = consume_envelope(raw, PEER_RECORD_ENVELOPE_DOMAIN)
    except Exception as error:  # protobuf, PyNaCl and multiaddr each raise their own types
        raise BadSignature("the peer record is not signed by its device") from error
    if envelope.payload_type != PEER_RECORD_ENVELOPE_PAYLOAD_TYPE or not isinstance(
        envelope.public_key, Ed25519PublicKey
    ):
        raise Malformed("that is not the peer record of an Ed25519 key")
    # consume_envelope verifies the signature with the key inside, but not that the record names that key.
    if ID.from_pubkey(envelope.public_key) != record.peer_id:
        raise BadSignature("the peer record names a different device from the one that signed it")
    if len(record.addrs) > MAX_ADDRESSES:
        raise TooLarge(f"{len(record.addrs)} addresses; the limit is {MAX_ADDRESSES}", fix="announce fewer addresses")
    device = names.peer_id_text(names.peer_id_of(envelope.public_key.to_bytes()))
    return Announcement(device, record.seq, tuple(str(address) for address in record.addrs))
