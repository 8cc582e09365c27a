"""Whom a device rings at a relay, and the proof that it may. Pure except for libsodium's randomness.

Two devices that know each other's X25519 keys have a secret that nobody else has. From it follow a tag for each
direction and relay, at which the called device listens, and the key of what the calling one says. So a relay learns no
name from a tag, cannot tell that two tags at two relays are the same two devices', and can ring nobody by itself. A
device that is no contact any more is not listened for: its rings look as if nobody were there.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from nacl.exceptions import CryptoError
from nacl.public import Box, PrivateKey, PublicKey
from nacl.secret import SecretBox

from peer.protocol import codec, names
from peer.protocol.errors import NO_FIX, Forbidden
from peer.protocol.relays.messages import TAG_BYTES

WINDOW_MS: Final = 5 * 60 * 1000
"""How far a ring's time may be off, either way. Until then a ring that comes again is known by its nonce."""

_TAG: Final = b"dispatch relay tag 1\x00"


@dataclass(frozen=True, slots=True)
class Line:
    """From one device to another over one relay. `key`: `shared_key` of the two; `caller`, `callee`: peer ids."""

    key: bytes
    origin: str
    caller: str
    callee: str

    @property
    def tag(self) -> bytes:
        """Where the callee listens for this caller."""
        ends = names.peer_id_bytes(self.callee) + names.peer_id_bytes(self.caller)
        return hmac.digest(self.key, _TAG + ends + sha256(self.origin.encode()).digest(), "sha256")[:TAG_BYTES]

    def seal(self, now: int) -> bytes:
        """Return the proof of one ring at `now`, in ms since the epoch."""
        return bytes(SecretBox(self.key).encrypt(self._content(now)))

    def open(self, sealed: bytes, now: int) -> bytes:
        """Check a ring's proof; return its nonce, by which one that comes again is known. Raises Forbidden."""
        try:
            content = SecretBox(self.key).decrypt(sealed)
            match codec.decode(content):
                case {1: int(at)} if content == self._content(at) and abs(now - at) <= WINDOW_MS:
                    return sealed[: SecretBox.NONCE_SIZE]
        except (CryptoError, ValueError, TypeError) as error:
            raise _refused() from error
        raise _refused()

    def _content(self, at: int) -> bytes:
        # Both directions have one key, so each says which it is.
        return codec.encode(
            {1: at, 2: names.peer_id_bytes(self.caller), 3: names.peer_id_bytes(self.callee), 4: self.origin}
        )


def shared_key(own: bytes, theirs: bytes) -> bytes:
    """Return the 32-byte secret of two devices: from one's private X25519 key and the other's public one."""
    return Box(PrivateKey(own), PublicKey(theirs)).shared_key()


def _refused() -> Forbidden:
    return Forbidden("that ring is from another contact, or out of date", fix=NO_FIX)
