"""Local names for contacts: which are valid, and when two are the same. They are never sent to another device."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable
from typing import Final

from peer.protocol.errors import Invalid

MAX_ALIAS = 40
"""Characters: the width of one table column."""
_LIKE: Final = 0.65
"""Of difflib's ratio: two letters swapped in a name of three."""
_FEW: Final = 3


def check(alias: str) -> str:
    """Return the alias as it is stored: stripped and in Unicode normal form C. Raises Invalid."""
    chosen = unicodedata.normalize("NFC", alias.strip())
    if not chosen or len(chosen) > MAX_ALIAS:
        raise Invalid(f"an alias has 1 to {MAX_ALIAS} characters", fix="choose a short name")
    if "@" in chosen or not chosen.isprintable():
        raise Invalid("an alias is a plain name without @, so that it is never taken for an address", fix="such as Bob")
    return chosen


def key(alias: str) -> str:
    """Return a key that is equal for aliases that people would confuse (Unicode caseless matching, NFKC)."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", alias.strip()).casefold())


def likely(name: str, people: Iterable[tuple[str, str]]) -> list[str]:
    """Return who may be meant by a name that nobody has: at most three addresses, the likeliest first.

    `people`: (e-mail address, alias, "" for none) of contacts. One is meant by what stands before the @ too.
    """
    before, at, after = name.rpartition("@") if "@" in name else (name, "", "")
    scores: dict[str, float] = {}
    for address, alias in people:
        user, _, host = address.rpartition("@")
        likeness = _alike(before, user)
        if at:
            likeness = min(likeness, _alike(after, host))
        elif alias:
            likeness = max(likeness, _alike(name, alias))
        scores[address] = likeness
    found = sorted((address for address, score in scores.items() if score >= _LIKE), key=lambda one: -scores[one])
    return found[:_FEW]


def _alike(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, key(one), key(other), autojunk=False).ratio()
