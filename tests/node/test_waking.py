"""What a change of network, a sleep and the broker's return lead to, in what order, and how often."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from peer.node.waking import LEAST_SECONDS, LONGEST_SECONDS, Waking


class Parts:
    """Every part of a node that is told, and what it was told."""

    def __init__(self) -> None:
        self.done: list[tuple[str, object]] = []
        self.at: list[float] = []
        self.changed: Callable[[], None] = lambda: None
        self.woke: Callable[[], None] = lambda: None
        # Any: this stands for all of them at once.
        every: Any = self
        self.waking = Waking(
            host=every,
            relays=_Named(self, "relays"),  # type: ignore[arg-type]
            paths=_Named(self, "paths"),  # type: ignore[arg-type]
            ports=_Named(self, "ports"),  # type: ignore[arg-type]
            lan=_Named(self, "lan"),  # type: ignore[arg-type]
            courier=_Named(self, "courier"),  # type: ignore[arg-type]
            fetcher=_Named(self, "fetcher"),  # type: ignore[arg-type]
            brokers=every,
            devices=lambda: ["ana", "ben", "cleo"],
            waiting=self._waiting,
            watch=self._watch,
        )

    async def _waiting(self) -> list[str]:
        await trio.lowlevel.checkpoint()
        return ["gone", "ben"]

    def _watch(self, changed: Callable[[], None], woke: Callable[[], None]) -> Any:
        self.changed, self.woke = changed, woke
        return self

    async def run(self) -> None:
        await trio.sleep_forever()

    def renew(self, within: float) -> None:
        self.at.append(trio.current_time())
        self.done.append(("connections", within))

    def reconnect(self) -> None:
        self.done.append(("broker", None))


class _Named:
    def __init__(self, parts: Parts, name: str) -> None:
        self._parts, self._name = parts, name

    def renew(self, *what: Any) -> None:
        self._parts.done.append((self._name, _told(what)))

    def network_changed(self) -> None:
        self._parts.done.append((self._name, None))

    def greet(self, devices: Iterable[str]) -> None:
        self._parts.done.append(("greeted", sorted(devices)))


def _told(what: tuple[Any, ...]) -> object:
    return sorted(what[0]) if what and not isinstance(what[0], float) else what


LOOKED_UP: list[tuple[str, object]] = [
    ("greeted", ["ben"]),
    ("courier", ["ben"]),
    ("greeted", ["ana", "cleo"]),
    ("courier", ["ana", "cleo"]),
    ("fetcher", ()),
]
DOUBTED: list[tuple[str, object]] = [
    ("connections", 2.0),
    ("relays", (2.0,)),
    ("ports", None),
    ("lan", None),
    ("broker", None),
    ("paths", None),
]


@pytest.mark.parametrize("what", ["network", "sleep", "broker"])
async def test_what_each_leads_to(what: str) -> None:
    """Those come first for whom something waits. Seen to fail with any part left out, and with all for the broker."""
    parts = Parts()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(parts.waking.run)
        await wait_all_tasks_blocked()
        {"network": parts.changed, "sleep": parts.woke, "broker": parts.waking.broker_returned}[what]()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert parts.done == (LOOKED_UP if what == "broker" else DOUBTED + LOOKED_UP)


async def test_a_network_that_comes_and_goes_makes_no_storm(autojump_clock: MockClock) -> None:
    """Seen to fail without the time between two, and with the same time however often."""
    parts = Parts()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(parts.waking.run)
        for _ in range(3000):
            parts.changed()
            await trio.sleep(0.1)
        last_change = trio.current_time()
        await trio.sleep(600)
        nursery.cancel_scope.cancel()
    waits = [later - at for at, later in zip(parts.at, parts.at[1:], strict=False)]
    assert min(waits) >= LEAST_SECONDS and len(parts.at) <= 12
    assert last_change - 0.1 <= parts.at[-1] <= last_change + LONGEST_SECONDS, "the last one was not forgotten"


async def test_three_changes_in_a_row_are_each_answered_soon(autojump_clock: MockClock) -> None:
    """A machine wakes, finds its network, and gets its second address."""
    parts = Parts()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(parts.waking.run)
        for told in (parts.woke, parts.changed, parts.changed):
            await trio.sleep(4)
            told()
        await trio.sleep(LEAST_SECONDS)
        nursery.cancel_scope.cancel()
    assert parts.at == [pytest.approx(4), pytest.approx(9), pytest.approx(14)]
