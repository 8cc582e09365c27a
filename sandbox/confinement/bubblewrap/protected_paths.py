"""The protected paths of a profile's writable roots during a run, with placeholders for names that are missing.

Which names: protected_names.py. Mounting over them: argv.py.

The run could make a missing `.git`, and the host's next `git status` would obey it; so an empty folder holds the name
for the time of the run. The sticky bit marks a placeholder as ours, so that one left by a crash is found, reused and
removed. Runs that share a root hold a shared lock on it; the last one removes it (removing a mount point pulls the
mount away in every other namespace).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from pathlib import Path

from sandbox.confinement.profile import Profile
from sandbox.confinement.protected_names import HEAD, HELD_FILES, HELD_FOLDERS, ProtectedPath, appeared, scan

_FOLDER_MODE, _FILE_MODE = 0o1500, 0o1400


class ProtectedPaths:
    """`found`: host path of each writable root → what is protected in it, placeholders included.

    Call `release` when the run has ended.
    """

    def __init__(self) -> None:
        self.found: dict[Path, tuple[ProtectedPath, ...]] = {}
        self._held: list[tuple[Path, int]] = []

    @classmethod
    def acquire(cls, profile: Profile) -> ProtectedPaths:
        """Scan every writable root of `profile` and hold what is missing. Blocking: up to seconds on a large folder."""
        protected = cls()
        try:
            for root in profile.roots:
                if root.writable and root.path.is_dir():
                    held = protected._hold(root.path)
                    protected.found[root.path] = (*scan(root.path), *held)
        except BaseException:
            protected.release()
            raise
        return protected

    def appeared(self) -> tuple[Path, ...]:
        """Host paths of protected names that are new since `acquire`, for the person to look at."""
        return tuple(root / name for root, before in self.found.items() for name in appeared(root, before))

    def release(self) -> None:
        """Remove placeholders nobody else holds. Idempotent."""
        held, self._held = self._held, []
        for path, descriptor in held:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _same(path, descriptor) and _is_placeholder(path):
                    path.rmdir() if path.is_dir() else path.unlink()
            os.close(descriptor)

    def _hold(self, root: Path) -> tuple[ProtectedPath, ...]:
        """Hold what is missing. Returns what `scan` does not find, since elsewhere those names mean nothing."""
        with os.scandir(root) as entries:
            present = {entry.name for entry in entries if entry.name in HELD_FILES or entry.name in HELD_FOLDERS}
        repository = ".git" in present and not _is_placeholder(root / ".git")
        for name in (*HELD_FOLDERS, *HELD_FILES):
            if name == HEAD and repository:
                continue  # git finds `.git` first
            if name not in present:
                self._make(root / name, HELD_FILES.get(name))
            elif _is_placeholder(root / name):
                self._lock(root / name)
        return (ProtectedPath(Path(HEAD)),) if any(path == root / HEAD for path, _ in self._held) else ()

    def _make(self, path: Path, content: bytes | None) -> None:
        # If it exists by now, another run made it a moment ago, or it is the person's, in other letters on a file
        # system that ignores case. It is held either way; only a placeholder is removed.
        with contextlib.suppress(FileExistsError):
            if content is None:
                path.mkdir(mode=0o500)
                path.chmod(_FOLDER_MODE)
            else:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
                try:
                    os.write(descriptor, content)
                    os.fchmod(descriptor, _FILE_MODE)
                finally:
                    os.close(descriptor)
        self._lock(path)

    def _lock(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if not _same(path, descriptor):  # the last run before this one has just removed it
                raise FileNotFoundError(path)
        except BaseException:
            os.close(descriptor)
            raise
        self._held.append((path, descriptor))


def _is_placeholder(path: Path) -> bool:
    found = path.lstat()
    if stat.S_ISDIR(found.st_mode):
        if stat.S_IMODE(found.st_mode) != _FOLDER_MODE:
            return False
        with os.scandir(path) as entries:
            return next(entries, None) is None
    return (
        stat.S_ISREG(found.st_mode)
        and stat.S_IMODE(found.st_mode) == _FILE_MODE
        and found.st_size == len(HELD_FILES[path.name])
    )


def _same(path: Path, descriptor: int) -> bool:
    try:
        found, held = path.lstat(), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino)
