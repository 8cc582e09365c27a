"""How much of what a run left is looked at, and what is said where that was not all. Pure, but for the clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from sandbox.errors import quoted

MAX_ENTRIES: Final = 100_000
"""Entries of one change set."""
MAX_LOOKED_AT: Final = 1_000_000
"""Names in folders, of views and originals together."""
MAX_PATH: Final = 4_095
"""Bytes of a path below its root: what the kernel takes at once."""
MAX_PATHS: Final = 32_000_000
"""Bytes of all paths together, of entries and of folders on the way."""
MAX_FILE: Final = 100_000_000
"""Bytes of one file whose content is kept."""
MAX_KEPT: Final = 1_000_000_000
"""Bytes of all contents that are kept."""
MAX_COMPARED: Final = 2_000_000_000
"""Bytes of the originals that are read to compare them."""
MAX_TEXT: Final = 1_000_000
"""Bytes of a text that is shown whole."""
SECONDS: Final = 120.0
"""Until no more is looked at."""
MAX_SAID: Final = 50
_MAX_SHOWN: Final = 200


class Exhausted(Exception):
    """A bound on the whole change set is reached. Its text is a sentence about it."""


class Bounds:
    """What is left of the bounds, and the sentences about what was not looked at."""

    def __init__(
        self,
        *,
        entries: int = MAX_ENTRIES,
        names: int = MAX_LOOKED_AT,
        seconds: float = SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._entries = entries
        self._names = names
        self._paths = MAX_PATHS
        self._clock = clock
        self._until = clock() + seconds
        self.kept = MAX_KEPT
        """Bytes that may still be kept."""
        self.compared = MAX_COMPARED
        """Bytes of originals that may still be read."""
        self._said: list[str] = []
        self._unsaid = 0

    @property
    def incomplete(self) -> list[str]:
        """The sentences so far, at most 51."""
        return [*self._said, *([f"and {self._unsaid:,} more of this kind"] if self._unsaid else [])]

    def say(self, sentence: str) -> None:
        """Note what was not looked at."""
        if sentence in self._said:
            return
        if len(self._said) < MAX_SAID:
            self._said.append(sentence)
        else:
            self._unsaid += 1

    def look(self) -> None:
        """Count one name that is looked at. Raises Exhausted."""
        self._names -= 1
        if self._names < 0:
            raise Exhausted("there was more than can be examined; the rest is missing here")
        self.tick()

    def tick(self) -> None:
        """Raises Exhausted where the time is over."""
        if self._clock() > self._until:
            raise Exhausted("examining the changes took too long; the rest is missing here")

    def enter(self, path: bytes) -> None:
        """Count one entry of this path. Raises Exhausted."""
        self._entries -= 1
        if self._entries < 0:
            raise Exhausted("there were more changes than a change set can hold; the rest is missing here")
        self.carry(path)

    def carry(self, path: bytes) -> None:
        """Count the bytes of a path that is kept. Raises Exhausted."""
        self._paths -= len(path)
        if self._paths < 0:
            raise Exhausted("the names of what changed are too long together; the rest is missing here")


def shown(path: bytes) -> str:
    """Return a path as words in a sentence: on one line, nothing in it that a screen obeys."""
    return quoted(path.decode("utf-8", "replace"), most=_MAX_SHOWN)


def reason(error: OSError) -> str:
    """What the system says of an error, without the path."""
    return error.strerror or "it failed"
