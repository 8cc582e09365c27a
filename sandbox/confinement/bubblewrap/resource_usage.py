"""What a run uses of this machine at one moment, measured from outside: memory, processes, disk.

Only measures; what is too much is watchdog.py's. It reads the run's own /proc (proc_pid_root(5)), which lists its pid
namespace and nothing else, orphans and daemons included. Kinds of memory that cannot be measured from outside do not
exist inside: files in memory and memory shared without a file (seccomp.py), System V memory, /dev/zero (argv.py),
io_uring.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sandbox.confinement.walk import Folder, walk

KIB: Final = 1024
_THREAD: Final = 32 * KIB
"""Bytes of a thread's kernel stack, its task_struct and what belongs to it."""
_TMPFS_INODE: Final = KIB
"""Bytes of an inode of a tmpfs with its directory entry; no limit of ours bounds their number."""
_SOCKET: Final = 416 * KIB
"""The most bytes that one socket may hold unread: twice the default net.core.wmem_max (socket(7))."""
_PIPE: Final = 64 * KIB
_EXACT_SECONDS: Final = 1.0
"""Bound of the slow look at who shares which page: a process not reached by then counts with all that it has."""


@dataclass(frozen=True, slots=True)
class Measured:
    """`memory` in bytes; `processes` counts threads."""

    memory: int
    processes: int


class RunProcesses:
    """The processes of one run. `init`: this machine's number of the first process of its pid namespace."""

    def __init__(self, init: int, tmpfs: tuple[Path, ...]) -> None:
        """Raises OSError until the sandbox is built."""
        root = f"/proc/{init}/root"
        self._proc = os.open(f"{root}/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._tmpfs: list[int] = []
        try:
            # While bwrap still builds, its root is this machine's, whose /proc lists every process.
            if os.readlink("1/ns/pid", dir_fd=self._proc) != str(Path(f"/proc/{init}/ns/pid").readlink()):
                raise FileNotFoundError(root)
            kinds = self._mounts()
            for path in tmpfs:
                if kinds.get(str(path)) == "tmpfs":
                    self._tmpfs.append(os.open(f"{root}{path}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for descriptor in (self._proc, *self._tmpfs):
            os.close(descriptor)
        self._tmpfs = []

    def measure(self, *, exact: bool = False) -> Measured:
        """What all processes use now. Raises OSError where /proc cannot be read.

        Pages and sockets that processes share count for each of them, unless `exact`, which takes longer.
        """
        deadline = time.monotonic() + (_EXACT_SECONDS if exact else 0)
        with os.scandir(self._proc) as entries:
            names = [entry.name for entry in entries if entry.name.isdigit()]
        memory = threads = descriptors = 0
        kinds: set[str] = set()
        for name in names:
            with suppress(ProcessLookupError, FileNotFoundError):  # it has ended
                status = self._status(name)
                threads += status.get("Threads", 1)
                anonymous = status.get("RssAnon", 0) + status.get("VmSwap", 0)
                if exact and anonymous and time.monotonic() < deadline:
                    anonymous = self._proportional(name, anonymous)
                memory += anonymous + status.get("VmPTE", 0) + status.get("VmLck", 0)
                opened = os.stat(f"{name}/fd", dir_fd=self._proc).st_size  # their number, since Linux 6.2
                if exact and time.monotonic() < deadline:
                    opened -= self._add_descriptors(name, kinds)
                descriptors += max(opened, 0)
        sockets = descriptors + sum(kind.startswith("socket:") for kind in kinds)
        pipes = sum(kind.startswith("pipe:") for kind in kinds)
        memory += sockets * _SOCKET + pipes * _PIPE + threads * _THREAD + self._in_tmpfs()
        return Measured(memory, threads)

    def _mounts(self) -> dict[str, str]:
        """Place → kind of its file system (proc_pid_mountinfo(5))."""
        lines = [line.split() for line in self._read("1/mountinfo").splitlines()]
        return {words[4]: words[words.index("-") + 1] for words in lines}

    def _status(self, name: str) -> dict[str, int]:
        """The numbers of proc_pid_status(5), kB as bytes."""
        found = {}
        for line in self._read(f"{name}/status").splitlines():
            key, _, value = line.partition(":")
            if key in ("RssAnon", "VmSwap", "VmPTE", "VmLck", "Threads"):
                number, _, unit = value.strip().partition(" ")
                found[key] = int(number) * (KIB if unit else 1)
        return found

    def _proportional(self, name: str, otherwise: int) -> int:
        """Its share of the anonymous pages (proc_pid_smaps(5))."""
        shares = [
            int(line.split()[1]) * KIB
            for line in self._read(f"{name}/smaps_rollup").splitlines()
            if line.startswith(("Pss_Anon:", "SwapPss:"))
        ]
        return sum(shares) if shares else otherwise

    def _add_descriptors(self, name: str, kinds: set[str]) -> int:
        """Add the links of its descriptors to `kinds`; how many there were. 0 where they may not be read."""
        seen = 0
        with suppress(PermissionError):
            folder = os.open(f"{name}/fd", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc)
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        with suppress(FileNotFoundError):
                            kinds.add(os.readlink(entry.name, dir_fd=folder))
                            seen += 1
            finally:
                os.close(folder)
        return seen

    def _in_tmpfs(self) -> int:
        used = 0
        for descriptor in self._tmpfs:
            about = os.fstatvfs(descriptor)
            used += (about.f_blocks - about.f_bfree) * about.f_frsize
            used += (about.f_files - about.f_ffree) * _TMPFS_INODE
        return used

    def _read(self, name: str) -> str:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc)
        with os.fdopen(descriptor, encoding="ascii", errors="replace") as file:
            return file.read()


@dataclass(frozen=True, slots=True)
class FreeSpace:
    """What a file system had left, and the least that must stay: bytes, and inodes (0 where it does not count them)."""

    descriptor: int
    bytes: int
    inodes: int
    least_bytes: int
    least_inodes: int

    @classmethod
    def of(cls, path: Path, reserve: int) -> FreeSpace:
        """Measure the file system at `path`.

        Of it `reserve` bytes or a twentieth must stay, whichever is more, or half of what is left if that is less.
        """
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        about = os.fstatvfs(descriptor)
        free, size = about.f_bavail * about.f_frsize, about.f_blocks * about.f_frsize
        return cls(
            descriptor,
            free,
            about.f_favail,
            least_bytes=min(max(reserve, size // 20), free // 2),
            least_inodes=min(about.f_files // 20, about.f_favail // 2),
        )

    def now(self) -> tuple[int, int]:
        """(bytes, inodes) left."""
        about = os.fstatvfs(self.descriptor)
        return about.f_bavail * about.f_frsize, about.f_favail

    def close(self) -> None:
        os.close(self.descriptor)


@dataclass
class DiskUse:
    """Bytes on disk and files below some folders, as far as counted yet. A file with two names counts once."""

    bytes: int = 0
    files: int = 0


def count_files(folders: tuple[Path, ...], use: DiskUse) -> Iterator[None]:
    """Add what lies in `folders` to `use`, following no link, one entry a step: the caller stops when it likes.

    What lies in a folder that the run has closed (mode 000) or moves at this moment, and what it has unlinked but
    holds open, is not counted here; see `FreeSpace`.
    """
    linked: set[tuple[int, int]] = set()
    for path in folders:
        with suppress(OSError):
            top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            for folder in walk(top):
                yield from _counted(folder, use, linked)


def _counted(folder: Folder, use: DiskUse, linked: set[tuple[int, int]]) -> Iterator[None]:
    with os.scandir(folder.descriptor) as entries:
        for entry in entries:
            try:
                about = entry.stat(follow_symlinks=False)
                inner = entry.is_dir(follow_symlinks=False)
            except OSError:
                continue
            if about.st_nlink < 2 or inner or (about.st_dev, about.st_ino) not in linked:
                use.bytes += about.st_blocks * 512
                use.files += 1
                if about.st_nlink > 1:
                    linked.add((about.st_dev, about.st_ino))
            if inner:
                folder.inner.append(entry.name)
            yield
