"""What a folder holds, to compare before and after: names, kinds, modes, owners, contents, times, attributes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

Tree = dict[bytes, tuple[object, ...]]


def tree(top: Path) -> Tree:
    """Everything below `top`, itself included, by its relative path."""
    out: Tree = {}
    waiting = [os.fsencode(top)]
    while waiting:
        path = waiting.pop()
        about = os.lstat(path)
        content: bytes = b""
        if stat.S_ISREG(about.st_mode):
            with open(path, "rb") as file:  # noqa: PTH123 - bytes
                content = file.read()
        elif stat.S_ISLNK(about.st_mode):
            content = os.readlink(path)  # noqa: PTH115 - bytes
        elif stat.S_ISDIR(about.st_mode):
            waiting += [os.path.join(path, name) for name in os.listdir(path)]  # noqa: PTH118, PTH208 - bytes
        attributes = [(name, os.getxattr(path, name, follow_symlinks=False)) for name in _attributes(path)]
        out[os.path.relpath(path, os.fsencode(top))] = (
            about.st_mode,
            about.st_uid,
            about.st_gid,
            about.st_nlink,
            about.st_ino,
            about.st_rdev,
            about.st_mtime_ns,
            content,
            tuple(attributes),
        )
    return out


def _attributes(path: bytes) -> list[str]:
    try:
        return sorted(os.listxattr(path, follow_symlinks=False))
    except OSError:
        return []
