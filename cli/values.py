"""Values as people read them: times from now, what a run used, sizes. JSON has them exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cli.output import local_time, string

MINUTE, HOUR, DAY = 60, 3_600, 86_400
PAST_DAYS: Final = 7
FUTURE_DAYS: Final = 60
"""Beyond which a time is a date."""


def when(stamp: object, *, now: float | None = None) -> str:
    """Return an RFC 3339 time from now: `2 min ago`, `in 3 h`; a date if that is far. Other text stays."""
    if not isinstance(stamp, str) or not stamp:
        return ""
    from datetime import datetime

    try:
        moment = datetime.fromisoformat(stamp)
        seconds = moment.timestamp() - (_now() if now is None else now)
        if -DAY * PAST_DAYS < seconds < DAY * FUTURE_DAYS:
            span = duration(abs(seconds))
            return "now" if abs(seconds) < 10 else f"in {span}" if seconds > 0 else f"{span} ago"
        return moment.astimezone().strftime("%Y-%m-%d")
    except (ValueError, OverflowError):
        return stamp


def ends(stamp: object) -> str:
    """Return when something ends: `ends in 30 days`, `ended 3 h ago`."""
    shown = when(stamp)
    return f"ended {shown}" if shown.endswith(" ago") else f"ends {shown}"


def lasting(stamp: object) -> str:
    """Return since when something is so: `for 3 h`, `since just now`, or `since` a date."""
    shown = when(stamp)
    if shown.endswith(" ago"):
        return f"for {shown.removesuffix(' ago')}"
    return f"since {'just now' if shown == 'now' else shown}"


def how_connected(row: Mapping[str, object]) -> str:
    """Return how a contact is connected, how long a message takes there and back, and since when."""
    if not row.get("path"):
        return string(None)
    return f"{string(row['path'])}, {string(row.get('round_trip_ms'))} ms, {lasting(row.get('path_since'))}"


def when_exactly(stamp: object) -> str:
    """Return a time from now and as a local time: `2 min ago, 2026-11-22 13:00:05 CET`."""
    relative, full = when(stamp), local_time(stamp)
    return full if not relative or full.startswith(relative) else f"{relative}, {full}"


def duration(seconds: float) -> str:
    """Return a length of time by its largest unit, rounded down: `50 s`, `2 min`, `3 h`, `1 day`."""
    for unit, name in ((DAY, "day"), (HOUR, "h"), (MINUTE, "min")):
        if seconds >= unit:
            count = int(seconds // unit)
            return f"{count} {name}{'s' if unit == DAY and count > 1 else ''}"
    return f"{int(seconds)} s"


def countdown(seconds: float) -> str:
    """Return the time that is left to answer: `1 min 58 s`, `40 s`."""
    minutes, rest = divmod(int(seconds), MINUTE)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def used(usage: Mapping[str, object]) -> str:
    """Return what a run used: `4 turns · $0.02 · 56 s`. Tokens are in the JSON."""
    turns, cost, seconds = (_number(usage.get(name)) for name in ("turns", "cost_usd", "seconds"))
    parts = [f"{turns:.0f} turn{'' if turns == 1 else 's'}"]
    if cost:
        parts.append(f"${cost:,.2f}" if cost >= 0.005 else "less than $0.01")
    whole = round(seconds)
    minutes = f"{whole // MINUTE} min" + (f" {whole % MINUTE} s" if whole % MINUTE else "")
    parts.append(minutes if whole >= MINUTE else f"{whole} s")
    return " · ".join(parts)


def size(count: object) -> str:
    """Return a number of bytes: `812 bytes`, `1.2 MB`."""
    number = _number(count)
    for unit, name in ((1 << 20, "MB"), (1 << 10, "KB")):
        if number >= unit:
            return f"{number / unit:,.1f} {name}".replace(".0 ", " ")
    return f"{number:.0f} byte{'' if number == 1 else 's'}"


def _number(value: object) -> float:
    return value if isinstance(value, int | float) else 0.0


def _now() -> float:
    import time

    return time.time()
