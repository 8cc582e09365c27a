"""Runs trio in virtual time and in an order that a seed decides: the same seed, the same run.

Trio's clock jumps to the next deadline when every task waits. Tasks that are ready at once run in an order drawn from
the seed, as under hypothesis. Threads are none: what would run in one runs in its caller, or the clock would jump
while it works.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Awaitable, Callable, Iterator, MutableSequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any, TypeVar
from unittest import mock

import trio
from libp2p.peer.id import ID

from tests.mesh.courier_simulation import World

T = TypeVar("T")
_sleep, _sleep_until = trio.sleep, trio.sleep_until


class JumpingClock(trio.abc.Clock):
    """Is at the next deadline, or the next moment that a task sleeps for, as soon as trio asks how long to wait."""

    def __init__(self) -> None:
        self._now = 0.0
        self._nothing = 0
        self._sleepers: list[tuple[float, int, Sleeper]] = []
        self._order = itertools.count()

    def start_clock(self) -> None: ...

    def current_time(self) -> float:
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        sleepers = self._sleepers
        while sleepers and sleepers[0][2].over:
            heapq.heappop(sleepers)
        until = min(deadline, sleepers[0][0]) if sleepers else deadline
        if until == float("inf"):  # as at the very start, until trio has looked at its own socket
            self._nothing += 1
            assert self._nothing < 100, "everything waits for what never comes"
            return 0.0
        self._now, self._nothing = max(self._now, until), 0
        while sleepers and sleepers[0][0] <= self._now:
            heapq.heappop(sleepers)[2].wake()
        return 0.0

    async def sleep(self, seconds: float) -> None:
        """As trio.sleep."""
        if seconds > 0.0:
            await self.sleep_until(self._now + seconds)
        else:
            await _sleep(seconds)

    async def sleep_until(self, deadline: float) -> None:
        """As trio.sleep_until, which makes a scope each time, cancels it, and raises in it."""
        if deadline > self._now:
            await self.sleeper(deadline).wait()
        else:
            await _sleep_until(deadline)

    def sleeper(self, deadline: float = float("inf")) -> Sleeper:
        """Return what wakes the current task at a time, once that waits for it."""
        sleeper = Sleeper(trio.lowlevel.current_task())
        if deadline != float("inf"):
            self.wake_at(deadline, sleeper)
        return sleeper

    def wake_at(self, deadline: float, sleeper: Sleeper) -> None:
        """Wake a sleeper at a time, unless something else did."""
        heapq.heappush(self._sleepers, (deadline, next(self._order), sleeper))


class Sleeper:
    """What wakes a task, once: when the time has come, or something else before that."""

    def __init__(self, task: trio.lowlevel.Task) -> None:
        self._task: trio.lowlevel.Task | None = task

    @property
    def over(self) -> bool:
        """Whether it does not sleep any more."""
        return self._task is None

    async def wait(self) -> None:
        """Wait for that."""
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def wake(self) -> None:
        """Wake the task, unless it is awake."""
        if self._task is not None:
            task, self._task = self._task, None
            trio.lowlevel.reschedule(task)

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


class VirtualWorld(World):
    """The simulation's agenda on trio's clock. `drive` runs what is due."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, JumpingClock)
        self.clock = clock
        self._sleeper: Sleeper | None = None

    @property
    def now(self) -> float:
        return self.clock.current_time()

    @now.setter
    def now(self, value: float) -> None:
        """World sets its time; here trio's clock is the time."""

    def at(self, time: float, action: Callable[[], None]) -> None:
        if self._sleeper is not None and (not self._agenda or time < self._agenda[0][0]):
            self._sleeper.wake()
        super().at(time, action)

    async def drive(self) -> None:
        """Run what is due, until cancelled."""
        agenda = self._agenda
        while True:
            while agenda and agenda[0][0] <= self.now:
                heapq.heappop(agenda)[2]()
            self._sleeper = self.clock.sleeper(agenda[0][0] if agenda else float("inf"))
            await self._sleeper.wait()
            self._sleeper = None


def run(main: Callable[[], Awaitable[T]], seed: int) -> T:
    """Run `main()` to its end."""
    clock = JumpingClock()
    with (
        _ordered(seed),
        _without_threads(),
        _without_sockets(),
        mock.patch("trio.sleep", clock.sleep),
        mock.patch("trio.sleep_until", clock.sleep_until),
        mock.patch.object(ID, "from_base58", cache(ID.from_base58)),
        mock.patch("psutil.net_if_addrs", dict),  # whatever this machine's networks are, and each look takes a while
    ):
        return trio.run(main, clock=clock)


class Order(random.Random):
    """The order of tasks that are ready at once."""

    def shuffle(self, x: MutableSequence[Any]) -> None:
        if len(x) > 1:  # mostly there is one, for which nothing is drawn
            super().shuffle(x)


@contextmanager
def _ordered(seed: int) -> Iterator[None]:
    # Private, and what trio's own plugin for hypothesis uses.
    run_module: Any = import_module("trio._core._run")
    with (
        mock.patch.object(run_module, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
        mock.patch.object(run_module, "_r", Order(seed)),
    ):
        yield


@contextmanager
def _without_sockets() -> Iterator[None]:
    """Have trio ask the kernel only for what another thread or a signal has left for it: there are no sockets."""
    run_module: Any = import_module("trio._core._run")
    io_manager: Any = run_module.TheIOManager
    get_events = io_manager.get_events

    def left(self: Any, timeout: float) -> Any:
        queue = run_module.GLOBAL_RUN_CONTEXT.runner.entry_queue
        return get_events(self, timeout) if queue.queue or queue.idempotent_queue else ()

    with mock.patch.object(io_manager, "get_events", left):
        yield


@contextmanager
def _without_threads() -> Iterator[None]:
    async def in_caller(work: Callable[..., T], *args: Any, **_options: Any) -> T:
        await trio.lowlevel.cancel_shielded_checkpoint()
        return work(*args)

    with mock.patch("trio.to_thread.run_sync", in_caller), mock.patch("trio._path.run_sync", in_caller):
        yield
