"""Runs trio in virtual time and in an order that a seed decides: the same seed, the same run.

Trio's clock jumps to the next deadline when every task waits. Tasks that are ready at once run in an order drawn from
the seed, as under hypothesis. Threads are none: what would run in one runs in its caller, or the clock would jump
while it works.
"""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any, TypeVar
from unittest import mock

import trio
from libp2p.peer.id import ID

from tests.mesh.courier_simulation import World

T = TypeVar("T")


class JumpingClock(trio.abc.Clock):
    """Is at the next deadline as soon as trio asks how long to wait for it. As MockClock, at half the cost."""

    def __init__(self) -> None:
        self._now = 0.0
        self._nothing = 0

    def start_clock(self) -> None: ...

    def current_time(self) -> float:
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        if deadline == float("inf"):  # as at the very start, until trio has looked at its own socket
            self._nothing += 1
            assert self._nothing < 100, "everything waits for what never comes"
        else:
            self._now, self._nothing = max(self._now, deadline), 0
        return 0.0


class VirtualWorld(World):
    """The simulation's agenda on trio's clock. `drive` runs what is due."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._sooner = trio.Event()

    @property
    def now(self) -> float:
        return trio.current_time()

    @now.setter
    def now(self, value: float) -> None:
        """World sets its time; here trio's clock is the time."""

    def at(self, time: float, action: Callable[[], None]) -> None:
        if not self._agenda or time < self._agenda[0][0]:
            self._sooner.set()
        super().at(time, action)

    async def drive(self) -> None:
        """Run what is due, until cancelled."""
        while True:
            self._sooner = trio.Event()
            while self._agenda and self._agenda[0][0] <= trio.current_time():
                heapq.heappop(self._agenda)[2]()
            with trio.move_on_at(self._agenda[0][0] if self._agenda else float("inf")):
                await self._sooner.wait()


def run(main: Callable[[], Awaitable[T]], seed: int) -> T:
    """Run `main()` to its end."""
    with (
        _ordered(seed),
        _without_threads(),
        mock.patch.object(ID, "from_base58", cache(ID.from_base58)),
        mock.patch("psutil.net_if_addrs", dict),  # whatever this machine's networks are, and each look takes a while
    ):
        return trio.run(main, clock=JumpingClock())


@contextmanager
def _ordered(seed: int) -> Iterator[None]:
    # Private, and what trio's own plugin for hypothesis uses.
    run_module: Any = import_module("trio._core._run")
    with mock.patch.object(run_module, "_ALLOW_DETERMINISTIC_SCHEDULING", True):
        state = run_module._r.getstate()
        run_module._r.seed(seed)
        try:
            yield
        finally:
            run_module._r.setstate(state)


@contextmanager
def _without_threads() -> Iterator[None]:
    async def in_caller(work: Callable[..., T], *args: Any, **_options: Any) -> T:
        await trio.lowlevel.cancel_shielded_checkpoint()
        return work(*args)

    with mock.patch("trio.to_thread.run_sync", in_caller), mock.patch("trio._path.run_sync", in_caller):
        yield
