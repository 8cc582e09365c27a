"""Token buckets in bounded memory, one for each account or address. What they limit: app.py, broker.py."""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from functools import lru_cache

from peer.protocol.errors import RateLimited


class TooMany(RateLimited):
    """A rate is exceeded; `retry_after` is the time until one more request is allowed, in whole seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many requests; try again in {retry_after} s", fix="wait and try again")
        self.retry_after = retry_after


class Buckets:
    """One bucket for each key: `burst` at once, refilled by `per_minute`. Times in milliseconds."""

    def __init__(self, *, per_minute: float, burst: int, max_keys: int = 20_000) -> None:
        self._per_ms = per_minute / 60_000
        self._burst = burst
        self._max_keys = max_keys
        self._levels: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def take(self, key: str, now: int) -> None:
        """Take one from the bucket of `key`. Raises TooMany when it is empty."""
        level, since = self._levels.pop(key, (float(self._burst), now))
        level = min(float(self._burst), level + max(0, now - since) * self._per_ms)
        allowed = level >= 1
        self._levels[key] = (level - 1 if allowed else level, now)
        if len(self._levels) > self._max_keys:
            # The least recently used bucket is mostly the fullest, and a forgotten one is full again: the bound on
            # memory can only let a request through, never refuse one.
            self._levels.popitem(last=False)
        if not allowed:
            raise TooMany(max(1, math.ceil((1 - level) / self._per_ms / 1000)))

    def __len__(self) -> int:
        return len(self._levels)


@lru_cache(maxsize=4096)
def network_of(address: str) -> str:
    """Return what counts as one client: an IPv4 address, or the /64 of an IPv6 one (a household has 2^64 of those)."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
