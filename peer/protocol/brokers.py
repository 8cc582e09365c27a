"""Which brokers a device uses, said so that only who knows a broker's address recognises it. Pure.

A mark is made from the device and the broker's origin. Whoever has it can tell whether it is of an origin that they
name, and learns nothing of any other one.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from peer.protocol import names

MAX_BROKERS: Final = 8
"""That one person uses."""
MARK_BYTES: Final = 16

_MARK: Final = b"dispatch broker mark 1\x00"


def mark(device: str, origin: str) -> bytes:
    """Return how `device`, a peer id, says that it uses the broker of this origin."""
    content = _MARK + names.peer_id_bytes(device) + sha256(origin.encode()).digest()
    return sha256(content).digest()[:MARK_BYTES]
