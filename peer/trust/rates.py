"""The daily rate of an edge: how many dispatches it may bring in any 24 hours. The counting is peer.store's."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from peer.protocol.errors import RateLimited

DAY_MS: Final = 86_400_000


def frees_at(accepted: Iterable[int], *, max_per_day: int, now: int) -> int | None:
    """When one more may come, in ms since the epoch; None when it may now.

    `accepted` are the times (ms) at which dispatches of the edge were admitted; older ones than 24 hours do not count.
    Times after `now` do: a clock that was set back must not open the edge.
    """
    counted = sorted(at for at in accepted if at > now - DAY_MS)
    if len(counted) < max_per_day:
        return None
    # Room for one more comes when only max_per_day - 1 are left in the window.
    return counted[len(counted) - max_per_day] + DAY_MS


def check_rate(accepted: Iterable[int], *, max_per_day: int, now: int) -> None:
    """Raise RateLimited (429), which says when it frees, unless one more may come now."""
    at = frees_at(accepted, max_per_day=max_per_day, now=now)
    if at is not None:
        moment = datetime.fromtimestamp(-(-at // 1000), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        raise RateLimited(
            f"{max_per_day} dispatches in 24 hours are all that this edge permits",
            fix=f"send it again after {moment}, or ask the recipient to raise --max-per-day",
        )
