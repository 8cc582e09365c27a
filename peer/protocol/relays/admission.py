"""Who may use a relay: the proof that a connection is a device's, and the token by which a broker vouches for it. Pure.

A relay keeps no accounts. A broker signs tokens with an Ed25519 key of its own that serves nothing else, so whoever
runs a relay needs its public half alone. A token says that one device is a user's of that broker, until when, and as
whose it counts: by a pseudonym, from which only the broker can tell the user.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from hashlib import sha256

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from peer.protocol import codec, cose, names
from peer.protocol.codec import Malformed
from peer.protocol.cose import BadSignature
from peer.protocol.errors import Forbidden
from peer.protocol.fields import LAST_TIME
from peer.protocol.relays.messages import CHALLENGE_BYTES

TOKEN_TYPE = "application/dispatch-relay-token+cbor"  # noqa: S105 - a media type
TOKEN_LIFE_MS = 24 * 3600 * 1000
"""A broker that is gone for less than half of this keeps nobody from a relay."""
PSEUDONYM_BYTES = 16
CLOCKS_DIFFER_MS = 5 * 60 * 1000
"""How long after its expiry a token is still taken: the clocks of broker and relay are two."""

_PROOF = b"dispatch relay control 1\x00"


def sign_proof(seed: bytes, *, nonce: bytes, origin: str) -> bytes:
    """Return a device's 64-byte Ed25519 signature for the relay at `origin`, which sent `nonce`. `seed`: its key's."""
    return SigningKey(seed).sign(_proven(nonce, origin)).signature


def check_proof(device: str, signature: bytes, *, nonce: bytes, origin: str) -> None:
    """Raise BadSignature unless the device signed for this relay and this connection."""
    key = names.key_of_peer_id(names.peer_id_bytes(device))
    try:
        VerifyKey(key).verify(_proven(nonce, origin), signature)
    except (BadSignatureError, ValueError) as error:
        raise BadSignature("that connection does not come from the device that it names") from error


def _proven(nonce: bytes, origin: str) -> bytes:
    # Three parts of fixed length: nothing else that a device key signs begins like this.
    if len(nonce) != CHALLENGE_BYTES:
        raise Malformed(f"a challenge has {CHALLENGE_BYTES} bytes")
    return _PROOF + nonce + sha256(origin.encode()).digest()


@dataclass(frozen=True, slots=True)
class RelayToken:
    """What a broker vouches for. `expires`: ms since the epoch. `broker`: the public key that signed it."""

    device: str
    expires: int
    pseudonym: bytes
    broker: bytes


def pseudonym(secret: bytes, user_id: str) -> bytes:
    """Return the 16 bytes as which a user counts at relays; `secret` is the broker's alone."""
    return hmac.digest(secret, b"dispatch relay pseudonym 1\x00" + user_id.encode(), "sha256")[:PSEUDONYM_BYTES]


def sign_token(seed: bytes, *, device: str, expires: int, user: bytes) -> bytes:
    """Return a token as a COSE_Sign1 message, signed with the broker's 32-byte seed for relays. `user`: a pseudonym."""
    payload = codec.encode({1: names.peer_id_bytes(device), 2: expires, 3: user})
    key = SigningKey(seed)
    return cose.sign(payload, key=key, kid=bytes(key.verify_key), typ=TOKEN_TYPE)


def open_token(raw: bytes, *, brokers: frozenset[bytes], device: str, now: int) -> RelayToken:
    """Return the content of a token that one of these public keys signed for this device. `now`: ms since the epoch.

    Raises BadSignature, Malformed, and Forbidden for another broker's, another device's or an expired one.
    """
    envelope = cose.parse(raw)
    if envelope.typ != TOKEN_TYPE:
        raise Malformed("that is not a token for a relay")
    if envelope.kid not in brokers:
        raise Forbidden("this relay is not for users of that broker", fix="use a relay that your broker names")
    cose.verify(envelope, envelope.kid)
    match codec.decode(envelope.payload):
        case {1: bytes(named), 2: int(expires), 3: bytes(user)} if (
            len(user) == PSEUDONYM_BYTES and 0 <= expires <= LAST_TIME
        ):
            found = RelayToken(names.peer_id_text(named), expires, user, envelope.kid)
        case _:
            raise Malformed("that is not a token for a relay")
    if found.device != device:
        raise Forbidden("that token belongs to another device", fix="sign in again with `dispatch login`")
    if now > expires + CLOCKS_DIFFER_MS:
        raise Forbidden(
            "the token for this relay has expired", fix="check this machine's clock; the broker sends a new token"
        )
    return found
