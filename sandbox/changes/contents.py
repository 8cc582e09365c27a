"""The old and the new content of an entry, as bytes: what is shown of a change set. Bounded; it follows no link."""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from sandbox.changes.bounds import MAX_TEXT
from sandbox.changes.values import BLOBS, Base, ChangeSet, Entry
from sandbox.confinement.openat2 import (
    RESOLVE_BENEATH,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    open_pinned,
    openat2,
)

_BENEATH: Final = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS
_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


class Unshown(Exception):
    """A content is not shown. Its text says why."""


def new_content(entry: Entry, folder: Path) -> bytes | None:
    """What the run left, from the blobs beside changes.json in `folder`; None where it left nothing. Raises Unshown."""
    if entry.change == "deleted":
        return None
    if not entry.sha256:
        raise Unshown("its content was not kept")
    if entry.size > MAX_TEXT:
        raise Unshown("too large")
    try:
        file = os.open(folder / BLOBS / entry.sha256, _READ | os.O_NOFOLLOW)
        return _read(file, entry.sha256)
    except OSError as error:
        raise Unshown("its content is not here") from error


def commits_text(entry: Entry, folder: Path) -> str:
    """Each commit of an entry with its message and its diff, as that was kept. Raises Unshown."""
    if not entry.text:
        raise Unshown("it was not kept")
    try:
        return _read(os.open(folder / BLOBS / entry.text, _READ | os.O_NOFOLLOW), entry.text).decode("utf-8", "replace")
    except OSError as error:
        raise Unshown("its text is not here") from error


def old_content(path: bytes, base: Base | None, root: Path) -> bytes | None:
    """What the person's folder `root` holds there, if it is what `base` says; None for nothing. Raises Unshown."""
    if base is None:
        return None
    if base.kind != "file" or not base.sha256:
        raise Unshown("it does not replace a plain file, or that file was not read")
    if base.size > MAX_TEXT:
        raise Unshown("too large")
    try:
        top = open_pinned(root)
        try:
            pinned = (
                os.dup(top)
                if not path
                else openat2(os.fsdecode(path), os.O_PATH | os.O_NOFOLLOW, directory=top, resolve=_BENEATH)
            )
        finally:
            os.close(top)
        try:
            if not stat.S_ISREG(os.fstat(pinned).st_mode):
                raise Unshown("it changed meanwhile")
            return _read(os.open(f"/proc/self/fd/{pinned}", _READ), base.sha256)
        finally:
            os.close(pinned)
    except (OSError, ValueError) as error:
        raise Unshown("what your folder holds cannot be read") from error


def _read(file: int, sha256: str) -> bytes:
    with os.fdopen(file, "rb") as source:
        content = source.read(MAX_TEXT + 1)
    if len(content) > MAX_TEXT or hashlib.sha256(content).hexdigest() != sha256:
        raise Unshown("it changed meanwhile")
    return content


class Texts:
    """The contents of a change set that was read just now. `folder`: where its blobs are."""

    def __init__(self, changes: ChangeSet, folder: Path) -> None:
        self._roots = {view.number: Path(view.root) for view in changes.views}
        self._folder = folder

    def of(self, entry: Entry) -> tuple[bytes | None, bytes | None]:
        """(old, new), each None where there is none. Raises Unshown."""
        return old_content(entry.path, entry.base, self._roots[entry.view]), new_content(entry, self._folder)


def decoded(content: bytes | None) -> str | None:
    """Return a content as text. Raises Unshown."""
    if content is None:
        return None
    with suppress(UnicodeDecodeError):
        text = content.decode()
        if "\0" not in text:
            return text
    raise Unshown("not text")
