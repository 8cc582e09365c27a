"""Files in a tool's cache, and room for copies of them in a run's. Looks, and runs nothing. Blocking."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import structlog

from sandbox import frames

log = structlog.get_logger(__name__)

_ENTRIES: Final = 20_000
"""The most entries of one folder of a cache that are looked at; cargo's has thousands."""
_LONGEST_PLACE: Final = 1_000
"""Characters, as in `frames.Seed`."""


class File(NamedTuple):
    """A file of a cache: `path` on this machine, `place` below a run's caches."""

    path: Path
    place: str


@dataclass(slots=True)
class Room:
    """What one run gets: at most `files` files of `size` bytes in all, which a start frame names in `naming` bytes.

    All three shrink with each file that is taken.
    """

    files: int
    size: int
    naming: int
    taken: dict[str, frames.Seed] = field(default_factory=dict)

    def take(self, files: list[File]) -> None:
        """Take all of these files, or, where they do not fit or cannot be named in a frame, none."""
        new = [frames.Seed(path=str(file.path), place=file.place) for file in files if file.place not in self.taken]
        sizes = [_size(Path(seed.path)) for seed in new]
        size = sum(each or 0 for each in sizes)
        naming = _bytes_in_frame(new)
        if None in sizes or naming is None or naming > self.naming or not self.holds(len(new), size):
            left_out(files[-1].path, "does not fit, is not a plain file, or has an invalid name")
            return
        self.files -= len(new)
        self.size -= size
        self.naming -= naming
        self.taken.update({seed.place: seed for seed in new})

    def holds(self, files: int, size: int) -> bool:
        """Whether there is room for `files` more files of `size` bytes in all."""
        return files <= self.files and size <= self.size


def left_out(path: Path, why: str) -> None:
    """Log, for whoever looks for it, that a run does not get something that a lock file names."""
    log.debug("cached_file_left_out", path=ascii(str(path)), why=why)


def names(folder: Path) -> list[str]:
    """Names in a folder of a cache."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in islice(entries, _ENTRIES)]
    except (OSError, ValueError):
        return []


def size_of(path: Path) -> int:
    """Bytes of a plain file, reached through no link of its own; 0 for anything else."""
    return _size(path) or 0


def _size(path: Path) -> int | None:
    try:
        about = path.lstat()
    except (OSError, ValueError):
        return None
    return about.st_size if stat.S_ISREG(about.st_mode) else None


def without_links(root: Path, *parts: str) -> Path | None:
    """The path of `parts` below `root`, or None where one of them is a link or is missing. `root` itself may be one."""
    try:
        real = root.resolve(strict=True)
        path = real.joinpath(*parts)
        return path if path.resolve(strict=True) == path else None
    except (OSError, ValueError, RuntimeError):
        return None


def _bytes_in_frame(seeds: list[frames.Seed]) -> int | None:
    """None for what a frame cannot hold."""
    if any(len(seed.place) > _LONGEST_PLACE for seed in seeds):
        return None
    try:
        return len(msgspec.json.encode(seeds))
    except UnicodeEncodeError:
        return None
