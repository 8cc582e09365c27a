"""Two things that Python has no function for: renameat2(2), and whether another program has a file open to write."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
from typing import Final

NOREPLACE: Final = 1
EXCHANGE: Final = 2

_libc = ctypes.CDLL(None, use_errno=True)


def rename(from_folder: int, from_name: bytes, to_folder: int, to_name: bytes, flags: int) -> None:
    """Rename as renameat2(2) does. Raises OSError: EEXIST with NOREPLACE, EINVAL where a file system lacks the flag."""
    result = _libc.renameat2(
        ctypes.c_int(from_folder),
        ctypes.c_char_p(from_name),
        ctypes.c_int(to_folder),
        ctypes.c_char_p(to_name),
        ctypes.c_uint(flags),
    )
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def is_open_to_write(descriptor: int) -> bool:
    """Return whether any program has the file behind this read-only descriptor open to write, or mapped so.

    The kernel gives a read lease only where there is none. False where it gives none at all: a file of another user,
    a file system without leases.
    """
    try:
        # Who opens the file to write while the lease stands is let in, and the signal of it is one that is ignored.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False
