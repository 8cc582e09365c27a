"""The way through a tree of folders that somebody hostile made: depth first, by descriptors, whatever its depth.

No recursion, no path of more than one component, no link followed, at most OPEN + 1 descriptors open. What is done with
what lies in a folder, and how much of it is looked at, is the caller's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

OPEN: Final = 32
"""Folders kept open on the way down. Those above are found again by `..`, and compared with what they were."""
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

Parts = tuple[str, ...]


@dataclass(slots=True)
class Folder:
    """One folder of a walk, until its next step. `inner`: names in it that the walk is to enter, filled by the caller.
    `path`: the names that lead to it; the walk's own list.
    """

    descriptor: int
    path: list[str]
    inner: list[str] = field(default_factory=list)

    @property
    def depth(self) -> int:
        return len(self.path)

    @property
    def parts(self) -> Parts:
        return tuple(self.path)


def walk(top: int, failed: Callable[[Parts, OSError], None] | None = None) -> Iterator[Folder]:
    """Yield the folder `top`, a descriptor that is closed at the end, and every folder below that `inner` names.

    `failed` is called for each that cannot be entered; for a folder whose way back is lost, because it was moved
    meanwhile, the walk ends there.
    """
    way = _Way(top)
    waiting: list[list[str]] = []
    try:
        while True:
            here = Folder(way.descriptor, way.path)
            yield here
            waiting.append(here.inner)
            entered = False
            while not entered:
                if waiting[-1]:
                    name = waiting[-1].pop()
                    try:
                        way.enter(name)
                        entered = True
                    except OSError as error:
                        if failed is not None:
                            failed((*way.path, name), error)
                    continue
                waiting.pop()
                if not waiting:
                    return
                try:
                    way.leave()
                except OSError as error:
                    if failed is not None:
                        failed(tuple(way.path), error)
                    return
    finally:
        way.close()


class _Way:
    """From the top to where the walk is."""

    def __init__(self, top: int) -> None:
        self.path: list[str] = []
        self.descriptor = top
        self._above: list[int | None] = []
        self._known: list[tuple[int, int]] = []

    def enter(self, name: str) -> None:
        found = os.open(name, _FOLDER, dir_fd=self.descriptor)
        about = os.fstat(self.descriptor)
        self._known.append((about.st_dev, about.st_ino))
        self._above.append(self.descriptor)
        self.path.append(name)
        self.descriptor = found
        if len(self._above) > OPEN and (oldest := self._above[-OPEN - 1]) is not None:
            os.close(oldest)
            self._above[-OPEN - 1] = None

    def leave(self) -> None:
        """Go back up. Raises OSError, and stays, where `..` is not the folder that was come from."""
        parent = self._above[-1]
        if parent is None:
            parent = os.open("..", _FOLDER, dir_fd=self.descriptor)
            about = os.fstat(parent)
            if (about.st_dev, about.st_ino) != self._known[-1]:
                os.close(parent)
                raise FileNotFoundError("the folder was moved")
        self._above.pop()
        self._known.pop()
        self.path.pop()
        os.close(self.descriptor)
        self.descriptor = parent

    def close(self) -> None:
        for descriptor in (*self._above, self.descriptor):
            if descriptor is not None:
                os.close(descriptor)
        self._above = []
