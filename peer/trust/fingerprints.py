"""How people compare root keys: the fingerprint of one key in digits and words, the safety number of two keys. Pure.

Computed like Signal's numeric fingerprints (libsignal, `NumericFingerprintGenerator`, version 0): SHA-512 iterated
5,200 times over version, key and an identifier, then five bytes of the digest modulo 100,000 for each group of five
digits. The iterations make a search for a look-alike key 2^12 times more expensive. The identifier is specific to this
use, so the same key used elsewhere has other digits. A fingerprint has 40 digits (132 bits); its 12 words (96 bits) are
for reading aloud. A safety number has 30 digits of each key, the lower half first, so both people see the same 60.
"""

import hashlib
import hmac
import re
from functools import lru_cache
from typing import Final

import msgspec

from peer.protocol.errors import NO_FIX, Invalid
from peer.trust.wordlist import WORDS

ITERATIONS: Final = 5_200
_VERSION: Final = bytes(2)
_IDENTIFIER: Final = b"dispatch root key"
_GROUP_BYTES: Final = 5
_FINGERPRINT_GROUPS: Final = 8
_SAFETY_GROUPS: Final = 6
_WORD_COUNT: Final = 12
_FIX: Final = "give its 40 digits, as `dispatch whoami` shows them, or its 12 words"


class Fingerprint(msgspec.Struct, frozen=True):
    """A root key for people: 8 groups of 5 digits, and 12 words, both separated by spaces."""

    digits: str
    words: str

    def __str__(self) -> str:
        return self.digits


@lru_cache(maxsize=1024)
def fingerprint(root: bytes) -> Fingerprint:
    """The fingerprint of a root Ed25519 public key (32 bytes). Raises Invalid.

    Cached: the iterations take 10 ms, and a list of contacts shows one fingerprint each.
    """
    raw = _iterated(root)
    return Fingerprint(_groups(raw, _FINGERPRINT_GROUPS), " ".join(WORDS[byte] for byte in raw[:_WORD_COUNT]))


def safety_number(root_a: bytes, root_b: bytes) -> str:
    """The 60 digits (12 groups of 5) of two root keys, the same in either order. Raises Invalid."""
    return " ".join(sorted(_groups(_iterated(root), _SAFETY_GROUPS) for root in (root_a, root_b)))


def matches(root: bytes, typed: str) -> bool:
    """Whether `typed`, a whole fingerprint in digits or words, is that of `root`; case and separators do not matter.

    Raises Invalid for a partial fingerprint: comparing half of one proves nothing.
    """
    own = fingerprint(root)
    parts = re.findall(r"[^\s,.;:_-]+", typed.lower())
    joined = "".join(parts)
    if re.fullmatch(r"[0-9]{40}", joined, re.ASCII):
        return hmac.compare_digest(joined, own.digits.replace(" ", ""))
    if len(parts) == _WORD_COUNT and all(part in WORDS for part in parts):
        return hmac.compare_digest(" ".join(parts), own.words)
    raise Invalid("that is not a complete fingerprint", fix=_FIX)


def _iterated(root: bytes) -> bytes:
    if len(root) != 32:
        raise Invalid("a root key has 32 bytes", fix=NO_FIX)
    digest = _VERSION + root + _IDENTIFIER
    for _ in range(ITERATIONS):
        digest = hashlib.sha512(digest + root).digest()
    return digest


def _groups(raw: bytes, count: int) -> str:
    starts = range(0, count * _GROUP_BYTES, _GROUP_BYTES)
    return " ".join(f"{int.from_bytes(raw[at : at + _GROUP_BYTES]) % 100_000:05d}" for at in starts)
