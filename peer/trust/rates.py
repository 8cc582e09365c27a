"""The rate limit of an edge: how many dispatches are admitted in any 24 hours. The counting is in peer.store."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from peer.protocol.errors import RateLimited

DAY_MS: Final = 86_400_000


def frees_at(accepted: Iterable[int], *, max_per_day: int, now: int) -> int | None:
    """When the next dispatch is admitted, in ms since the epoch; None if one is admitted now.

    `accepted` are the times (ms) at which dispatches of the edge were admitted. Those older than 24 hours do not count;
    those after `now` do, so that setting the clock back does not lift the limit.
    """
    counted = sorted(at for at in accepted if at > now - DAY_MS)
    if len(counted) < max_per_day:
        return None
    # The next one is admitted when only max_per_day - 1 are left in the window.
    return counted[len(counted) - max_per_day] + DAY_MS


def check_rate(accepted: Iterable[int], *, max_per_day: int, now: int) -> None:
    """Raise RateLimited (429), with the time of the next admission in its message, unless one is admitted now."""
    at = frees_at(accepted, max_per_day=max_per_day, now=now)
    if at is not None:
        moment = datetime.fromtimestamp(-(-at // 1000), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        raise RateLimited(
            f"this edge permits {max_per_day} dispatches in 24 hours, and all of them are used",
            fix=f"send it again after {moment}, or ask the recipient to raise --max-per-day",
        )
