"""The broker's data folder: private to its user, and locked by one broker at a time. What is in it: storage, tokens."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import IO

from peer.protocol.errors import Conflict, Invalid, Unavailable

LOCK = "lock"


class DataFolder:
    """The folder, created 0700 and locked while the block runs. Raises Unavailable, Conflict, Invalid.

    One broker only: a change wakes the waiting requests of the process it came to, and not those of another one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> Path:
        private_folder(self._folder)
        try:
            lock = open(self._folder / LOCK, "ab", opener=lambda path, flags: os.open(path, flags, 0o600))
        except OSError as error:
            raise _unusable(self._folder, error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise Conflict(
                f"another broker is already running on {self._folder}",
                fix="stop it, or choose another folder with --data",
            ) from None
        self._lock = lock
        return self._folder

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.close()


def existing_data_folder(given: Path) -> Path:
    """Return the data folder that `--data` names; a broker may be running on it. Raises as private_folder, and Invalid
    where there is none."""
    folder = given.expanduser()
    if not folder.is_dir():
        raise Invalid(f"there is no data folder {folder}", fix="name the folder that the broker serves with --data")
    private_folder(folder)
    return folder


def private_folder(folder: Path) -> None:
    """Make the folder, 0700, if there is none; it may be in use. Raises Unavailable, and Invalid if another user could
    read, change or replace what is in it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in (folder, *folder.iterdir()):
            _require_own(path, folder)
        mode = stat.S_IMODE(folder.stat().st_mode)
    except OSError as error:
        raise _unusable(folder, error) from error
    if mode & 0o077:
        raise Invalid(f"other users can access {folder} (mode {mode:04o})", fix=f"`chmod 700 {folder}`")


def _require_own(path: Path, folder: Path) -> None:
    try:
        owner = path.lstat().st_uid
    except FileNotFoundError:
        return  # a running broker's database has files that come and go
    if owner != os.geteuid():
        raise Invalid(
            f"{path} belongs to another user (uid {owner}), so {folder} is not used",
            fix="run the broker as that user, or choose another folder with --data",
        )


def _unusable(folder: Path, error: OSError) -> Unavailable:
    return Unavailable(f"can't use {folder}: {error.strerror}", fix="name another --data")
