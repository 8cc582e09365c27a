"""Whose turn it is among connections that have proven nothing, so that they take little of an event loop from others.

Each pass of an event loop runs every task that can go on. Were they all strangers' that have just sent something, a
contact's request would wait for a step of each of them, in each of the passes that it takes. Pure: what lets one go on,
and how something is done in the next pass, are callables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

PASSES: Final = 16
"""Passes of the event loop after which the next one's turn begins all the same: a turn that waits holds up nobody."""

Later = Callable[[Callable[[], object]], object]


class Turns:
    """Lets one at a time go on, the first that came. `later(what)` does something in the next pass of the event loop.

    Who has a turn gives it back before it waits for anything; whoever waits is named by any hashable object.
    """

    def __init__(self, later: Later) -> None:
        self._later = later
        self._waiting: dict[object, Callable[[], object]] = {}
        self._holder: object = None
        self._passes = 0
        self._passing = False

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def ask(self, who: object, go_on: Callable[[], object]) -> None:
        """Call `go_on` when it is the turn of `who`, which may be at once."""
        if self._passing:
            self._waiting[who] = go_on
            return
        self._passing = True
        self._begin(who, go_on)
        self._later(self._pass_on)

    def give_back(self, who: object) -> None:
        """End a turn. Whoever waits for one instead, in another task, goes on without it. Idempotent."""
        if (go_on := self._waiting.pop(who, None)) is not None:
            go_on()
        if self._holder is who:
            self._holder = None

    def _begin(self, who: object, go_on: Callable[[], object]) -> None:
        self._holder, self._passes = who, 0
        go_on()

    def _pass_on(self) -> None:
        self._passes += 1
        if self._holder is None or self._passes >= PASSES:
            self._holder = None
            self._passing = bool(self._waiting)
            if self._passing:
                who = next(iter(self._waiting))
                self._begin(who, self._waiting.pop(who))
        if self._passing:
            self._later(self._pass_on)


class Place:
    """One connection's place among those that take turns, from the turn in which it is accepted until it is free."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._then: list[Callable[[], object]] = []
        self._cancel: Callable[[], object] | None = None
        self.is_free = False
        """Whether it needs no turns any more: it has proven what it had to, or is gone."""

    def ask(self, then: Callable[[], object]) -> None:
        """Call `then` in its turn. Several tasks of one connection may ask; all of them go on in it."""
        self._then.append(then)
        self._turns.ask(self, self._go_on)

    def give_back(self) -> None:
        """End its turn. Idempotent."""
        self._turns.give_back(self)

    def end(self, cancel: Callable[[], object]) -> None:
        """Call `cancel` in its turn, the one that it waits for or one for that alone, unless it is free by then."""
        self._cancel = cancel
        if self.is_free:
            cancel()
        else:
            self._turns.ask(self, self._go_on)

    def free(self) -> None:
        """Need no turn any more; what waits for one goes on. Idempotent."""
        self.is_free = True
        self._turns.give_back(self)

    def _go_on(self) -> None:
        if self._cancel is not None and not self.is_free:
            self._cancel()
        then, self._then = self._then, []
        for each in then:
            each()
