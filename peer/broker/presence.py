"""The presence box: a device's addresses, sealed so that chosen devices alone can read them. No network.

The content is a signed libp2p peer record (libp2p RFC 0003) in its envelope (RFC 0002), padded and encrypted under a
fresh content key (XSalsa20-Poly1305). That key is sealed to each recipient's X25519 key, in anonymous boxes. Their
number is padded to a multiple of eight with boxes that nobody can open, and their order is random, so neither the
broker nor a recipient learns who else can read it, or exactly how many can.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import nacl.utils
from nacl.bindings import sodium_pad, sodium_unpad
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox
from nacl.secret import SecretBox

from peer.mesh import peer_record
from peer.mesh.peer_record import MAX_ADDRESSES, Announcement
from peer.protocol import codec
from peer.protocol.codec import Malformed
from peer.protocol.cose import BadSignature
from peer.protocol.errors import NO_FIX, Forbidden, Invalid, TooLarge

MAX_RECIPIENTS = 1024
MAX_BOX = 128 * 1024
"""Bytes: the most that a broker stores."""
MAX_RECORD = 8192
RECIPIENTS_STEP = 8
RECORD_STEP = 512
"""Bytes: a record of one to about ten addresses has the same size from outside."""

_KEYS, _CONTENT = 1, 2


def seal_presence(*, seed: bytes, addresses: Sequence[str], seq: int, recipients: Sequence[bytes]) -> bytes:
    """Return the box. `seed` is this device's Ed25519 seed, `addresses` multiaddrs as text (a /p2p/ part is dropped),
    `recipients` X25519 public keys of 32 bytes; an empty list makes a box that nobody can open.

    Raises TooLarge over MAX_RECIPIENTS or MAX_ADDRESSES, Invalid for what is not an address or key.
    """
    if len(recipients) > MAX_RECIPIENTS:
        raise TooLarge(f"{len(recipients)} devices are to read the presence; the limit is {MAX_RECIPIENTS}", fix=NO_FIX)
    if len(addresses) > MAX_ADDRESSES:
        raise TooLarge(
            f"{len(addresses)} addresses to announce; the limit is {MAX_ADDRESSES}", fix="announce fewer addresses"
        )
    envelope = peer_record.sign(seed, addresses, seq)
    content_key = nacl.utils.random(SecretBox.KEY_SIZE)
    keys = []
    for recipient in recipients:
        if len(recipient) != 32:
            raise Invalid("a device's sealing key has 32 bytes", fix=NO_FIX)
        keys.append(bytes(SealedBox(PublicKey(recipient)).encrypt(content_key)))
    while not keys or len(keys) % RECIPIENTS_STEP:
        # Sealed to a throw-away key, so that it looks like every other box.
        keys.append(bytes(SealedBox(PrivateKey.generate().public_key).encrypt(nacl.utils.random(SecretBox.KEY_SIZE))))
    secrets.SystemRandom().shuffle(keys)
    content = bytes(SecretBox(content_key).encrypt(sodium_pad(envelope, RECORD_STEP)))
    return codec.encode({_KEYS: keys, _CONTENT: content})


def open_presence(box: bytes, *, sealing_key: bytes, device: str, seq: int) -> Announcement:
    """Open a box with this device's X25519 private key (32 bytes).

    `device` and `seq` are the broker's claims about the box. Both must match the signed record, so that a broker cannot
    pass off another device's box or an older one. Raises Forbidden if the box is not for this device, BadSignature if
    it is not `device`'s or not number `seq`, Malformed and TooLarge for any other form.
    """
    content = codec.decode(box, max_bytes=MAX_BOX)
    match content:
        case {1: list(keys), 2: bytes(sealed), **rest} if not rest and len(keys) <= MAX_RECIPIENTS:
            pass
        case _:
            raise Malformed("that is not a presence box")
    content_key = _content_key(keys, sealing_key)
    try:
        envelope = sodium_unpad(SecretBox(content_key).decrypt(sealed), RECORD_STEP)
    except (CryptoError, ValueError, TypeError) as error:
        raise Malformed("the presence box is damaged") from error
    if len(envelope) > MAX_RECORD:
        raise TooLarge(f"a peer record of {len(envelope)} bytes; the limit is {MAX_RECORD}", fix=NO_FIX)
    announcement = peer_record.verify(envelope)
    if announcement.device != device or announcement.seq != seq:
        raise BadSignature("the presence is from another device, or older, than the broker says")
    return announcement


def _content_key(keys: Sequence[object], sealing_key: bytes) -> bytes:
    mine = SealedBox(PrivateKey(sealing_key))
    for sealed in keys:
        if not isinstance(sealed, bytes) or len(sealed) != SecretBox.KEY_SIZE + 48:
            raise Malformed("that is not a presence box")
        try:
            return bytes(mine.decrypt(sealed))
        except CryptoError:
            continue
    raise Forbidden(
        "that presence is not for this device", fix="ask its owner whether you are still a contact of theirs"
    )
