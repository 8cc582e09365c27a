"""The broker's data folder: private to its user, and locked by one broker at a time. What is in it: storage, tokens."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import IO

from peer.protocol.errors import Conflict, Invalid, Unavailable


class DataFolder:
    """The folder, created 0700 and locked while the block runs. Raises Unavailable, Conflict, Invalid.

    One broker only: a change wakes the waiting requests of the process it came to, and not those of another one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> Path:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._require_own()
            lock = (self._folder / "lock").open("ab")
        except OSError as error:
            raise Unavailable(f"can't use {self._folder}: {error.strerror}", fix="name another --data") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise Conflict(f"another broker runs on {self._folder}", fix="stop it, or name another --data") from None
        self._lock = lock
        return self._folder

    def _require_own(self) -> None:
        """Raise Invalid if another user could read, change or replace what is in the folder."""
        for path in (self._folder, *self._folder.iterdir()):
            status = path.lstat()
            if status.st_uid != os.geteuid():
                raise Invalid(
                    f"{path} belongs to another user (uid {status.st_uid}), so nothing in {self._folder} is used",
                    fix="run the broker as that user, or name another --data",
                )
        mode = stat.S_IMODE(self._folder.stat().st_mode)
        if mode & 0o077:
            raise Invalid(f"others can reach {self._folder} (mode {mode:04o})", fix=f"`chmod 700 {self._folder}`")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.close()
