"""Finds the state folders of this user on this machine, as far as possible. Does not read the files in them.

Every folder found is hidden from runs, so that no confined process can sign as any of this user's identities.
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
"""The most entries of one folder that are examined; /proc included."""
_VARIABLE: Final = b"DISPATCH_HOME="


def all_state_folders(own: Path) -> tuple[Path, ...]:
    """Return `own`, then the real paths of all others that were found. Blocking; takes some milliseconds.

    Examined: the default folder, $DISPATCH_HOME of this user's processes, the folders beside `own`, and those in the
    home folder and its usual places for programs' data.
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
    """Whether the folder has a key file that this user owns. If not, others could get any folder hidden from runs."""
    try:
        found = (folder / _KEY).lstat()
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
