"""Local names for contacts: what may be one, and when two are the same. Never told to anybody."""

from __future__ import annotations

import unicodedata

from peer.protocol.errors import Invalid

MAX_ALIAS = 40
"""Characters: one column of a table."""


def check(alias: str) -> str:
    """Return the alias as it is stored: without white space around it, in Unicode's normal form C. Raises Invalid."""
    chosen = unicodedata.normalize("NFC", alias.strip())
    if not chosen or len(chosen) > MAX_ALIAS:
        raise Invalid(f"an alias has 1 to {MAX_ALIAS} characters", fix="choose a short name")
    if "@" in chosen or not chosen.isprintable():
        raise Invalid("an alias is a plain name without @, so that it is never taken for an address", fix="such as Bob")
    return chosen


def key(alias: str) -> str:
    """Return what two aliases that people would take for the same have in common (Unicode caseless matching, NFKC)."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", alias.strip()).casefold())
