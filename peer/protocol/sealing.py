"""Sealing bytes to one device: libsodium's sealed box (X25519, XSalsa20-Poly1305) to its sealing key. Pure but for
libsodium's own randomness. The sender stays anonymous to the box; what is inside is signed."""

from __future__ import annotations

from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox

from peer.protocol.errors import Invalid


def seal(content: bytes, public_key: bytes) -> bytes:
    """Return `content` readable only with the private half of a 32-byte X25519 key."""
    return SealedBox(PublicKey(public_key)).encrypt(content)


def unseal(sealed: bytes, private_key: bytes) -> bytes:
    """Return what was sealed to the key whose 32-byte private half this is. Raises Invalid."""
    try:
        return SealedBox(PrivateKey(private_key)).decrypt(sealed)
    except (CryptoError, ValueError, TypeError) as error:
        raise Invalid("that was not sealed to this device, or was altered") from error
