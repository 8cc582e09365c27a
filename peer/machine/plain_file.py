"""Reading a file that a person named: a plain file of bounded size, or an error with its fix. Secrets: state_folder.py.

What is named may be a pipe, which nobody writes to, a device without end, or a folder. Nothing here waits for one.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from peer.protocol.errors import Invalid, NotFound, TooLarge, Unavailable


def open_plain(path: Path) -> BinaryIO:
    """Open a plain file to read; links are followed. Raises NotFound, Invalid (another kind, no name), Unavailable."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}", fix="check the path") from error
    except ValueError as error:  # NUL, or a character that no file name can have
        raise Invalid(f"{str(path)!r} is not a file name", fix="check the path") from error
    except OSError as error:
        raise Unavailable(f"can't read {path}: {error.strerror}", fix="check the path and its permissions") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Invalid(f"{path} is not a plain file", fix="name a file, not a folder, pipe or device")
    return os.fdopen(descriptor, "rb")


def read_plain(path: Path, *, limit: int) -> bytes:
    """Return the content of a plain file of at most `limit` bytes. Raises as `open_plain`, TooLarge, Unavailable."""
    with open_plain(path) as file:
        try:
            data = file.read(limit + 1)
        except OSError as error:
            raise Unavailable(f"can't read {path}: {error.strerror}", fix="check the disk") from error
    if len(data) > limit:
        raise TooLarge(f"{path} has more than {limit} bytes", fix="name a smaller file")
    return data
