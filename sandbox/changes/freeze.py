"""Keeps the contents that a run left: files named by their SHA-256, which nobody but this machine's user can read."""

from __future__ import annotations

import ctypes
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from sandbox.changes.descriptors import FOLDER

_CHUNK: Final = 1 << 20
_TEMPORARY: Final = ".partial-"


class Blobs:
    """The folder of contents at `path`, made if it is missing. A context manager. Raises OSError."""

    def __init__(self, path: Path) -> None:
        path.mkdir(mode=0o700, exist_ok=True)
        self._folder = os.open(path, FOLDER)
        for name in _names(self._folder):
            if name.startswith(_TEMPORARY):
                os.unlink(name, dir_fd=self._folder)

    def __enter__(self) -> Blobs:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._folder)

    def keep(self, file: int, sha256: str) -> None:
        """Keep the content of an open file, whose hash this is, for this user alone: as a second name, or else a copy.

        Raises OSError.
        """
        if os.fstat(file).st_mode & stat.S_IXUSR:
            # The permission to execute is part of the change, and lost if this is done again after a crash.
            self._copy(file, sha256)
            return
        try:
            os.fchmod(file, 0o600)
            # Given a folder's descriptor, Python calls linkat(2), which follows the link that /proc has there.
            os.link(f"/proc/self/fd/{file}", sha256, dst_dir_fd=self._folder, follow_symlinks=True)
        except FileExistsError:
            return
        except OSError:
            self._copy(file, sha256)

    def _copy(self, file: int, sha256: str) -> None:
        fresh = f"{_TEMPORARY}{secrets.token_hex(8)}"
        copy = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self._folder)
        try:
            try:
                os.lseek(file, 0, os.SEEK_SET)
                while chunk := os.read(file, _CHUNK):
                    rest = memoryview(chunk)
                    while rest:
                        rest = rest[os.write(copy, rest) :]
            finally:
                os.close(copy)
            os.rename(fresh, sha256, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except OSError:
            with suppress(FileNotFoundError):
                os.unlink(fresh, dir_fd=self._folder)
            raise

    def sync(self) -> None:
        """Write what was kept to the disk. Raises OSError."""
        # One call for all of them: a file each would be many thousand waits for the disk.
        ctypes.CDLL(None, use_errno=True).syncfs(ctypes.c_int(self._folder))
        os.fsync(self._folder)


def _names(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]
