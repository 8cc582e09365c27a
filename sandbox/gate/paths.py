"""From a path as the agent spells it to the path on this machine, symbolic links followed; and to what lies there.

A granted folder has one path inside and outside, but the run sees a view of it, and has places of its own. Links are
therefore followed here by hand, component by component, as the run sees them: `notes -> /dispatch/in` leads where it
does for the agent, not where the same text leads on this machine. A run changes what it sees at any moment, so
everything is opened beneath the folder that it sees, through no link: nothing else is ever looked at. Decides nothing.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Final, Protocol

from sandbox.confinement.openat2 import (
    RESOLVE_BENEATH,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    open_pinned,
    openat2,
)
from sandbox.policy.decision import Resolve

_LINKS_FOLLOWED: Final = 40
"""As many as the kernel follows (path_resolution(7))."""

OpenFile = Callable[[str], int]
"""Opens for reading what the run sees in place of a path of this machine; the caller closes the descriptor. OSError."""


class Places(Protocol):
    """What is where inside; a `Profile` is one."""

    def inside(self, path: Path, /) -> Path | None: ...

    def outside(self, path: Path, /) -> Path | None: ...

    def link(self, path: Path, /) -> str | None: ...

    def source(self, path: Path, /) -> tuple[Path, Path] | None: ...


def resolver(places: Places) -> Resolve:
    """A `Resolve`: from a path inside to the one on this machine (in a view, the original's), or to None.

    A path whose last parts do not exist yet resolves as far as it exists and keeps the rest. A loop resolves to None.
    """

    def resolve(path: str) -> str | None:
        at = PurePosixPath("/")
        ahead = _parts(path)
        links = 0
        while ahead:
            name = ahead.pop()
            if name == "..":
                at = at.parent
                continue
            step = at / name
            target = places.link(Path(step)) or _link(places.source(Path(step)))
            if target is None:
                at = step
                continue
            links += 1
            if links > _LINKS_FOLLOWED:
                return None
            if target.startswith("/"):
                at = PurePosixPath("/")
            ahead += _parts(target)
        meant = places.outside(Path(at))
        return None if meant is None else str(meant)

    return resolve


def opener(places: Places) -> OpenFile:
    """An `OpenFile` for paths that `resolver` gave. A link on the way, made since, is an OSError (ELOOP)."""

    def open_file(path: str) -> int:
        seen = places.inside(Path(path))
        source = None if seen is None else places.source(seen)
        if source is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return _open(*source, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)

    return open_file


def _open(top: Path, rest: Path, flags: int) -> int:
    folder = open_pinned(top)
    try:
        if not rest.parts:
            return os.open(f"/proc/self/fd/{folder}", flags | os.O_CLOEXEC)
        resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
        return openat2(rest, flags | os.O_NOFOLLOW, directory=folder, resolve=resolve)
    finally:
        os.close(folder)


def _parts(path: str) -> list[str]:
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _link(source: tuple[Path, Path] | None) -> str | None:
    if source is None or not source[1].parts:
        return None
    try:
        found = _open(*source, os.O_PATH)
    except (OSError, ValueError):
        return None
    try:
        return os.readlink("", dir_fd=found)
    except OSError:
        return None
    finally:
        os.close(found)
