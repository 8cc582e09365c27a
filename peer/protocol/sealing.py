"""Sealing bytes to one device: libsodium's sealed box (X25519, XSalsa20-Poly1305). Its content is signed elsewhere.

A sealed box does not authenticate its sender; the statement inside does. Pure except for libsodium's randomness.
"""

from __future__ import annotations

from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox

from peer.protocol.errors import Invalid


def seal(content: bytes, public_key: bytes) -> bytes:
    """Return `content` encrypted to a 32-byte X25519 public key."""
    return SealedBox(PublicKey(public_key)).encrypt(content)


def unseal(sealed: bytes, private_key: bytes) -> bytes:
    """Return the content of a sealed box, opened with the 32-byte X25519 private key. Raises Invalid."""
    try:
        return SealedBox(PrivateKey(private_key)).decrypt(sealed)
    except (CryptoError, ValueError, TypeError) as error:
        raise Invalid(
            "that was not sealed to this device, or was altered", fix="ask its sender to make it again"
        ) from error
