"""openat2(2), which Python has no function for, by ctypes. Which flags to use is the callers' affair."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

# Numbers are the same on x86_64 and aarch64 (Linux's unified table since 5.1).
OPENAT2 = 437

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def openat2(name: str | Path, flags: int, *, directory: int | None = None, resolve: int = 0) -> int:
    """Open `name` (relative to the descriptor `directory`, if given) as openat2(2) does, close-on-exec.

    Raises OSError with the kernel's errno (ELOOP for a refused symbolic link, EXDEV for a way out).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    how = _OpenHow(flags | os.O_CLOEXEC, 0, resolve)
    at_fdcwd = -100
    result = libc.syscall(
        ctypes.c_long(OPENAT2),
        ctypes.c_int(at_fdcwd if directory is None else directory),
        ctypes.c_char_p(os.fsencode(name)),
        ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)),
    )
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(name))
    return int(result)


def open_pinned(path: Path) -> int:
    """An O_PATH descriptor of exactly this absolute path, no component of it a symbolic link.

    Raises OSError: ELOOP where a component is a link.
    """
    return openat2(path, os.O_PATH | os.O_NOFOLLOW, resolve=RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)
