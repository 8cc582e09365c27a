"""Texts of other machines inside sentences of ours: attributed, in quotation marks, on one line. Pure.

A sentence, and above all a fix, is read as ours. So a text that another machine sent (a refusal, a reason, a word where
one of a few is expected) stands in it only through these functions; blocks of it are drawn with a bar (cli/output.py).
No fix contains such a text at all: a fix may be a command that a person types.
"""

from __future__ import annotations

import re
from typing import Final

from peer.dispatches import text

MAX_QUOTED: Final = 500
"""Characters quoted of another machine's message."""
MAX_REASON: Final = 2_000
"""Characters quoted of a reason that a person gave: all that the wire allows."""

MAX_WORD: Final = 80
"""Characters quoted where a name or a word is expected."""

_WORD: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.:/*@+-]{0,126}[A-Za-z0-9*])?")
_MARKS: Final = str.maketrans(dict.fromkeys("“”„‟❝❞〝〞〟🙶🙷🙸", '"'))
"""Ours, and what could be taken for them."""


def quoted(theirs: str, *, limit: int = MAX_QUOTED) -> str:
    """Return `“theirs”`: one line, nothing hidden, no quotation mark that ends the quotation early; "" for nothing."""
    shown = text.line(theirs.strip().translate(_MARKS), limit=limit)
    return f"“{shown}”" if shown else ""


def says(who: str, theirs: str, *, limit: int = MAX_REASON) -> str:
    """Return `who says: “theirs”`; "" where they said nothing."""
    return f"{who} says: {words}" if (words := quoted(theirs, limit=limit)) else ""


def own_cancel(reason: str) -> str:
    """Return what the person who cancelled a dispatch reads of it: that it was them, and the reason that they gave."""
    words = quoted(reason, limit=MAX_REASON)
    return f"you cancelled it: {words}" if words else "you cancelled it"


def word(theirs: object, *, limit: int = MAX_WORD) -> str:
    """Return a name or a word of theirs as it is if it has the plain form of one, else quoted; a dash for none."""
    plain = "" if theirs is None else str(theirs)
    return plain if _WORD.fullmatch(plain) else quoted(plain, limit=limit) or "-"
