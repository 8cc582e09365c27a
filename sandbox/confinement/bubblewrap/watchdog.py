"""A thread that watches what a whole run takes of this machine, and kills it above its bounds.

Measuring is resource_usage.py's, the bounds are `Limits`. The kernel bounds each process by itself (rlimits.py), and of
root's processes not even the number. Control groups would bound the whole, but few daemons are given any. So a thread
outside the sandbox looks every 50 ms. In between a run can take no more than the machine hands out in that time: tens
of MB for each processor.

A run that cannot be watched is killed.
"""

from __future__ import annotations

import json
import math
import os
import select
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from sandbox.confinement.bubblewrap.resource_usage import DiskUse, FreeSpace, RunProcesses, count_files
from sandbox.confinement.interface import Excess
from sandbox.confinement.profile import Limits

EVERY: Final = 0.05
"""Seconds from one look at the processes to the next, or twice as long as a look takes."""
_COUNTING: Final = 0.01
"""Seconds of each interval that go to counting files."""
_BETWEEN_COUNTS: Final = 1.0
"""Seconds from one count of the files to the next, or five times as long as a count takes."""
_AGAIN: Final = 0.02
"""Seconds until the second look: a program that starts another shares its memory with it for an instant, so only what
is too much twice counts.
"""
_BLIND: Final = 5.0
"""Seconds that a run may live without being measured."""


class Watchdog:
    """Watches one confined tree.

    `folders`: the run's own on this machine, and where its views keep what it writes; `tmpfs`: inside paths where a
    file system in memory is mounted.
    """

    def __init__(self, limits: Limits, *, tmpfs: Sequence[Path] = (), folders: Sequence[Path] = ()) -> None:
        """Measure the disks as they are before the run. Blocking. Raises OSError where a folder is missing."""
        self._limits = limits
        self._tmpfs = tuple(tmpfs)
        self._folders = tuple(folders)
        self._excess: Excess | None = None
        self._thread: threading.Thread | None = None
        self._inside: RunProcesses | None = None
        self._counting: Iterator[None] = iter(())
        self._written = DiskUse()
        self._next_count = -math.inf
        self._count_seconds = 0.0
        self._rooms: dict[int, FreeSpace] = {}
        try:
            for path in folders:
                if (device := path.stat().st_dev) not in self._rooms:
                    self._rooms[device] = FreeSpace.of(path, limits.room)
        except BaseException:
            self.close()
            raise

    def begin(self, bwrap: int, info: int) -> None:
        """Watch until the process `bwrap` has ended. `info`: where its child's pid comes (--info-fd); closed here."""
        pidfd = os.pidfd_open(bwrap)
        self._thread = threading.Thread(target=self._run, args=(pidfd, info), daemon=True, name="watchdog")
        self._thread.start()

    def close(self) -> None:
        """Give up before `begin`."""
        for room in self._rooms.values():
            room.close()
        self._rooms = {}

    def ended(self) -> Excess | None:
        """Wait for the end of the run; why it was killed from here, or None. Blocking."""
        if self._thread is not None:
            self._thread.join()
        return self._excess

    # --- in the thread

    def _run(self, pidfd: int, info: int) -> None:
        # Real-time, ahead of all that the run starts: the kernel does not bound the number of root's processes, and
        # among thousands of equal priority this thread would look every few seconds. Only root may ask for it; for
        # others the number is bounded.
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
        try:
            try:
                with open(info, "rb") as file:
                    init = int(json.load(file)["child-pid"])
            except (OSError, ValueError, LookupError, TypeError):
                if not _has_ended(pidfd, 0.2):  # bwrap without a child ends by itself, with an error message
                    self._kill(pidfd, None, Excess("sight"))
                return
            try:
                child = os.pidfd_open(init)
            except OSError:
                child = None
            try:
                self._watch(pidfd, child, init)
            finally:
                if child is not None:
                    os.close(child)
        except BaseException:
            # An error here must not leave a run unwatched.
            self._kill(pidfd, None, Excess("sight"))
            raise
        finally:
            self.close()
            if self._inside is not None:
                self._inside.close()
            os.close(pidfd)

    def _watch(self, pidfd: int, child: int | None, init: int) -> None:
        seen = time.monotonic()
        pause = 0.0
        while not _has_ended(pidfd, pause):
            began = time.monotonic()
            try:
                if self._inside is None:
                    self._inside = RunProcesses(init, self._tmpfs)
                excess = self._processes(self._inside) or self._disk()
                seen = began
            except OSError:
                # bwrap is still building, or the tree is ending.
                excess = Excess("sight") if began - seen > _BLIND else None
            if excess is not None:
                self._kill(pidfd, child, excess)
                return
            pause = max(EVERY, 2 * (time.monotonic() - began)) if self._inside is not None else 0.002

    def _processes(self, inside: RunProcesses) -> Excess | None:
        used = inside.measure()
        if used.processes > self._limits.processes:
            return Excess("processes", used.processes, self._limits.processes)
        # Or three quarters of what this machine has, where that is less.
        bound = min(self._limits.memory, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 3 // 4)
        for pause in (0.0, _AGAIN):
            if used.memory <= bound:
                return None
            time.sleep(pause)
            used = inside.measure(exact=True)
        return Excess("memory", used.memory, bound) if used.memory > bound else None

    def _disk(self) -> Excess | None:
        limits = self._limits
        for room in self._rooms.values():
            free, inodes = room.now()
            # Files it holds open without a name show only here.
            if free < (floor := max(room.least_bytes, room.bytes - 2 * limits.disk)):
                return Excess("room", free, floor)
            if inodes < (floor := max(room.least_inodes, room.inodes - 2 * limits.files)):
                return Excess("inodes", inodes, floor)
        return self._count()

    def _count(self) -> Excess | None:
        now = time.monotonic()
        if now < self._next_count:
            return None
        until = now + _COUNTING
        for _ in self._counting:
            if self._written.bytes > self._limits.disk:
                return Excess("disk", self._written.bytes, self._limits.disk)
            if self._written.files > self._limits.files:
                return Excess("files", self._written.files, self._limits.files)
            if time.monotonic() > until:
                self._count_seconds += _COUNTING
                return None
        self._next_count = now + max(_BETWEEN_COUNTS, 5 * self._count_seconds)
        self._written, self._count_seconds = DiskUse(), 0.0
        self._counting = count_files(self._folders, self._written)
        return None

    def _kill(self, pidfd: int, child: int | None, excess: Excess) -> None:
        self._excess = excess
        for descriptor in (child, pidfd):
            if descriptor is not None:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)


def _has_ended(pidfd: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
