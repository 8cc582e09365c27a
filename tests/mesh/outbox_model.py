"""Which statement of an outbox goes next, written as plainly as possible: what the store's query must agree with."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from peer.mesh.courier import OutboxItem


@dataclass(frozen=True)
class Queued:
    """A statement in the outbox of one peer. `ordering` "" is none; priority 0 goes first, then lower numbers."""

    n: int
    priority: int
    ordering: str
    raw: bytes

    @property
    def item(self) -> OutboxItem:
        return OutboxItem(str(self.n), self.ordering or None, self.raw)


def others_wait(queue: Iterable[Queued], excluded_keys: Collection[str], found: Queued | None) -> bool:
    """Whether the outbox has more than what was found and what is excluded by its key."""
    return any(str(each.n) not in excluded_keys and each != found for each in queue)


def choose(
    queue: Iterable[Queued], excluded_keys: Collection[str] = (), excluded_orderings: Collection[str] = ()
) -> Queued | None:
    """The rule: nothing excluded, nothing behind its own ordering; of the rest the most urgent, then the oldest."""
    queue = list(queue)
    oldest: dict[str, int] = {}
    for each in sorted(queue, key=lambda each: each.n):
        oldest.setdefault(each.ordering, each.n)
    free = [
        each
        for each in queue
        if str(each.n) not in excluded_keys
        and (not each.ordering or (each.ordering not in excluded_orderings and oldest[each.ordering] == each.n))
    ]
    return min(free, key=lambda each: (each.priority, each.n), default=None)
