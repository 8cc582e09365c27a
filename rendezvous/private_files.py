"""Files of the data folder that hold a secret of the broker's own: made at the first start, read from then on.

Replacing one by hand is a rotation's (rotation.py), copying them a backup's (backup.py).
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
    with _as_unavailable(path):
        try:
            return _read(path, if_removed)
        except FileNotFoundError:
            with suppress(FileExistsError):  # somebody else's, made in the meantime, holds
                make_private(path, new_secret())
            return _read(path, if_removed)


def existing_secret(path: Path, *, if_removed: str) -> bytes | None:
    """Return the text in the file at `path`, or None where there is none. Raises as kept_secret."""
    with _as_unavailable(path):
        try:
            return _read(path, if_removed)
        except FileNotFoundError:
            return None


def new_secret() -> bytes:
    """Return what a file with a new secret contains."""
    return secrets.token_hex(RANDOM_BYTES).encode() + b"\n"


def make_private(path: Path, content: bytes, *, replacing: bool = False) -> None:
    """Make the file, 0600, with this content: whole or not at all, and on disk. Raises OSError.

    `replacing`: in place of the one that is there; otherwise that is FileExistsError.
    """
    # Written whole under another name first: a reader never finds half of it, and neither does a start after a crash.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replacing:
            os.replace(name, path)  # noqa: PTH105 - a plain name, as mkstemp gives it
        else:
            os.link(name, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)  # noqa: PTH108 - as above
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Return once the names in the folder are on disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


@contextmanager
def _as_unavailable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"can't use {path}: {error.strerror}", fix="repair or free the disk, or choose another folder with --data"
        ) from error
