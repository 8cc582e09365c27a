"""Which state folders of this person there are on this machine, as far as that can be found out. Reads none of them.

A run and what works for it is to sign as nobody: neither as the identity that runs it, nor as another of the person's.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

_KEY: Final = "device.key"
_ENTRIES: Final = 2_000
"""Of one folder that are looked at, and processes."""
_VARIABLE: Final = b"DISPATCH_HOME="


def all_state_folders(own: Path) -> tuple[Path, ...]:
    """`own` first, then the real paths of the default one, of those that processes of this user were started with, and
    of those beside `own` or where programs keep their things in the home folder. Blocking, some milliseconds.
    """
    home = Path.home()
    likely = {home / ".dispatch", *_of_processes()}
    for folder in (own.parent, home, home / ".config", home / ".local/share", home / ".local/state"):
        likely.update(_entries(folder))
    real = {path.resolve() for path in likely if path.is_absolute() and _holds_our_key(path)}
    return (own, *sorted(real - {own}))


def _of_processes() -> Iterator[Path]:
    for process in _entries(Path("/proc")):
        if process.name.isdigit():
            try:
                if process.stat().st_uid != os.geteuid():
                    continue
                variables = (process / "environ").read_bytes().split(b"\0")
            except OSError:
                continue  # another user's, or gone
            yield from (Path(os.fsdecode(item[len(_VARIABLE) :])) for item in variables if item.startswith(_VARIABLE))


def _entries(folder: Path) -> Iterable[Path]:
    try:
        with os.scandir(folder) as found:
            return [Path(entry.path) for entry in islice(found, _ENTRIES)]
    except OSError:
        return ()


def _holds_our_key(folder: Path) -> bool:
    """Others must not make a folder vanish by putting a file into it, or by a variable."""
    try:
        found = (folder / _KEY).lstat()
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
