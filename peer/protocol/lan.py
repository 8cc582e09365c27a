"""What a device says of itself on a local network, so that its contacts alone know it. Pure but for randomness.

Theory. Two devices have a secret that nobody else has (`rings.shared_key`). A beacon is a nonce with one mark for each
device of a contact: a MAC that only the two can compute, of this nonce, of the address that the packet comes from and
of the port that is listened on. So a beacon that somebody copies to another address is nobody's there. Whoever
recognises a beacon connects and sends a preface, by which the announcer knows who it is before it has sent a byte. What
follows is masked with keys from the secret and both nonces: whoever takes a preface away and uses it first gets bytes
that mean nothing to them, where Noise alone would show them the announcer's identity.
"""

from __future__ import annotations

import hmac
import ipaddress
import random
import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from peer.protocol.errors import NO_FIX, Forbidden, Invalid

NONCE_BYTES: Final = 16
MARK_BYTES: Final = 6
"""With 1,024 contacts and a full beacon of a stranger, one in 10^9 such beacons is taken for a contact's."""
STEP: Final = 16
"""The number of marks is a multiple of this, so that it does not tell how many contacts there are."""
MAX_MARKS: Final = 160
"""What fits into one packet on every link. Of more contacts' devices each beacon marks others, chosen by lot."""
HINT_BYTES: Final = 8
MAC_BYTES: Final = 32
PREFACE_BYTES: Final = HINT_BYTES + NONCE_BYTES + MAC_BYTES

MASKED_BYTES: Final = 4_096
"""Of each direction: more than Noise's handshake has, after which its own ciphers hide all. A mask over everything cost
a fifth of the processor's time of a transfer."""

MAX_TEXT: Final = 1_200
"""Bytes of a TXT record that are read. Ours has at most 1,029; the rest is for names that come later."""

_FORM: Final = b"txtvers=1"
_MARK: Final = b"dispatch lan mark 1\x00"
_HINT: Final = b"dispatch lan hint 1\x00"
_PREFACE: Final = b"dispatch lan preface 1\x00"
_TO_ANNOUNCER: Final = b"dispatch lan to announcer 1\x00"
_TO_READER: Final = b"dispatch lan to reader 1\x00"


@dataclass(frozen=True, slots=True)
class Pair:
    """One beacon as one reader has it. `key`: `rings.shared_key` of the two; `announcer`, `reader`: 38 bytes each.

    `place`: where the announcer listens, as `place` returns it.
    """

    key: bytes
    announcer: bytes
    reader: bytes
    nonce: bytes
    place: bytes

    @property
    def mark(self) -> bytes:
        """What the beacon holds for this reader."""
        return self._mac(_MARK)[:MARK_BYTES]

    @property
    def hint(self) -> bytes:
        """What a preface of this reader begins with, so that the announcer need not try all its contacts."""
        return self._mac(_HINT)[:HINT_BYTES]

    def preface(self, fresh: bytes) -> bytes:
        """Return what the reader sends first. `fresh`: a nonce for this connection alone."""
        return self.hint + fresh + self._mac(_PREFACE, fresh)

    def check(self, preface: bytes) -> bytes:
        """Return the nonce of a preface that is this reader's. Raises Forbidden."""
        fresh = preface[HINT_BYTES : HINT_BYTES + NONCE_BYTES]
        if len(preface) != PREFACE_BYTES or not hmac.compare_digest(preface, self.preface(fresh)):
            raise Forbidden("that preface is from another contact", fix=NO_FIX)
        return fresh

    def masks(self, fresh: bytes) -> tuple[bytes, bytes]:
        """Return the keys of what is sent to the announcer and to the reader, on the connection of this nonce."""
        return self._mac(_TO_ANNOUNCER, fresh), self._mac(_TO_READER, fresh)

    def _mac(self, label: bytes, fresh: bytes = b"") -> bytes:
        # All but the last part have one length under each label.
        content = label + self.nonce + self.announcer + self.reader + fresh + self.place
        return hmac.digest(self.key, content, "sha256")


def place(ip: str, port: int) -> bytes:
    """Return an address (without a zone) and a port as they go into MACs."""
    return port.to_bytes(2, "big") + ipaddress.ip_address(ip).packed


def padded(marks: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return marks in no order, with random ones up to the next multiple of STEP, at least one step.

    Of more than MAX_MARKS, that many by lot.
    """
    lot = random.SystemRandom()
    found = list(marks)
    lot.shuffle(found)
    del found[MAX_MARKS:]
    found += [secrets.token_bytes(MARK_BYTES) for _ in range(-len(found) % STEP or (0 if found else STEP))]
    lot.shuffle(found)
    return tuple(found)


def text(nonce: bytes, marks: Collection[bytes]) -> bytes:
    """Return the content of a beacon's TXT record (RFC 6763, 6)."""
    every = b"".join(marks)
    size = STEP * MARK_BYTES
    strings = [_FORM, b"n=" + nonce]
    strings += [b"m%d=" % (at // size) + every[at : at + size] for at in range(0, len(every), size)]
    return b"".join(bytes([len(string)]) + string for string in strings)


def read_text(content: bytes) -> tuple[bytes, frozenset[bytes]]:
    """Return nonce and marks of a TXT record. Names that are not known are ignored. Raises Invalid."""
    if len(content) > MAX_TEXT:
        raise _no_beacon()
    values: dict[bytes, bytes] = {}
    at = 0
    while at < len(content):
        end = at + 1 + content[at]
        if end > len(content):
            raise _no_beacon()
        name, _, value = content[at + 1 : end].partition(b"=")
        values.setdefault(name, value)
        at = end
    nonce = values.get(b"n", b"")
    if not content.startswith(bytes([len(_FORM)]) + _FORM) or len(nonce) != NONCE_BYTES:
        raise _no_beacon()
    every = b"".join(values.get(b"m%d" % number, b"") for number in range(MAX_MARKS // STEP))
    if not every or len(every) % (STEP * MARK_BYTES):
        raise _no_beacon()
    return nonce, frozenset(every[at : at + MARK_BYTES] for at in range(0, len(every), MARK_BYTES))


def _no_beacon() -> Invalid:
    return Invalid("that is not a beacon", fix=NO_FIX)
