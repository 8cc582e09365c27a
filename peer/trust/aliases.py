"""Local names for contacts: which are valid, and when two are the same. They are never sent to another device."""

from __future__ import annotations

import unicodedata

from peer.protocol.errors import Invalid

MAX_ALIAS = 40
"""Characters: the width of one table column."""


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
