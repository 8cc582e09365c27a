"""A file that shares its blocks with another one, where the file system can do that: Btrfs, XFS, bcachefs."""

from __future__ import annotations

import fcntl
import sys
from typing import Final

_FICLONE: Final = 0x4004_9409
"""Of linux/fs.h. The fcntl module names it from Python 3.12 on."""


def reflink(source: int, target: int) -> bool:
    """Have an empty file share the blocks that another one has at this moment; return whether that was possible.

    Both are descriptors. What is written to either of them later is its own.
    """
    if sys.platform != "linux":
        return False
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:  # another file system, or one that cannot, or one that is full: a copy says what is wrong
        return False
    return True
