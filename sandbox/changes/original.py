"""The person's folder of one view as it is now: what it holds at a path, and whether that changed since the view was
made. It is read beneath its root, by descriptors, and never written.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from sandbox.changes.bounds import MAX_FILE, Bounds, shown
from sandbox.changes.descriptors import PIN, Digest, Handle, TooLarge, digest, handle, reopened
from sandbox.changes.values import Base
from sandbox.confinement.openat2 import (
    RESOLVE_BENEATH,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
    open_pinned,
    openat2,
)
from sandbox.views.manifest import Copied, kind_of
from sandbox.views.record import ViewRecord

_BENEATH: Final = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS


class Meanwhile(Protocol):
    """Tells whether the original at a path changed since the view was made."""

    def file(self, path: bytes, about: os.stat_result | None, *, known: bool) -> str:
        """Why what is there now (None: nothing) must have changed, "" if it has not. `known`: something was there."""
        ...

    def folder(self, path: bytes, about: os.stat_result) -> str:
        """The same of a folder on the way to a change."""
        ...


class ByTime:
    """For an overlay, which keeps no record of the original: its times of change against the time of the view."""

    def __init__(self, made_ns: int) -> None:
        self._made_ns = made_ns

    def file(self, path: bytes, about: os.stat_result | None, *, known: bool) -> str:
        if about is None:
            return "your folder no longer holds it" if known else ""
        return "" if about.st_ctime_ns < self._made_ns else "it changed in your folder meanwhile"

    def folder(self, path: bytes, about: os.stat_result) -> str:
        return "" if about.st_ctime_ns < self._made_ns else f"your folder {shown(path)} changed meanwhile"


class ByManifest:
    """For a copy: exactly what was copied."""

    def __init__(self, copied: Mapping[bytes, Copied]) -> None:
        self._copied = copied

    def file(self, path: bytes, about: os.stat_result | None, *, known: bool) -> str:
        was = self._copied.get(path)
        if was is not None and was.skipped:
            return "the run did not see what your folder holds there"
        if about is None:
            return "" if was is None else "your folder no longer holds it"
        if was is None:
            return "your folder holds something there that the run did not see"
        if stat.S_ISDIR(about.st_mode):
            return self.folder(path, about)  # what lies in it has entries of its own
        same = was.same_original(about) and (was.kind != "file" or was.size == about.st_size)
        return "" if same else "it changed in your folder meanwhile"

    def folder(self, path: bytes, about: os.stat_result) -> str:
        was = self._copied.get(path)
        if was is None or was.skipped:
            return f"the run did not see what your folder holds at {shown(path)}"
        same = (was.kind, was.device, was.inode) == ("folder", about.st_dev, about.st_ino)
        return "" if same else f"your folder {shown(path)} was replaced meanwhile"


@dataclass(frozen=True, slots=True)
class Found:
    """What the original holds at a path. `plain`: a file whose content is text. `problem`: what could not be read."""

    base: Base
    about: os.stat_result
    plain: bool = False
    problem: str = ""
    moving: bool = False
    """It was changed while it was read."""
    handle: Handle | None = None
    """Of a file."""


class Original:
    """The granted folder or file. `descriptor`: an O_PATH one of it, None where it is gone. `conflict`: why nothing of
    the view can be put in place, "" otherwise. A context manager.
    """

    def __init__(self, record: ViewRecord, bounds: Bounds) -> None:
        self._bounds = bounds
        self.descriptor: int | None = None
        self.conflict = ""
        # What is mounted inside is not in an overlay; a copy has it, and its manifest the device of each path.
        self._inside = record.kind == "overlay"
        self._device = record.device
        try:
            self.descriptor = open_pinned(Path(record.root))
        except (OSError, ValueError):
            self.conflict = "what was granted is no longer there"
            return
        about = os.fstat(self.descriptor)
        if (about.st_dev, about.st_ino) != (record.device, record.inode):
            self.conflict = "what was granted was replaced meanwhile"

    def __enter__(self) -> Original:
        return self

    def __exit__(self, *_: object) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)

    def folder(self, path: bytes) -> int | None:
        """Open the folder at `path` to read it; None where there is none, or a link is on the way.

        Raises OSError where it cannot be opened.
        """
        if self.descriptor is None:
            return None
        try:
            return openat2(
                os.fsdecode(path) or ".",
                os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK,
                directory=self.descriptor,
                resolve=_BENEATH | (RESOLVE_NO_XDEV if self._inside else 0),
            )
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                return None
            raise

    def find(self, folder: int | None, name: str, *, content: bool = True) -> Found | None:
        """What an open folder holds by this name; None for nothing. `content`: whether a file is hashed.

        Raises OSError where that cannot be known.
        """
        if folder is None:
            return None
        try:
            pinned = os.open(name, PIN, dir_fd=folder)
        except FileNotFoundError:
            return None
        try:
            return self.about(pinned, content=content)
        finally:
            os.close(pinned)

    def about(self, pinned: int, *, content: bool = True) -> Found:
        """What an O_PATH descriptor names."""
        about = os.fstat(pinned)
        kind = kind_of(about)
        target, read, problem = b"", None, ""
        if kind == "link":
            target = os.fsencode(os.readlink("", dir_fd=pinned))
        elif kind == "file" and content and not self.elsewhere(about):
            read, problem = self._read(pinned, about)
        base = Base(
            kind=kind,
            mode=stat.S_IMODE(about.st_mode),
            size=about.st_size if kind == "file" else 0,
            sha256=read.sha256 if read else "",
            target=target,
            device=about.st_dev,
            inode=about.st_ino,
            changed_ns=about.st_ctime_ns,
        )
        moving = read is not None and (read.size != about.st_size or os.fstat(pinned).st_ctime_ns != about.st_ctime_ns)
        return Found(
            base,
            about,
            plain=read is not None and read.plain,
            problem=problem,
            moving=moving,
            handle=handle(pinned) if kind == "file" else None,
        )

    def _read(self, pinned: int, about: os.stat_result) -> tuple[Digest | None, str]:
        most = min(MAX_FILE, self._bounds.compared)
        if about.st_size > most:
            return None, "what your folder holds is too large to be compared"
        try:
            file = reopened(pinned, ours=False)
            try:
                found = digest(file, most, self._bounds.tick)
            finally:
                os.close(file)
        except (OSError, TooLarge):
            return None, "what your folder holds cannot be read"
        self._bounds.compared -= found.size
        return found, ""

    def elsewhere(self, about: os.stat_result) -> bool:
        """Whether something that the view does not have is mounted there."""
        return self._inside and about.st_dev != self._device

    def has(self, folder: int | None, name: str) -> bool:
        """Whether an open folder holds anything by this name."""
        if folder is not None and folder >= 0:
            with suppress(OSError):
                os.stat(name, dir_fd=folder, follow_symlinks=False)
                return True
        return False

    def link_at(self, path: bytes) -> bytes | None:
        """Where the link at `path` leads; None where there is none, or a link is on the way to it."""
        parent, _, name = path.rpartition(b"/")
        try:
            folder = self.folder(parent)
            if folder is None:
                return None
            try:
                return os.fsencode(os.readlink(os.fsdecode(name), dir_fd=folder))
            finally:
                os.close(folder)
        except (OSError, ValueError):
            return None
