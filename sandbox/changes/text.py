"""Which bytes are text that shows a person all of itself. Pure."""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import cache
from typing import Final

_HIDDEN_CATEGORIES: Final = frozenset(["Cc", "Cf", "Co", "Cs", "Zl", "Zp"])
"""Controls, format characters (direction, zero width, tags), private use, and Unicode's own line ends."""
# Letters and marks that show as nothing.
_BLANK: Final = "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef"


@cache
def _hidden() -> re.Pattern[str]:
    ranges: list[tuple[int, int]] = []
    for number in range(sys.maxunicode + 1):
        if unicodedata.category(chr(number)) in _HIDDEN_CATEGORIES and chr(number) not in "\t\n\r":
            if ranges and ranges[-1][1] == number - 1:
                ranges[-1] = (ranges[-1][0], number)
            else:
                ranges.append((number, number))
    inside = "".join(f"{re.escape(chr(first))}-{re.escape(chr(last))}" for first, last in ranges)
    return re.compile(f"[{inside}{_BLANK}]|\r(?!\n)")


def is_plain(content: bytes) -> bool:
    """Whether it is UTF-8 without a character that a screen hides or obeys: no controls but tab and line ends."""
    if content.isascii():
        return not _CONTROLS.search(content)
    try:
        return not _hidden().search(content.decode())
    except UnicodeDecodeError:
        return False


_CONTROLS: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)")


def is_plain_name(name: bytes) -> bool:
    """Whether a path is shown as it is: such text on one line."""
    return is_plain(name) and not any(byte in name for byte in b"\t\n\r")
