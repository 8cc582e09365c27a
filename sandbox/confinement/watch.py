"""Watches what a whole run takes of this machine, and kills it above its bounds. Measuring is consumption.py's; what
bounds there are, limits.py's.

The kernel bounds each process by itself (limits.py), and of root's processes not even the number. Control groups would
bound the whole, but few daemons are given any. So a thread outside the sandbox looks every 50 ms. In between a run can
take no more than the machine hands out in that time: tens of MB for each processor.

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
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from sandbox.confinement.consumption import Inside, Room, Written, count
from sandbox.confinement.limits import Limits

EVERY: Final = 0.05
"""Seconds from one look at the processes to the next, or twice as long as a look takes."""
_COUNTING: Final = 0.01
"""Seconds of each interval that go to counting files."""
_BETWEEN_COUNTS: Final = 1.0
"""Seconds from one count of the files to the next, or five times as long as a count takes."""
_AGAIN: Final = 0.02
"""A program that starts another shares its memory with it for an instant: what is too much must be so twice."""
_BLIND: Final = 5.0
"""Seconds that a run may live without being seen."""

Bound = Literal["memory", "processes", "disk", "files", "room", "inodes", "sight"]


@dataclass(frozen=True, slots=True)
class Excess:
    """Which bound a run passed: `used` and `bound` in bytes or numbers.

    ``memory``, ``processes``: of the whole run. ``disk``, ``files``: in its own folders. ``room``, ``inodes``: what is
    left on a file system that it may write, `bound` the least that must be. ``sight``: it could not be looked at.
    """

    what: Bound
    used: int = 0
    bound: int = 0


class Watch:
    """Over one confined tree. ``folders``: the run's own on this machine; ``others``: further places it may write;
    ``tmpfs``: where memory is mounted as a file system, by inside path.
    """

    def __init__(
        self, limits: Limits, *, tmpfs: Sequence[Path] = (), folders: Sequence[Path] = (), others: Sequence[Path] = ()
    ) -> None:
        """Look at the disks as they are before the run. Blocking. Raises OSError where a folder is not there."""
        self._limits = limits
        self._tmpfs = tuple(tmpfs)
        self._folders = tuple(folders)
        self._excess: Excess | None = None
        self._thread: threading.Thread | None = None
        self._inside: Inside | None = None
        self._counting: Iterator[None] = iter(())
        self._written = Written()
        self._next_count = -math.inf
        self._count_seconds = 0.0
        self._rooms: dict[int, Room] = {}
        try:
            for path in (*folders, *others):
                if (device := path.stat().st_dev) not in self._rooms:
                    self._rooms[device] = Room.of(path, limits.room)
        except BaseException:
            self.close()
            raise

    def begin(self, bwrap: int, told: int) -> None:
        """Watch until the process `bwrap` has ended. `told`: what it tells of its child (--info-fd); closed here."""
        pidfd = os.pidfd_open(bwrap)
        self._thread = threading.Thread(target=self._run, args=(pidfd, told), daemon=True, name="watch")
        self._thread.start()

    def close(self) -> None:
        """Give up before `begin`."""
        for room in self._rooms.values():
            room.close()
        self._rooms = {}

    def ended(self) -> Excess | None:
        """Why the run was killed from here, or None, when it has ended."""
        if self._thread is not None:
            self._thread.join()
        return self._excess

    # -- in the thread

    def _run(self, pidfd: int, told: int) -> None:
        # Before everything that the run starts: of root's processes the kernel bounds no number, and beside thousands
        # of equal rank this thread would look every few seconds. Only root may ask for it; others have the bound.
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
        try:
            try:
                with open(told, "rb") as telling:
                    init = int(json.load(telling)["child-pid"])
            except (OSError, ValueError, LookupError, TypeError):
                if not _over(pidfd, 0.2):  # with no child it ends by itself, and says why
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
            # A defect here must not leave a run unwatched.
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
        while not _over(pidfd, pause):
            began = time.monotonic()
            try:
                if self._inside is None:
                    self._inside = Inside(init, self._tmpfs)
                excess = self._processes(self._inside) or self._disk()
                seen = began
            except OSError:
                # bwrap is building, or the tree is ending.
                excess = Excess("sight") if began - seen > _BLIND else None
            if excess is not None:
                self._kill(pidfd, child, excess)
                return
            pause = max(EVERY, 2 * (time.monotonic() - began)) if self._inside is not None else 0.002

    def _processes(self, inside: Inside) -> Excess | None:
        taken = inside.taken()
        if taken.processes > self._limits.processes:
            return Excess("processes", taken.processes, self._limits.processes)
        bound = self._limits.whole_memory()
        for pause in (0.0, _AGAIN):
            if taken.memory <= bound:
                return None
            time.sleep(pause)
            taken = inside.taken(exact=True)
        return Excess("memory", taken.memory, bound) if taken.memory > bound else None

    def _disk(self) -> Excess | None:
        limits = self._limits
        for room in self._rooms.values():
            free, inodes = room.now()
            # What it holds open without a name, and what it adds to the person's folders, shows here alone.
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
        self._written, self._count_seconds = Written(), 0.0
        self._counting = count(self._folders, self._written)
        return None

    def _kill(self, pidfd: int, child: int | None, excess: Excess) -> None:
        self._excess = excess
        for descriptor in (child, pidfd):
            if descriptor is not None:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)


def _over(pidfd: int, seconds: float) -> bool:
    ending = select.poll()
    ending.register(pidfd, select.POLLIN)
    return bool(ending.poll(seconds * 1000))
