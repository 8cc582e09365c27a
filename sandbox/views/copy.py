"""A view as a copy, where no overlay can be had: bounded, and what is left out of it is said and noted in its manifest.

In the view's folder: `copy` (a folder, or the file itself) and `manifest` (manifest.py). Contents are shared with the
original where the file system can do that, else copied. Modes are kept without setuid, setgid and sticky; owners,
attributes and hard links are not; a link stays a link, never followed; what is no file, folder or link is left out.

The original may change and move meanwhile, and be of any depth: it is walked by descriptors.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sandbox.confinement.profile import Limits
from sandbox.confinement.walk import Folder, Parts, walk
from sandbox.reflink import reflink
from sandbox.views.manifest import MAX_RECORD, Copied, ManifestWriter, kind_of

COPY: Final = "copy"
MANIFEST: Final = "manifest"

MAX_ENTRIES: Final = 150_000
"""Of all copies of one run; fewer than a run may have files (`Limits.files`), which these count as."""
MAX_BYTES: Final = 4 * 1024**3
"""As `MAX_ENTRIES`, of `Limits.disk`."""
MAX_DEPTH: Final = 128
"""A folder of the copy is kept open for each level."""
_MAX_NAMED: Final = 20
_CHUNK: Final = 16 * 1024 * 1024


@dataclass
class Allowance:
    """What may still be copied: entries, bytes, and the bytes that must stay free on the disk (`reserve`)."""

    reserve: int
    entries: int = MAX_ENTRIES
    bytes: int = MAX_BYTES

    def refusal(self, size: int, disk: int) -> str:
        """Take one file of `size` bytes to the file system of the descriptor `disk`; "", or why it is too much."""
        about = os.fstatvfs(disk)
        if size > self.bytes:
            return "too large for a copy"
        if about.f_bavail * about.f_frsize - size < self.reserve:
            return "the disk has not enough room for a copy"
        self.bytes -= size
        return ""


def reserve(folder: Path, limits: Limits) -> int:
    """Bytes that copies leave free on the disk of `folder`: as much as the run itself has to, later."""
    about = os.statvfs(folder)
    free, size = about.f_bavail * about.f_frsize, about.f_blocks * about.f_frsize
    return min(max(limits.room, size // 20), free // 2)


@dataclass
class Left:
    """What is left out, as sentences for people."""

    called: str
    named: list[str] = field(default_factory=list)
    more: int = 0
    most: int = _MAX_NAMED

    def add(self, path: bytes, why: str) -> None:
        if len(self.named) < self.most:
            name = "/".join(part for part in (self.called, path.decode("utf-8", "replace")) if part)
            shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
            self.named.append(f"{shown[:200]}: {why}")
        else:
            self.more += 1

    def sentences(self) -> list[str]:
        return [*self.named, *([f"and {self.more:,} more"] if self.more else [])]


def copy(original: int, folder: Path, called: str, allowance: Allowance) -> tuple[Path, list[str]]:
    """Copy what the descriptor `original` names into the new, empty `folder`.

    Return the copy's path, and what was left out: as sentences, with paths below `called`. Raises OSError where this
    machine's disk fails, or the original cannot be read at all.
    """
    left = Left(called)
    about = os.fstat(original)
    with ManifestWriter(folder / MANIFEST) as manifest:
        disk = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            copying = Copying(manifest, allowance, left, disk)
            if kind_of(about) == "folder":
                copying.folder(original)
            else:
                copying.file(original, about, COPY, disk, b"")
                if not (folder / COPY).exists():
                    raise OSError(0, left.sentences()[0])
        finally:
            os.close(disk)
        manifest.finish()
    return folder / COPY, left.sentences()


class Copying:
    """One copy of a folder or file. foretold.py goes the same way and writes nothing."""

    def __init__(self, manifest: ManifestWriter, allowance: Allowance, left: Left, disk: int) -> None:
        """`disk`: the folder that gets the copy."""
        self._manifest = manifest
        self._allowance = allowance
        self._left = left
        self._disk = disk
        self._way: list[tuple[int, os.stat_result]] = []
        """Folders of the copy from the top to where the walk is, each with what its original was."""

    def folder(self, original: int) -> None:
        top = os.open(f"/proc/self/fd/{original}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for here in walk(top, self._not_entered):
                self.enter(here)
                self._entries(here)
            while self._way:
                self._leave()
        finally:
            for descriptor, _ in self._way:
                os.close(descriptor)

    def file(self, found: int, about: os.stat_result, name: str, into: int, path: bytes) -> None:
        """Copy the file that the O_PATH descriptor `found` names."""
        why = self._allowance.refusal(about.st_size, self._disk)
        made: os.stat_result | None = None
        if not why:
            try:
                # By the descriptor that was examined: something else may have its name by now.
                source = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                why = error.strerror or "it cannot be read"
            else:
                try:
                    made = self.make_file(source, about, name, into)
                finally:
                    os.close(source)
        self._note(path, about, made, why)

    def make_file(self, source: int, about: os.stat_result, name: str, into: int) -> os.stat_result | None:
        """Make a file of the copy; what stat says of it."""
        return _copied(source, about, name, into)

    def enter(self, here: Folder) -> None:
        """Make a folder of the copy; what follows lies in it."""
        while len(self._way) > here.depth:
            self._leave()
        about = os.fstat(here.descriptor)
        name = here.path[-1] if here.path else COPY
        into = self._way[-1][0] if self._way else self._disk
        os.mkdir(name, 0o700, dir_fd=into)
        made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=into)
        self._way.append((made, about))
        self._add(_joined(here.path), about)

    def _leave(self) -> None:
        made, about = self._way.pop()
        try:
            # Last: a folder may be closed, and what is made in it changes its time.
            os.fchmod(made, about.st_mode & 0o777)
            os.utime(made, ns=(about.st_atime_ns, about.st_mtime_ns))
        finally:
            os.close(made)

    def _entries(self, here: Folder) -> None:
        names = []
        with os.scandir(here.descriptor) as entries:  # lazily: a folder may be endless to list
            for entry in entries:
                if self._allowance.entries == 0:
                    self._left.add(_joined(here.path), "too many files for a copy, so not all of them are there")
                    break
                self._allowance.entries -= 1
                names.append(entry.name)
        for name in sorted(names):
            try:
                found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here.descriptor)
            except OSError:
                continue  # gone again
            try:
                self._entry(found, name, here)
            finally:
                os.close(found)

    def _entry(self, found: int, name: str, here: Folder) -> None:
        about = os.fstat(found)
        path = _joined([*here.path, name])
        into = self._way[-1][0] if self._way else self._disk
        kind = kind_of(about)
        if kind == "file":
            self.file(found, about, name, into, path)
        elif kind == "link":
            self.make_link(found, about, name, into, path)
        elif kind == "other":
            self._note(path, about, None, "neither a file, a folder nor a link")
        elif here.depth + 1 < MAX_DEPTH:
            here.inner.append(name)
        else:
            self._note(path, about, None, "nested too deeply for a copy")

    def make_link(self, found: int, about: os.stat_result, name: str, into: int, path: bytes) -> None:
        """Make a link of the copy."""
        target = os.readlink("", dir_fd=found)
        os.symlink(target, name, dir_fd=into)
        os.utime(name, ns=(about.st_atime_ns, about.st_mtime_ns), dir_fd=into, follow_symlinks=False)
        made = os.stat(name, dir_fd=into, follow_symlinks=False)
        self._note(path, about, made, "", target=os.fsencode(target))

    def _not_entered(self, parts: Parts, error: OSError) -> None:
        path = _joined(parts)
        self._left.add(path, error.strerror or "it was moved meanwhile")
        if len(path) < MAX_RECORD // 2:
            self._manifest.add(
                Copied(
                    path=path, kind="folder", mode=0, device=0, inode=0, changed_ns=0, skipped=error.strerror or "moved"
                )
            )

    def _note(
        self, path: bytes, about: os.stat_result, made: os.stat_result | None, why: str, *, target: bytes = b""
    ) -> None:
        if why:
            self._left.add(path, why)
        self._add(path, about, made, why, target)

    def _add(
        self,
        path: bytes,
        about: os.stat_result,
        made: os.stat_result | None = None,
        why: str = "",
        target: bytes = b"",
    ) -> None:
        kind = kind_of(about)
        self._manifest.add(
            Copied(
                path=path,
                kind=kind,
                mode=about.st_mode & 0o7777,
                size=about.st_size if kind == "file" else 0,
                target=target,
                device=about.st_dev,
                inode=about.st_ino,
                changed_ns=about.st_ctime_ns,
                copy_inode=0 if made is None else made.st_ino,
                copy_changed_ns=0 if made is None else made.st_ctime_ns,
                skipped=why,
            )
        )


def _copied(source: int, about: os.stat_result, name: str, into: int) -> os.stat_result:
    """Make the file `name` with the content, mode and time of `source`; what stat says of it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    target = os.open(name, flags, 0o600, dir_fd=into)
    try:
        if not reflink(source, target):
            _copy_bytes(source, target, about.st_size)
        os.fchmod(target, about.st_mode & 0o777)
        os.utime(target, ns=(about.st_atime_ns, about.st_mtime_ns))
        return os.fstat(target)
    finally:
        os.close(target)


def _copy_bytes(source: int, target: int, size: int) -> None:
    """Copy `size` bytes, or as many as there are: no more than was counted, though the file may grow."""
    while size > 0:
        content = os.read(source, min(size, _CHUNK))
        if not content:
            return
        size -= len(content)
        while content:
            content = content[os.write(target, content) :]


def _joined(parts: list[str] | Parts) -> bytes:
    return b"/".join(map(os.fsencode, parts))
