"""Files and folders by descriptors, where a run made them: one name at a time, no link followed, nothing opened but
regular files and folders. What is closed is opened for its owner, since a run may close what it leaves.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sandbox.changes.bounds import MAX_TEXT
from sandbox.changes.text import is_plain

FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
PIN: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK: Final = 1 << 20
_MAX_HANDLE: Final = 128
_AT_EMPTY_PATH: Final = 0x1000


@dataclass(frozen=True, slots=True)
class Digest:
    """What a file holds. `plain`: it is text that can be shown whole (text.py)."""

    sha256: str
    size: int
    plain: bool


class TooLarge(Exception):
    """A file has more bytes than are read of one."""


def reopened(pinned: int, *, ours: bool) -> int:
    """Open what an O_PATH descriptor names for reading; with `ours`, give its owner the permission. Raises OSError."""
    path = f"/proc/self/fd/{pinned}"
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(path, flags)
    except PermissionError:
        if not ours:
            raise
        about = os.fstat(pinned)
        needed = 0o700 if stat.S_ISDIR(about.st_mode) else 0o600
        # The descriptor names exactly this file, whatever has its name by now (proc_pid_fd(5)).
        os.chmod(path, stat.S_IMODE(about.st_mode) & 0o777 | needed)  # noqa: PTH101
        return os.open(path, flags)


def let_in(folder: int, name: str) -> None:
    """Give the owner of an inner folder, left by a run, all permissions on it. Raises OSError."""
    pinned = os.open(name, PIN | os.O_DIRECTORY, dir_fd=folder)
    try:
        os.chmod(f"/proc/self/fd/{pinned}", 0o700)  # noqa: PTH101
    finally:
        os.close(pinned)


def digest(file: int, most: int, tick: Callable[[], None]) -> Digest:
    """Hash an open regular file. `tick` is called now and then, and may raise. Raises TooLarge, OSError."""
    hashed = hashlib.sha256()
    size = 0
    kept: list[bytes] | None = []
    while chunk := os.read(file, _CHUNK):
        tick()
        size += len(chunk)
        if size > most:
            raise TooLarge
        hashed.update(chunk)
        if kept is not None:
            kept.append(chunk)
            if size > MAX_TEXT:
                kept = None
    return Digest(hashed.hexdigest(), size, kept is not None and is_plain(b"".join(kept)))


class _FileHandle(ctypes.Structure):
    _fields_ = (
        ("bytes", ctypes.c_uint),
        ("type", ctypes.c_int),
        ("content", ctypes.c_ubyte * _MAX_HANDLE),
    )


Handle = tuple[int, bytes]
"""The type and content of a file handle."""


def handle(descriptor: int) -> Handle | None:
    """The file handle that name_to_handle_at(2) gives; None where the file system has none."""
    found = _FileHandle(_MAX_HANDLE, 0)
    mount = ctypes.c_int()
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.name_to_handle_at(
        ctypes.c_int(descriptor),
        ctypes.c_char_p(b""),
        ctypes.byref(found),
        ctypes.byref(mount),
        ctypes.c_int(_AT_EMPTY_PATH),
    )
    return (found.type, bytes(found.content[: found.bytes])) if done == 0 else None
