"""Which connection gives way when too many have proven nothing yet. Pure: what ends one is a callable.

Were the newest refused, whoever fills the places would keep everybody out. So the newest always has a place, and one of
the network that has most gives way, its oldest: an honest handshake takes some round trips and is long over by then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class Handshake:
    """A connection that has proven nothing. `network`: where from, "" while that is not known."""

    network: str
    end: Callable[[], None]


class Handshakes:
    """The handshakes under way: at most `total`, and `per_network` of them from each network."""

    def __init__(self, *, total: int, per_network: int) -> None:
        self._total = total
        self._per_network = per_network
        self._under_way: dict[Handshake, None] = {}  # oldest first
        self._by_network: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._under_way)

    def enter(self, handshake: Handshake) -> None:
        """Add one. Where that is one too many, another one is ended."""
        self._under_way[handshake] = None
        self._count(handshake)
        if len(self._under_way) > self._total:
            self._end_oldest(self._by_network.most_common(1)[0][0])

    def learn(self, handshake: Handshake, network: str) -> None:
        """Note where a handshake under way comes from, which its proxy has told."""
        if handshake in self._under_way:
            self._uncount(handshake)
            handshake.network = network
            self._count(handshake)

    def leave(self, handshake: Handshake) -> None:
        """Remove one that is over. Idempotent."""
        if handshake in self._under_way:
            del self._under_way[handshake]
            self._uncount(handshake)

    def _count(self, handshake: Handshake) -> None:
        self._by_network[handshake.network] += 1
        if handshake.network and self._by_network[handshake.network] > self._per_network:
            self._end_oldest(handshake.network)

    def _uncount(self, handshake: Handshake) -> None:
        self._by_network[handshake.network] -= 1
        if not self._by_network[handshake.network]:
            del self._by_network[handshake.network]

    def _end_oldest(self, network: str) -> None:
        oldest = next(each for each in self._under_way if each.network == network)
        self.leave(oldest)
        oldest.end()
