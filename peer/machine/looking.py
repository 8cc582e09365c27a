"""Looking at files that nobody vouches for: bounded, through no link unless asked, and never waiting for a pipe."""

from __future__ import annotations

import os
import stat
from itertools import islice
from pathlib import Path
from typing import Final

ENTRIES: Final = 200
"""The most entries of one folder that are looked at."""
_LINKS: Final = 40
"""As many as the kernel follows (path_resolution(7))."""


def names(folder: Path) -> list[str]:
    """Some names in a folder, sorted; none for what is no folder (a link is none)."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (OSError, ValueError):
        return []
    try:
        with os.scandir(descriptor) as entries:
            return sorted(entry.name for entry in islice(entries, ENTRIES))
    except OSError:
        return []
    finally:
        os.close(descriptor)


def start(path: Path, most: int) -> bytes:
    """The first bytes of a plain file, none for anything else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return b""
    try:
        return os.read(descriptor, most) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def text(path: Path, most: int) -> str:
    """As `start`, as text."""
    return start(path, most).decode("utf-8", "replace")


def trail(path: Path) -> tuple[Path, ...]:
    """`path` (absolute) and each path that it stands for, link after link; the last one is real.

    Empty where the links do not end, something is missing, or a name cannot be one.
    """
    found = [path]
    try:
        while len(found) <= _LINKS:
            following = _following(found[-1])
            if following is None:
                found[-1].lstat()
                return tuple(found)
            found.append(following)
    except (OSError, ValueError):
        pass
    return ()


def _following(path: Path) -> Path | None:
    """`path` with its first link replaced by what that names; None where no link is on the way."""
    at = Path("/")
    parts = path.parts[1:]
    for number, part in enumerate(parts):
        if part == "..":
            at = at.parent
        elif (at / part).is_symlink():
            return at / (at / part).readlink() / Path(*parts[number + 1 :])
        else:
            at /= part
    return None if at == path else at
