"""How people compare root keys: the fingerprint of one in digits and words, the safety number of two. No keys are made.

Made as Signal's numeric fingerprints are (libsignal, `NumericFingerprintGenerator`, version 0): SHA-512 iterated 5,200
times over version, key and an identifier, and five bytes of the outcome modulo 100,000 for each group of five digits.
The iterations make a search for a look-alike key 2^12 times dearer. The identifier names our use, so that the same key
elsewhere shows other digits. A fingerprint has 40 digits (132 bits); its 12 words (96 bits) are for reading aloud. A
safety number is 30 digits of each key, the lower half first, so both people see the same 60 digits.
"""

import hashlib
import hmac
import re
from functools import lru_cache
from typing import Final

import msgspec

from peer.protocol.errors import Invalid
from peer.trust.wordlist import WORDS

ITERATIONS: Final = 5_200
_VERSION: Final = bytes(2)
_IDENTIFIER: Final = b"dispatch root key"
_GROUP_BYTES: Final = 5
_FINGERPRINT_GROUPS: Final = 8
_SAFETY_GROUPS: Final = 6
_WORD_COUNT: Final = 12
_FIX: Final = "give its 40 digits or its 12 words, as `dispatch whoami` shows them"


class Fingerprint(msgspec.Struct, frozen=True):
    """A root key as people see it: 8 groups of 5 digits, and 12 words, each parted by spaces."""

    digits: str
    words: str

    def __str__(self) -> str:
        return self.digits


@lru_cache(maxsize=1024)
def fingerprint(root: bytes) -> Fingerprint:
    """The fingerprint of a root Ed25519 public key (32 bytes). Raises Invalid.

    Remembered: the iterations take 10 ms, and a list of contacts shows one each.
    """
    raw = _iterated(root)
    return Fingerprint(_groups(raw, _FINGERPRINT_GROUPS), " ".join(WORDS[byte] for byte in raw[:_WORD_COUNT]))


def safety_number(root_a: bytes, root_b: bytes) -> str:
    """The 60 digits (12 groups of 5) that both owners of two root keys see alike, whoever asks. Raises Invalid."""
    return " ".join(sorted(_groups(_iterated(root), _SAFETY_GROUPS) for root in (root_a, root_b)))


def matches(root: bytes, typed: str) -> bool:
    """Whether `typed`, a whole fingerprint in digits or in words, is that of `root`; case and separators do not matter.

    Raises Invalid for anything that is no whole fingerprint: half of one compared is none compared.
    """
    own = fingerprint(root)
    parts = re.findall(r"[^\s,.;:_-]+", typed.lower())
    joined = "".join(parts)
    if re.fullmatch(r"[0-9]{40}", joined, re.ASCII):
        return hmac.compare_digest(joined, own.digits.replace(" ", ""))
    if len(parts) == _WORD_COUNT and all(part in WORDS for part in parts):
        return hmac.compare_digest(" ".join(parts), own.words)
    raise Invalid("that is not a whole fingerprint", fix=_FIX)


def _iterated(root: bytes) -> bytes:
    if len(root) != 32:
        raise Invalid("a root key has 32 bytes")
    digest = _VERSION + root + _IDENTIFIER
    for _ in range(ITERATIONS):
        digest = hashlib.sha512(digest + root).digest()
    return digest


def _groups(raw: bytes, count: int) -> str:
    starts = range(0, count * _GROUP_BYTES, _GROUP_BYTES)
    return " ".join(f"{int.from_bytes(raw[at : at + _GROUP_BYTES]) % 100_000:05d}" for at in starts)
