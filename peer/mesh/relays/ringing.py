"""Which rings of contacts a device answers: each once, not too often, and so many pipes at a time. No network."""

from __future__ import annotations

from collections import Counter, OrderedDict

import structlog

from peer.mesh.dialing import DialBudget
from peer.protocol.errors import Forbidden
from peer.protocol.relays import rings
from peer.protocol.relays.rings import Line

log = structlog.get_logger(__name__)


class RingGuard:
    """Says of each ring whether it is answered, and counts the pipes that came of rings. The bounds: RelayLimits."""

    def __init__(self, *, per_minute: int, remembered: int, per_device: int, most: int) -> None:
        self._remembered = remembered
        self._per_device = per_device
        self._most = most
        self._budget = DialBudget(per_minute)
        self._seen: OrderedDict[bytes, int] = OrderedDict()
        """Nonce of a ring → when it came, ms."""
        self._pipes: Counter[str] = Counter()

    def admit(self, line: Line, sealed: bytes, *, clock: int, now: float) -> bool:
        """Return whether this ring is answered; if so, its pipe counts until `ended`.

        `clock`: ms since the epoch, for the ring's own time; `now`: seconds of a monotonic clock, for how often.
        """
        try:
            nonce = line.open(sealed, clock)
        except Forbidden:
            log.info("relay.ring_refused")
            return False
        while self._seen and next(iter(self._seen.values())) < clock - 2 * rings.WINDOW_MS:
            self._seen.popitem(last=False)
        if nonce in self._seen or len(self._seen) >= self._remembered:
            return False
        if not self._budget.take(line.caller, now):
            return False
        self._seen[nonce] = clock
        if self._pipes[line.caller] >= self._per_device or self._pipes.total() >= self._most:
            return False
        self._pipes[line.caller] += 1
        return True

    def ended(self, device: str) -> None:
        """A pipe that this device rang for is over."""
        self._pipes[device] -= 1
        if not self._pipes[device]:
            del self._pipes[device]
