"""The broker's key for relays and the tokens that it signs with it; their form: peer.protocol.relays.admission.

It serves nothing else: whoever runs a relay gets its public half, so a fault of theirs or of ours in a token must not
reach anything that another key of the broker opens.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from peer.protocol import cose
from peer.protocol.errors import Invalid
from peer.protocol.relays import admission
from rendezvous.private_files import RANDOM_BYTES, damaged, kept_secret

KEY_FILE = "relay.key"
"""In the data folder."""
_IF_REMOVED = "every relay that serves your users then needs the new key, from `dispatch-rendezvous relay-key`"


@dataclass(frozen=True, slots=True)
class RelayKey:
    """An Ed25519 key by its 32-byte seed."""

    seed: bytes = field(repr=False)

    @property
    def public(self) -> bytes:
        """The 32 bytes that a relay is told."""
        return cose.public_key(self.seed)

    def token(self, *, user_id: str, device: str, expires: int) -> bytes:
        """Return a token for a device of a user. `expires`: ms since the epoch."""
        # From the same seed: one file to back up, and for relays a user stays the same for as long as the key does.
        secret = hmac.digest(self.seed, b"dispatch relay pseudonym secret 1", "sha256")
        user = admission.pseudonym(secret, user_id)
        return admission.sign_token(self.seed, device=device, expires=expires, user=user)


def load_relay_key(data: Path, environment: Mapping[str, str]) -> RelayKey:
    """Return the key in $DISPATCH_RELAY_KEY, or the one kept in the data folder, made if there is none yet.

    Raises Invalid for a variable that is no key, and as kept_secret.
    """
    if given := environment.get("DISPATCH_RELAY_KEY", "").strip():
        if (seed := _seed(given)) is None:
            raise Invalid(
                f"DISPATCH_RELAY_KEY is no key: it must be {2 * RANDOM_BYTES} hexadecimal digits",
                fix=f"set it to the content of the {KEY_FILE} that the brokers share, or to the output of "
                f"`openssl rand -hex {RANDOM_BYTES}`",
            )
        return RelayKey(seed)
    path = data / KEY_FILE
    if (seed := _seed(kept_secret(path, if_removed=_IF_REMOVED).decode("ascii", "replace"))) is None:
        raise damaged(path, if_removed=_IF_REMOVED)
    return RelayKey(seed)


def _seed(text: str) -> bytes | None:
    try:
        seed = bytes.fromhex(text)
    except ValueError:
        return None
    return seed if len(seed) == RANDOM_BYTES else None
