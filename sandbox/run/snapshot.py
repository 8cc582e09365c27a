"""What the person's folders held before a run, and what is different after it: bounded, whatever lies there.

It is read outside the sandbox, so with openat2 beneath each folder and without following links; only regular files are
opened, by the descriptor that was examined. The diff for people is diff.py's.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sandbox.confinement.openat2 import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2
from sandbox.confinement.profile import Root
from sandbox.confinement.protected_names import HELD_FILES, HELD_FOLDERS
from sandbox.confinement.walk import Parts, walk

MAX_ENTRIES: Final = 20_000
MAX_FILE: Final = 1_000_000
"""Bytes of one file whose content is kept for comparison."""
MAX_KEPT: Final = 100_000_000
"""Bytes of all that is kept."""
_MAX_DEPTH: Final = 32
_MAX_NAMED: Final = 20
REPOSITORY: Final = ".git"
SKIPPED: Final = frozenset(
    [REPOSITORY, "node_modules", ".venv", "venv", "__pycache__", ".tox", ".mypy_cache", ".pytest_cache", ".ruff_cache"]
)
"""Folders that tools fill by themselves, and the repository, which a run cannot write."""
# Placeholders hold these names while a run lasts (bubblewrap/protected_paths.py), so they may come and go.
_OURS: Final = frozenset({*HELD_FOLDERS, *HELD_FILES})


@dataclass(frozen=True, slots=True)
class Seen:
    """One file as it was.

    `mark` differs when it was written, replaced or renamed. `content`: where its bytes are kept; None: nowhere.
    """

    mark: tuple[int, ...]
    content: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A file that is not as it was.

    `name`: as the run sees it, without the first slash. `before`, `after`: its content, None when there was or is no
    such file. `shown` is false when it cannot be compared (too large, no plain file, too much altogether); contents are
    b"" then.
    """

    name: str
    before: bytes | None
    after: bytes | None
    shown: bool


@dataclass(frozen=True, slots=True)
class _Folder:
    root: Root
    files: dict[Parts, Seen]
    closed: set[Parts]


@dataclass
class Snapshot:
    """The writable folders of a run as they were before it.

    `whole` is false where there was more than the bounds, or where the run closed what was to be looked at again.
    `not_seen` names that, and the folders that are not looked at because tools fill them.
    """

    store: Path
    _beyond: set[str] = field(default_factory=set)
    _skipped: set[str] = field(default_factory=set)
    _folders: list[_Folder] = field(default_factory=list)
    _kept: int = 0
    _bytes: int = 0

    @property
    def whole(self) -> bool:
        return not self._beyond

    @property
    def not_seen(self) -> tuple[str, ...]:
        named = sorted(self._skipped)
        more = [f"{len(named) - _MAX_NAMED:,} more folders like these"] if len(named) > _MAX_NAMED else []
        return (*sorted(self._beyond), *named[:_MAX_NAMED], *more)

    @classmethod
    def take(cls, roots: Sequence[Root], store: Path) -> Snapshot:
        """Record every writable folder of `roots`; `store` is a new folder for the kept contents. Blocking.

        Raises OSError where this machine's own disk fails.
        """
        store.mkdir(mode=0o700)
        snapshot = cls(store)
        for root in roots:
            if root.writable and root.path.is_dir():
                closed: set[Parts] = set()
                walked = snapshot._walk(root, closed)
                files = {parts: snapshot._keep(found, about) for parts, found, about in walked}
                snapshot._folders.append(_Folder(root, files, closed))
        return snapshot

    def changes(self) -> Iterator[Change]:
        """What is different now, by folder and name. Blocking. What comes and goes meanwhile is left out.

        Contents are read one file at a time, and no more than MAX_KEPT in all: a run may leave far more.
        """
        self._bytes = 0
        for folder in self._folders:
            changed: set[Parts] = set()
            closed: set[Parts] = set()
            gone = set(folder.files)
            for parts, _, about in self._walk(folder.root, closed):
                gone.discard(parts)
                before = folder.files.get(parts)
                if before is None or before.mark != _mark(about):
                    changed.add(parts)
            self._beyond.update(
                f"{_name(folder.root, parts)}, which the run closed" for parts in closed - folder.closed
            )
            # Where not everything was examined, a file that was not found again need not be gone.
            if not self.whole:
                gone = set()
            for parts in sorted(changed | gone):
                change = self._compared(folder, parts, removed=parts in gone)
                if change is not None:
                    yield change

    def _compared(self, folder: _Folder, parts: Parts, *, removed: bool) -> Change | None:
        name = _name(folder.root, parts)
        before = folder.files.get(parts)
        old = None if before is None else self._content(before)
        if removed:
            return Change(name, old or b"", None, shown=old is not None)
        try:
            after = self._read_now(folder.root.path, parts)
        except OSError:
            return None  # gone again
        if after is None or (before is not None and old is None):
            return Change(name, None if before is None else b"", b"", shown=False)
        return None if old == after else Change(name, old, after, shown=True)

    def _read_now(self, root: Path, parts: Parts) -> bytes | None:
        folder = openat2(root, os.O_RDONLY | os.O_DIRECTORY, resolve=RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)
        try:
            # Name by name: all of them may be longer than the kernel takes.
            for name in parts[:-1]:
                inner = _beneath(folder, name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
                os.close(folder)
                folder = inner
            found = _beneath(folder, parts[-1], os.O_PATH | os.O_NOFOLLOW)
        finally:
            os.close(folder)
        try:
            return self._read(found, os.fstat(found))
        finally:
            os.close(found)

    def _keep(self, found: int, about: os.stat_result) -> Seen:
        try:
            content = self._read(found, about)
        except OSError:
            content = None
        if content is None:
            return Seen(_mark(about))
        number, self._kept = self._kept, self._kept + 1
        (self.store / str(number)).write_bytes(content)
        return Seen(_mark(about), number)

    def _read(self, found: int, about: os.stat_result) -> bytes | None:
        """The content of what this descriptor names, None when it is no plain file or too large."""
        limit = min(MAX_FILE, MAX_KEPT - self._bytes)
        if not stat.S_ISREG(about.st_mode) or about.st_size > limit:
            return None
        # By the descriptor that was examined: something else may have its name by now.
        source = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(source, "rb") as file:
            content = file.read(limit + 1)
        self._bytes += len(content)
        return content if len(content) <= limit else None

    def _content(self, seen: Seen) -> bytes | None:
        return None if seen.content is None else (self.store / str(seen.content)).read_bytes()

    def _walk(self, root: Root, closed: set[Parts]) -> Iterator[tuple[Parts, int, os.stat_result]]:
        """Yield (name, O_PATH descriptor open until the next step, what fstat says) of everything that is no folder.

        Folders that cannot be opened are added to `closed`.
        """
        try:
            base = openat2(root.path, os.O_RDONLY | os.O_DIRECTORY, resolve=RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)
        except OSError:
            self._beyond.add(f"{_name(root, ())}, which cannot be opened")
            return
        left = MAX_ENTRIES
        for folder in walk(base, lambda parts, _: closed.add(parts)):
            names = []
            # Lazily: a folder may be endless to list.
            with os.scandir(folder.descriptor) as entries:
                for entry in entries:
                    if left == 0:
                        self._beyond.add(f"what is beyond the first {MAX_ENTRIES:,} entries of {_name(root, ())}")
                        break
                    left -= 1
                    names.append(entry.name)
            for name in sorted(names):
                if not folder.depth and name in _OURS:
                    continue
                try:
                    found = _beneath(folder.descriptor, name, os.O_PATH | os.O_NOFOLLOW)
                except OSError:
                    continue
                try:
                    about = os.fstat(found)
                    if name in SKIPPED:
                        if name != REPOSITORY:
                            self._skipped.add(_name(root, (*folder.parts, name)))
                    elif not stat.S_ISDIR(about.st_mode):
                        yield (*folder.parts, name), found, about
                    elif folder.depth < _MAX_DEPTH:
                        folder.inner.append(name)
                    else:
                        self._beyond.add(f"folders more than {_MAX_DEPTH} deep")
                finally:
                    os.close(found)
            if left == 0:
                return


def _name(root: Root, parts: Parts) -> str:
    """A path as the run sees it, without the first slash."""
    return "/".join((str(root.inside).lstrip("/"), *parts))


def _mark(about: os.stat_result) -> tuple[int, ...]:
    # A program that writes a file cannot set its time of change; renaming a link changes it too.
    return (about.st_dev, about.st_ino, about.st_size, about.st_ctime_ns, stat.S_IFMT(about.st_mode))


def _beneath(folder: int, name: str, flags: int) -> int:
    return openat2(name, flags, directory=folder, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)
