"""Finding the programs of this machine that the sandbox stands on: on PATH, and nobody else's. Starts none of them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FIRST: Final = "/usr/bin"
"""Looked at before PATH: the AppArmor profile that lets bubblewrap make namespaces names /usr/bin/bwrap."""
SYSTEM: Final = ("/usr/local/bin", "/usr/bin", "/bin", "/run/current-system/sw/bin")
"""Looked at after PATH, which a daemon that was started by a service manager may not have. The last one is NixOS's."""
_MOST_LINKS: Final = 40
"""As many as the kernel follows (path_resolution(7))."""
_OVERFLOW: Final = 65534
"""Whom the kernel shows as the owner where a user namespace has no number for them (user_namespaces(7))."""


@dataclass(frozen=True, slots=True)
class Search:
    """`path`: the program, "" if there is none. `others`: what was passed over since somebody else could change it."""

    path: str = ""
    others: tuple[str, ...] = ()


def find(name: str, path: str | None = None, *, fits: Callable[[str], bool] | None = None) -> Search:
    """Look for `name` in /usr/bin, then in `path` (PATH of this process), then where systems have their programs.

    A program counts if nobody but root and this user can replace it: it and every folder above it, links followed,
    belong to one of the two, and no folder is open to all. Of several that count, the first that `fits`; where none
    does, the first. It is asked only where there is a choice.
    """
    others: list[str] = []
    found: dict[str, str] = {}
    for folder in _folders(path):
        candidate = f"{folder}/{name}"
        if not Path(candidate).is_file() or not os.access(candidate, os.X_OK):
            continue
        if not owned(candidate):
            others.append(candidate)
            continue
        found.setdefault(os.path.realpath(candidate), candidate)
        if fits is None:
            break
    several = list(found.values())
    chosen = next((each for each in several if fits is not None and len(several) > 1 and fits(each)), "")
    return Search(chosen or next(iter(several), ""), tuple(dict.fromkeys(others)))


def search_path(path: str | None = None) -> str:
    """A PATH for our own programs: the folders of `path` (PATH of this process) that count, and the system's."""
    return os.pathsep.join(dict.fromkeys(folder for folder in _folders(path)[1:] if owned(folder)))


def owned(path: str) -> bool:
    """Whether nobody but root and this user can change what `path` names."""
    trusted = {0, os.geteuid()}
    if not _root_is_mapped():
        trusted.add(_OVERFLOW)
    for place in _steps_to(path):
        for part in (Path(place), *Path(place).parents):
            try:
                found = part.stat()
            except OSError:
                return False
            open_to_all = found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX
            if found.st_uid not in trusted or open_to_all:
                return False
    return True


def _steps_to(path: str) -> list[str]:
    """`path`, what it links to, what that links to, and so on, and where all of it really is."""
    steps = [path]
    while len(steps) <= _MOST_LINKS and Path(steps[-1]).is_symlink():
        steps.append(os.path.normpath(Path(steps[-1]).parent / Path(steps[-1]).readlink()))
    return [*steps, os.path.realpath(path)]


def _folders(path: str | None) -> list[str]:
    given = (os.environ.get("PATH", "") if path is None else path).split(os.pathsep)
    return [FIRST, *(folder for folder in given if folder.startswith("/")), *SYSTEM]


def _root_is_mapped() -> bool:
    """Whether files of root are shown as root's. They are not in dp-agent's own namespace, of an ordinary user."""
    return any(outside <= 0 < outside + count for _, outside, count in _uid_map())


def _uid_map() -> Iterator[tuple[int, int, int]]:
    try:
        lines = Path("/proc/self/uid_map").read_text().splitlines()
    except OSError:
        return  # no user namespaces in this kernel
    for line in lines:
        inside, outside, count = map(int, line.split())
        yield inside, outside, count
