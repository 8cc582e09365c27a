"""Files of the data folder that hold a secret of the broker's own: made at the first start, read from then on."""

from __future__ import annotations

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from peer.protocol.errors import Invalid, Unavailable

RANDOM_BYTES = 32
MIN_TEXT = 32
"""Bytes: RFC 7518 3.2 asks for a key at least as long as the hash, which is SHA-256."""
_MAX_TEXT = 4096


def kept_secret(path: Path, *, if_removed: str) -> bytes:
    """Return the text in the file at `path`; where there is none it is made, 0600: RANDOM_BYTES random bytes in hex.

    Two processes that make it at the same time get the same text. `if_removed` says what happens once the file is
    removed, for the fix. Raises Invalid for a file that others can read or that is damaged, Unavailable where the disk
    fails.
    """
    try:
        try:
            return _read(path, if_removed)
        except FileNotFoundError:
            _make(path)
            return _read(path, if_removed)
    except OSError as error:
        raise Unavailable(
            f"can't use {path}: {error.strerror}", fix="repair or free the disk, or choose another folder with --data"
        ) from error


def damaged(path: Path, *, if_removed: str) -> Invalid:
    """Return the error for a file whose content is not what was written there."""
    return Invalid(f"{path} is damaged", fix=f"restore it from a backup, or remove it ({if_removed})")


def _read(path: Path, if_removed: str) -> bytes:
    # Not blocking, since a pipe in its place would be waited for.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise Invalid(f"other users can read {path}", fix=f"`chmod 600 {path}`, or remove it ({if_removed})")
        text = file.read(_MAX_TEXT).strip()
    if len(text) < MIN_TEXT:
        raise damaged(path, if_removed=if_removed)
    return text


def _make(path: Path) -> None:
    # Written whole under another name first: a reader never finds half of it, and neither does a start after a crash.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_hex(RANDOM_BYTES).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # somebody else's, made in the meantime, holds
            os.link(name, path)
    finally:
        os.unlink(name)  # noqa: PTH108 - a plain name, as mkstemp gives it
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
