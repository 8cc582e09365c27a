"""When the store is looked through for what is overdue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from peer.node.deadlines import LONGEST_WAIT_SECONDS, Deadlines


class Scene:
    """`looked`: when the store was read, in seconds; `upcoming`: what it had as the next deadline each time, in ms."""

    def __init__(self, *upcoming: int | None) -> None:
        self.looked: list[float] = []
        self._upcoming: Iterator[int | None] = iter(upcoming)
        context = SimpleNamespace(clock=lambda: int(trio.current_time() * 1000))
        journal: Any = SimpleNamespace(context=context, step=self._step)
        self.deadlines = Deadlines(journal)
        self.meanwhile: Callable[[], None] = lambda: None

    async def _step(self, _work: object) -> int | None:
        await trio.lowlevel.checkpoint()
        self.meanwhile()
        self.looked.append(round(trio.current_time()))
        return next(self._upcoming, None)


async def test_a_new_deadline_is_waited_for_without_looking_through_the_store(mock_clock: MockClock) -> None:
    """Each dispatch that came was a transaction more."""
    scene = Scene(100_000, 100_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.deadlines.run)
        await wait_all_tasks_blocked()
        for at in (90_000, 50_000, 70_000):
            scene.deadlines.consider(at)
            await wait_all_tasks_blocked()
        assert scene.looked == [0]
        for second in (49, 51, 99, 101):
            mock_clock.jump(second - trio.current_time())
            await wait_all_tasks_blocked()
        assert scene.looked == [0, 51, 101]
        mock_clock.jump(LONGEST_WAIT_SECONDS)
        await wait_all_tasks_blocked()
        assert len(scene.looked) == 4, "the machine may have slept, or its clock was set"
        nursery.cancel_scope.cancel()


async def test_a_deadline_that_comes_while_the_store_is_read_counts(mock_clock: MockClock) -> None:
    scene = Scene(100_000)
    scene.meanwhile = lambda: scene.deadlines.consider(10_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.deadlines.run)
        await wait_all_tasks_blocked()
        mock_clock.jump(11)
        await wait_all_tasks_blocked()
        assert scene.looked[:2] == [0, 11]
        nursery.cancel_scope.cancel()
