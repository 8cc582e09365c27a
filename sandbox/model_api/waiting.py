"""How long a request waits for a model's API that has no room for it. Pure; proxy.py waits, and says so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

from sandbox.model_api.interface import Failure

FIRST: Final = 2.0
"""Seconds before the second try where the API does not say; each later try waits twice as long as the one before."""
LONGEST: Final = 60.0
"""Seconds between two tries where the API does not say."""
_SECONDS: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


@dataclass(frozen=True, slots=True)
class Busy:
    """An answer that means: the same request later. `why`: a word for people; `headers`: lower-case names."""

    failure: Failure
    why: str
    headers: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.why} ({self.failure.kind if self.failure.status < 400 else self.failure.status})"


def seconds(busy: Busy, tries: int, *, now: datetime, least: float, spread: float) -> float:
    """Seconds until the next try, after `tries` before this one.

    At least what the API asks for in `retry-after` (RFC 9110, 10.2.3: seconds or a date), however long. `spread`: 0 to
    1, by chance: where the API does not say, a part of the wait, so that runs which were refused together do not all
    come back together.
    """
    asked = _asked(busy.headers, now)
    if asked is not None:
        return max(least, asked)
    return max(least, min(LONGEST, FIRST * 2.0 ** min(tries, 10)) * (0.75 + 0.25 * spread))


def _asked(headers: Mapping[str, str], now: datetime) -> float | None:
    said = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(said):
        return float(said)
    try:
        until = parsedate_to_datetime(said)
    except ValueError:
        return None
    # A date without a zone is one of UTC ("-0000"), and never this machine's.
    return (until if until.tzinfo else until.replace(tzinfo=now.tzinfo)).timestamp() - now.timestamp()


def words(waited: float) -> str:
    """A time for people: "40 seconds", "3 minutes"."""
    amount, unit = (
        (waited, "second") if waited < 90 else (waited / 60, "minute") if waited < 5400 else (waited / 3600, "hour")
    )
    return f"{amount:.0f} {unit}{'' if round(amount) == 1 else 's'}"
