"""Which statements to one peer are in flight or wait for a retry, and so which may be sent next. Pure: no link, no I/O.

Every statement is in one of these places, and all but the outbox keep it and its ordering key from being fetched:

    outbox ──fetched──► in flight ──acknowledged──► storing ──stored──► gone (final) or waiting (retry)
      ▲                     │ stream ended             │ not stored               │ due, or the peer showed up
      └─────────────────────┴──────────────────────────┴──────────────────────────┘

The outbox never gives an item that is behind another one of its ordering key. So the next statement of an ordering key
is fetched only after the final acknowledgement of the one before is durable: they arrive and are recorded in order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import takewhile

from peer.mesh.courier.events import FetchNext, OutboxItem
from peer.mesh.courier.limits import CourierLimits
from peer.protocol.acknowledgements import Acknowledgement

NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class _Out:
    """A statement in flight or being stored. Its bytes are not kept; a retry fetches them again."""

    key: str
    ordering_key: str | None
    size: int
    failures: int
    again: bool = False
    """The peer asks for another try."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    ordering_key: str | None
    failures: int
    due: float


class Window:
    """The statements of one peer that are in flight, being stored or waiting for a retry."""

    def __init__(self, limits: CourierLimits) -> None:
        self._limits = limits
        self._in_flight: dict[int, _Out] = {}
        self._storing: dict[str, _Out] = {}
        self._waiting: dict[str, _Waiting] = {}
        self._tried: dict[str, tuple[int, float]] = {}
        """Key → failures so far, and since when it may be tried again."""

    def __repr__(self) -> str:
        return f"Window({len(self._in_flight)} in flight, {len(self._storing)} storing, {len(self._waiting)} waiting)"

    # --- what may go

    @property
    def in_flight(self) -> list[str]:
        """The keys of statements that the peer has not acknowledged."""
        return [out.key for out in self._in_flight.values()]

    @property
    def expects(self) -> bool:
        """Whether an acknowledgement of the peer comes next: one is due, and we are not busy with one."""
        return bool(self._in_flight) and not self._storing

    @property
    def has_room(self) -> bool:
        """Whether there may be an item that fits."""
        out = len(self._in_flight) + len(self._storing)
        return out < self._limits.in_flight and len(self._waiting) < self._limits.retries_waiting

    def fits(self, item: OutboxItem) -> bool:
        """Whether the item may be sent beside those in flight. An item over the limit is sent alone."""
        out = self._all_out()
        return not out or sum(each.size for each in out) + len(item.raw) <= self._limits.in_flight_bytes

    def fetch(self) -> FetchNext:
        """Return the command that finds the next item."""
        out = self._all_out()
        orderings = {each.ordering_key for each in out} | {each.ordering_key for each in self._waiting.values()}
        return FetchNext(
            keys=frozenset(each.key for each in out) | self._waiting.keys(),
            orderings=frozenset(ordering for ordering in orderings if ordering is not None),
        )

    @property
    def next_due(self) -> float:
        """When the first waiting statement may be tried again; NEVER if none waits."""
        if not self._waiting:
            return NEVER
        return min(waiting.due for waiting in self._waiting.values())

    # --- what happens to statements

    def sent(self, seq: int, item: OutboxItem) -> None:
        """Record that the item is in flight."""
        failures, _ = self._tried.pop(item.key, (0, 0.0))
        self._in_flight[seq] = _Out(item.key, item.ordering_key, len(item.raw), failures)

    def acknowledged(self, seq: int, acknowledgement: Acknowledgement, *, now: float, jitter: float) -> str | None:
        """Move the statement from in flight to being stored; return its key, None if it is not in flight."""
        out = self._in_flight.pop(seq, None)
        if out is None:
            return None
        if not acknowledgement.final:
            out = replace(out, again=True)
            failures = out.failures + 1
            due = now + self._limits.delay(failures, jitter)
            self._waiting[out.key] = _Waiting(out.ordering_key, failures, due)
        self._storing[out.key] = out
        return out.key

    def stored(self, key: str) -> bool:
        """Remove a statement whose storing succeeded or failed; return whether it is to be tried again.

        Raises KeyError if it was not being stored.
        """
        return self._storing.pop(key).again

    def stream_ended(self) -> None:
        """Forget what was in flight: the stream ended, and the outbox still has the items."""
        self._in_flight.clear()

    def release(self, now: float, *, everything: bool = False) -> bool:
        """Release the retries that are due, or all of them; return whether there were any."""
        if not self._waiting and not self._tried:
            return False
        released = [key for key, waiting in self._waiting.items() if everything or waiting.due <= now]
        for key in released:
            self._tried[key] = (self._waiting.pop(key).failures, now)
        # A statement that was purged from the outbox while it waited is never sent again: forget it some time after.
        before = now - self._limits.longest_retry
        for key, _ in list(takewhile(lambda tried: tried[1][1] < before, self._tried.items())):
            del self._tried[key]
        return bool(released)

    def _all_out(self) -> list[_Out]:
        return [*self._in_flight.values(), *self._storing.values()]
