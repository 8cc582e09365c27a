"""Making text that others wrote safe to show in a line of a page or a mail."""

from __future__ import annotations

from typing import Final

_MARKS: Final = frozenset('"“”„‟«»')


def printable(text: str) -> str:
    """Return `text` to stand in quotation marks: `?` for what is not printable (controls, bidirectional overrides, line
    breaks), and no quotation mark that would end the quotation early.
    """
    return "".join("'" if c in _MARKS else c if c.isprintable() else "?" for c in text)
