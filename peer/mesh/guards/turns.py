"""Turns of those who have proven nothing, so that they take little of the event loop from everybody else.

Each pass of an event loop runs every task that can go on. Were they all strangers' that have just sent something, a
contact's request would wait for a step of each of them, in each of the passes that it takes.
"""

from __future__ import annotations

from typing import Final

import trio

PASSES: Final = 16
"""Passes of the event loop after which the next one's turn begins all the same: a turn that waits holds up nobody."""


class Turns:
    """Lets one task at a time go on, the first that came. It gives its turn back before it waits for others."""

    def __init__(self) -> None:
        self._waiting = trio.lowlevel.ParkingLot()
        self._holder: trio.lowlevel.Task | None = None
        self._passes = 0
        self._passing = False

    async def take(self) -> None:
        """Wait for a turn."""
        if self._passing:
            await self._waiting.park()
        else:
            self._passing = True
            self._pass_on_later()
        self._holder, self._passes = trio.lowlevel.current_task(), 0

    def give_back(self) -> None:
        """End this task's turn, if it still has it."""
        if self._holder is trio.lowlevel.current_task():
            self._holder = None

    def _pass_on_later(self) -> None:
        trio.lowlevel.current_trio_token().run_sync_soon(self._pass_on)

    def _pass_on(self) -> None:
        self._passes += 1
        if self._holder is None or self._passes >= PASSES:
            self._holder = None
            self._passing = bool(self._waiting)
            self._waiting.unpark()
        if self._passing:
            self._pass_on_later()
