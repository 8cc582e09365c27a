"""Copying returned files out of a run's workspace, whatever it left there: links, pipes, hostile names.

Call it when the run has ended. Files are opened with openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS), so nothing outside
the folder is ever read; only regular files are copied, under harmless base names, into a folder that no run can see.
"""

from __future__ import annotations

import hashlib
import os
import stat
import unicodedata
from collections import deque
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from sandbox.confinement.openat2 import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2

IN = "in"
OUT = "out"
MAX_NAME_BYTES = 200
_MAX_NAMED = 100
_MAX_ENTRIES = 20_000
_MAX_DEPTH = 16
_CHUNK = 1024 * 1024
# Categories that steer a terminal or hide the order of a name, and halves of characters: control, format (bidi),
# surrogate, private, unassigned, line and paragraph separators.
_HOSTILE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_RESERVED = frozenset({"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))})


@dataclass(frozen=True, slots=True)
class CollectedFile:
    """One returned file.

    `name`: a plain base name, unique without case; `path`: the copy; `size`: in bytes; `sha256`: in hex.
    """

    name: str
    path: Path
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Collection:
    """`left_out`: (harmless name, reason) of what was not taken: a hundred, and how many more there were.

    `offered`: bytes of the plain files that were there, taken or not.
    """

    files: tuple[CollectedFile, ...]
    left_out: tuple[tuple[str, str], ...]
    offered: int = 0


def collect_files(
    workspace: Path,
    destination: Path,
    *,
    max_files: int = 50,
    max_bytes: int = 100_000_000,
    max_file_bytes: int | None = None,
    reserved: frozenset[str] = frozenset(),
    attached: frozenset[str] = frozenset(),
) -> Collection:
    """Copy the regular files below `workspace`/out into `destination` (made here, 0700; must not exist). Blocking.

    Sub-folders are flattened (`a/b.txt` becomes `a__b.txt`). What is beyond a bound, a folder that cannot be opened,
    and what lies in the workspace outside out/ (`attached`: names that came along in in/), is in `left_out`. A file
    whose name is `reserved` (lower case) is renamed. No out folder: no files. Raises OSError where the machine's own
    disk or folder fails, FileExistsError for an existing `destination`.
    """
    destination.mkdir(mode=0o700)
    taking = _Taking(destination, max_files, max_bytes, max_bytes if max_file_bytes is None else max_file_bytes)
    taking.taken |= reserved
    base = openat2(workspace, os.O_PATH | os.O_DIRECTORY, resolve=RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)
    try:
        try:
            folder = _beneath(base, OUT, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            folder = None
        except OSError as problem:
            folder = None
            taking.leave((OUT,), problem.strerror or "unreadable")
        if folder is not None:
            try:
                taking.walk(folder)
            finally:
                os.close(folder)
        _name_others(base, taking, attached)
    finally:
        os.close(base)
    return Collection(tuple(taking.files), _bounded(taking.left_out), taking.offered)


def _bounded(left_out: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    named, more = left_out[:_MAX_NAMED], len(left_out) - _MAX_NAMED
    return (*named, ("…", f"{more:,} more")) if more > 0 else tuple(named)


def _name_others(workspace: int, taking: _Taking, attached: frozenset[str]) -> None:
    """Leave out what lies in the workspace outside out/, and in in/ beside the attached files."""
    for place, known in ((".", frozenset({IN, OUT})), (IN, attached)):
        try:
            folder = _beneath(workspace, place, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        except OSError as problem:
            taking.leave(("workspace" if place == "." else place,), problem.strerror or "unreadable")
            return
        try:
            with os.scandir(folder) as entries:
                names = [entry.name for entry in islice(entries, _MAX_ENTRIES) if entry.name not in known]
        finally:
            os.close(folder)
        for name in sorted(names):
            taking.leave((name,) if place == "." else (place, name), f"outside {OUT}/")


def harmless_name(parts: tuple[str, ...]) -> str:
    """A base name for a file at these path components that no terminal, shell or file system gives another meaning."""
    text = unicodedata.normalize("NFC", "__".join(parts))
    text = "".join("_" if unicodedata.category(ch) in _HOSTILE or ch in '/\\:*?"<>|' else ch for ch in text)
    text = " ".join(text.split()).strip(". ")
    if not text:
        text = "file"
    if text.startswith(("-", "~")) or text.split(".")[0].casefold() in _RESERVED:
        text = f"_{text}"
    return _shortened(text, "")


class _Taking:
    def __init__(self, destination: Path, max_files: int, max_bytes: int, max_file_bytes: int) -> None:
        self.files: list[CollectedFile] = []
        self.left_out: list[tuple[str, str]] = []
        self._destination = destination
        self._max_files = max_files
        self._max_file_bytes = max_file_bytes
        self._bytes_left = max_bytes
        self.taken: set[str] = set()
        self.offered = 0

    def walk(self, out: int) -> None:
        waiting: deque[tuple[str, ...]] = deque([()])
        seen = 0
        while waiting:
            parts = waiting.popleft()
            try:
                # Within PATH_MAX: _MAX_DEPTH names of 255 bytes are.
                folder = _beneath(out, "/".join(parts) or ".", os.O_RDONLY | os.O_DIRECTORY)
            except OSError as problem:
                self.leave(parts, problem.strerror or "unreadable")
                continue
            try:
                # A folder that the run made may have no end; scandir is lazy, so this stops in time.
                names = []
                with os.scandir(folder) as entries:
                    for entry in entries:
                        seen += 1
                        if seen > _MAX_ENTRIES:
                            self.leave(parts or (OUT,), "too many entries")
                            break
                        names.append(entry.name)
                for name in sorted(names):
                    if self._one(folder, (*parts, name)):
                        waiting.append((*parts, name))
            finally:
                os.close(folder)
            if seen > _MAX_ENTRIES:
                return

    def _one(self, folder: int, parts: tuple[str, ...]) -> bool:
        """Take one entry, or leave it out; True for a folder to go into."""
        try:
            found = _beneath(folder, parts[-1], os.O_PATH | os.O_NOFOLLOW)
        except OSError as problem:
            self.leave(parts, problem.strerror or "unreadable")
            return False
        try:
            about = os.fstat(found)
            self.offered += about.st_size if stat.S_ISREG(about.st_mode) else 0
            if stat.S_ISDIR(about.st_mode):
                if len(parts) < _MAX_DEPTH:
                    return True
                self.leave(parts, "too deep")
            elif not stat.S_ISREG(about.st_mode):
                self.leave(parts, "a link" if stat.S_ISLNK(about.st_mode) else "not a plain file")
            elif len(self.files) >= self._max_files:
                self.leave(parts, f"more than {self._max_files} files")
            elif about.st_size > min(self._max_file_bytes, self._bytes_left):
                self.leave(parts, "too large")
            else:
                self._copy(found, parts)
        finally:
            os.close(found)
        return False

    def _copy(self, found: int, parts: tuple[str, ...]) -> None:
        try:
            # The descriptor is known to be a regular file's; by its name, something else could be opened.
            source = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOATIME)
        except OSError:
            try:
                source = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
            except OSError as problem:
                self.leave(parts, problem.strerror or "unreadable")
                return
        limit = min(self._max_file_bytes, self._bytes_left)
        name = self._unique(harmless_name(parts))
        path = self._destination / name
        digest = hashlib.sha256()
        size = 0
        try:
            target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(target, "wb", buffering=0) as copy:
                while chunk := os.read(source, _CHUNK):
                    size += len(chunk)
                    if size > limit:
                        break
                    digest.update(chunk)
                    view = memoryview(chunk)
                    while view:
                        view = view[copy.write(view) or 0 :]
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(source)
        if size > limit:
            path.unlink()
            self.leave(parts, "too large")
            return
        self._bytes_left -= size
        self.taken.add(name.casefold())
        self.files.append(CollectedFile(name, path, size, digest.hexdigest()))

    def _unique(self, name: str) -> str:
        number, candidate = 1, name
        while candidate.casefold() in self.taken:
            number += 1
            candidate = _shortened(name, f"-{number}")
        return candidate

    def leave(self, parts: tuple[str, ...], reason: str) -> None:
        self.left_out.append((harmless_name(parts), reason))


def _beneath(folder: int, name: str, flags: int) -> int:
    return openat2(name, flags, directory=folder, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)


def _shortened(name: str, addition: str) -> str:
    """`name` with `addition` before its suffix, within MAX_NAME_BYTES of UTF-8, the suffix kept."""
    stem, dot, suffix = name.rpartition(".")
    if not dot or not stem or len(suffix) > 16:
        stem, dot, suffix = name, "", ""
    room = MAX_NAME_BYTES - len(f"{addition}{dot}{suffix}".encode())
    if len(stem.encode()) > room:
        # Two long names that differ at their ends stay apart.
        mark = "~" + hashlib.sha256(stem.encode()).hexdigest()[:8]
        stem = stem.encode()[: room - len(mark)].decode(errors="ignore") + mark
    return f"{stem}{addition}{dot}{suffix}"
