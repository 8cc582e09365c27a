"""Lengths of time as people write them: a plain number, or one with a unit, such as 30m. No bounds here."""

from __future__ import annotations

import re
from typing import Final

UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400}
"""Seconds."""
_FORM: Final = re.compile(r"([0-9]{1,7})\s*([smhdwy]?)", re.ASCII | re.IGNORECASE)
"""Seven digits, so that 20270131 is never read as 234 days of seconds."""
_FORMS: Final = {
    "s": "a number of seconds, or one with a unit: 90s, 30m, 12h, 30d",
    "m": "a number of minutes, or one with a unit: 30m, 2h",
}


def parse_duration(text: str, *, plain: str = "s") -> int | None:
    """Return a length of time in seconds, None if the text is none. `plain`: the unit of a number without one."""
    found = _FORM.fullmatch(text.strip())
    return int(found[1]) * UNITS[found[2].lower() or plain] if found else None


def forms(plain: str = "s") -> str:
    """Return how a length of time is written, for the fix of an error. `plain`: `s` or `m`, as above."""
    return _FORMS[plain]
