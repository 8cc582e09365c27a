"""Making text that others wrote safe to show in a line of a page or a mail."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return `text` with `?` for what is not printable: controls, bidirectional overrides, line breaks."""
    return "".join(c if c.isprintable() else "?" for c in text)
