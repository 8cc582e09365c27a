"""The manifest of a copied view: what every path was when it was copied. Written by copy.py, read for the change set.

`views/N/manifest` beside `views/N/copy` (a folder, or the file itself where a file was granted). No run ever sees it.
Form: `MAGIC`, then one record after another as its length (4 bytes, big-endian) and a `Copied` in MessagePack, then a
length of zero. A folder comes before what lies in it; no path comes twice.

How a reader tells a change, for each path of the copy and of the manifest:
- In the copy and not in the manifest: the run made it. (The original may hold something there that the copy never
  reached; that is for whoever looks at the original.)
- In the manifest with `skipped`, as is everything below such a folder: it was never in the copy. That it is missing
  is no deletion. What is there in spite of that was made by the run.
- In the manifest, not in the copy: the run deleted it.
- A file in both: unchanged when `same_copy` holds. Else it may be, for links to it and its mode change that time too:
  compare mode, size and content with the original.
- The original is as it was copied when `same_original` holds; else it changed meanwhile.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Literal, Self

import msgspec

MAGIC: Final = b"dispatch view manifest 1\n"
MAX_RECORDS: Final = 500_000
MAX_RECORD: Final = 256 * 1024
"""Bytes of one record, most of them its path."""


class ManifestError(Exception):
    """The manifest is not whole, or not one. Its text says what is wrong."""


class Copied(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One path of the original, and its copy.

    `path`: relative to the view's root, components separated by one slash; b"" is the root itself, a folder or a
    granted file. `kind`: `other` (a device, a socket, …) is always skipped. `mode`: permission bits (07777) of the
    original; the copy has them without setuid, setgid and sticky. `size`: bytes of a file. `target`: of a link.
    `device`, `inode`, `changed_ns` (time of change, nanoseconds since 1970): of the original when its content was read;
    all 0 for what could not be looked at.
    `copy_inode`, `copy_changed_ns`: of a file or link in the copy; 0 for a folder. `skipped`: why it has no copy; "" if
    it has.
    """

    path: bytes
    kind: Literal["file", "link", "folder", "other"]
    mode: int
    size: int = 0
    target: bytes = b""
    device: int
    inode: int
    changed_ns: int
    copy_inode: int = 0
    copy_changed_ns: int = 0
    skipped: str = ""

    def same_copy(self, about: os.stat_result) -> bool:
        """Whether the file or link of this path in the copy, of which lstat says `about`, is untouched.

        No program can set the time of change.
        """
        return (self.copy_inode, self.copy_changed_ns) == (about.st_ino, about.st_ctime_ns) and (
            self.kind == kind_of(about)
        )

    def same_original(self, about: os.stat_result) -> bool:
        """Whether the original, of which lstat says `about`, is as it was copied. Of a folder: no name in it came or
        went, either.
        """
        known = (self.device, self.inode, self.changed_ns)
        return known == (about.st_dev, about.st_ino, about.st_ctime_ns) and self.kind == kind_of(about)


def kind_of(about: os.stat_result) -> Literal["file", "link", "folder", "other"]:
    """The kind of what stat says `about`."""
    mode = about.st_mode
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISLNK(mode):
        return "link"
    return "folder" if stat.S_ISDIR(mode) else "other"


class ManifestWriter:
    """Writes a new manifest at `path`, record by record; a context manager. Without `finish` it stays unreadable.

    Raises OSError, FileExistsError where something has the name already.
    """

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._file: IO[bytes] = os.fdopen(descriptor, "wb")
        self._file.write(MAGIC)
        self._left = MAX_RECORDS

    def add(self, record: Copied) -> None:
        """Append a record. Raises ManifestError for one too many, or too long."""
        content = msgspec.msgpack.encode(record)
        if len(content) > MAX_RECORD or self._left == 0:
            raise ManifestError("more than a manifest takes")
        self._left -= 1
        self._file.write(len(content).to_bytes(4, "big") + content)

    def finish(self) -> None:
        """Write the end, and sync all of it to the disk."""
        self._file.write(bytes(4))
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()


def read(path: Path) -> Iterator[Copied]:
    """Yield the records of the manifest at `path`, one in memory at a time.

    Raises ManifestError for what is not a whole manifest, also after some records; OSError where it cannot be read.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ManifestError("not a manifest of a view")
        for _ in range(MAX_RECORDS + 1):
            prefix = file.read(4)
            size = int.from_bytes(prefix, "big")
            if len(prefix) < 4 or size > MAX_RECORD:
                raise ManifestError("the manifest is not whole")
            if size == 0:
                return
            content = file.read(size)
            if len(content) < size:
                raise ManifestError("the manifest is not whole")
            try:
                yield msgspec.msgpack.decode(content, type=Copied)
            except msgspec.DecodeError as problem:
                raise ManifestError("the manifest is damaged") from problem
        raise ManifestError("the manifest has too many records")
