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

from sandbox.confinement.bubblewrap.resource_usage import DiskUse, FreeSpace, Measured, RunProcesses, count_files
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
"""Seconds that a run may live without being measured. A look counts for no more than the time between two: on a machine
that stood still, the run did too.
"""
_BUILT_WITHIN: Final = 60.0
"""As `_BLIND`, until both sandboxes are built: nothing of the run is executed yet."""
_EXITS_WITHIN: Final = 5.0
"""Seconds from the end of bwrap's --info-fd to its own end, where it ends without having told anything."""

_NUMBER: Final = 32
"""Bytes that hold the number of a process and the space behind it."""


class _Tree:
    """One bwrap with what it confines: `pidfd` is bwrap's, `info` where its child's pid comes (--info-fd)."""

    def __init__(self, bwrap: int, info: int) -> None:
        self.pidfd = os.pidfd_open(bwrap)
        self.info = info
        self.init = 0
        self.child: int | None = None
        self.inside: RunProcesses | None = None

    def meet(self) -> bool:
        """Learn which process is the first inside. False where bwrap ended without one, and so with an error message.

        Raises OSError, ValueError, LookupError or TypeError where it is not told.
        """
        try:
            with os.fdopen(self.info, "rb") as file:
                self.init = int(json.load(file)["child-pid"])
        except (OSError, ValueError, LookupError, TypeError):
            if _has_ended(self.pidfd, _EXITS_WITHIN):
                return False
            raise
        with suppress(OSError):
            self.child = os.pidfd_open(self.init)
        return True

    def processes(self, tmpfs: Sequence[Path]) -> RunProcesses:
        """Raises OSError until the sandbox is built."""
        if self.inside is None:
            self.inside = RunProcesses(self.init, tuple(tmpfs))
        return self.inside

    def kill(self) -> None:
        """End all of it. The kernel ends the first process inside, and then, some time later, the others with it."""
        for descriptor in (self.child, self.pidfd):
            if descriptor is not None:
                _kill(descriptor)

    def kill_program(self) -> None:
        """As `kill`; and the program that the first process inside started executes nothing more once this returns."""
        program = None if self.child is None else _oldest_child(self.init, self.child)
        if program is not None:
            _kill(program)
            os.close(program)
        self.kill()

    def close(self) -> None:
        if self.inside is not None:
            self.inside.close()
        for descriptor in (self.child, self.pidfd):
            if descriptor is not None:
                os.close(descriptor)


class Watchdog:
    """Watches one run: the agent's tree, and that of its shell zone.

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
        self._trees: list[_Tree] = []
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

    def begin(self, trees: Sequence[tuple[int, int]]) -> None:
        """Watch until the first of these has ended: (pid of bwrap, its --info-fd, closed here), the agent's first.

        When another one ends before it, the run is killed.
        """
        self._trees = [_Tree(bwrap, info) for bwrap, info in trees]
        self._thread = threading.Thread(target=self._run, daemon=True, name="watchdog")
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

    def _run(self) -> None:
        # Real-time, ahead of all that the run starts: the kernel does not bound the number of root's processes, and
        # among thousands of equal priority this thread would look every few seconds. Only root may ask for it; for
        # others the number is bounded.
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
        try:
            try:
                met = [tree.meet() for tree in self._trees]
            except (OSError, ValueError, LookupError, TypeError):
                self._kill(Excess("sight"))
                return
            if all(met):
                self._watch()
                for zone in self._trees[1:]:
                    zone.kill()
            elif met[0] and not _has_ended(self._trees[0].pidfd, 0):
                self._kill(Excess("shells"))
        except BaseException:
            # An error here must not leave a run unwatched.
            self._kill(Excess("sight"))
            raise
        finally:
            self.close()
            for tree in self._trees:
                tree.close()

    def _watch(self) -> None:
        agent, *others = self._trees
        blind = pause = 0.0
        built = False
        looked = time.monotonic()
        while not _has_ended(agent.pidfd, pause):
            began = time.monotonic()
            try:
                excess = self._processes() or self._disk()
                blind = 0.0
            except OSError:
                # bwrap is still building, or the tree is ending.
                blind += min(began - looked, max(pause, EVERY))
                excess = Excess("sight") if blind > (_BLIND if built else _BUILT_WITHIN) else None
            looked = began
            if excess is None and any(_has_ended(tree.pidfd, 0) for tree in others) and not _has_ended(agent.pidfd, 0):
                excess = Excess("shells")
            if excess is not None:
                self._kill(excess)
                return
            built = all(tree.inside is not None for tree in self._trees)
            pause = max(EVERY, 2 * (time.monotonic() - began)) if built else 0.002

    def _measure(self, *, exact: bool = False) -> Measured:
        found = [tree.processes(self._tmpfs).measure(exact=exact) for tree in self._trees]
        return Measured(sum(one.memory for one in found), sum(one.processes for one in found))

    def _processes(self) -> Excess | None:
        used = self._measure()
        if used.processes > self._limits.processes:
            return Excess("processes", used.processes, self._limits.processes)
        # Or three quarters of what this machine has, where that is less.
        bound = min(self._limits.memory, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 3 // 4)
        for pause in (0.0, _AGAIN):
            if used.memory <= bound:
                return None
            time.sleep(pause)
            used = self._measure(exact=True)
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

    def _kill(self, excess: Excess) -> None:
        self._excess = excess
        agent, *others = self._trees
        # The agent's program first, by itself: on a busy machine it would learn that its shells have ended, and go on
        # from there, before the kernel gets to it.
        agent.kill_program()
        for zone in others:
            zone.kill()


def _oldest_child(parent: int, parent_pidfd: int) -> int | None:
    """A pidfd of the first child of a process that still lives, which the caller closes; None where it is not told.

    Numbers are used again. As the parent lives after the second look, both looks were at children of this very process.
    """

    def oldest() -> bytes:
        with Path(f"/proc/{parent}/task/{parent}/children").open("rb", buffering=0) as file:
            return file.read(_NUMBER).split()[0]

    try:
        number = oldest()
        pidfd = os.pidfd_open(int(number))
    except (OSError, IndexError, ValueError):
        return None
    with suppress(OSError, IndexError):
        if oldest() == number and not _has_ended(parent_pidfd, 0):
            return pidfd
    os.close(pidfd)
    return None


def _kill(pidfd: int) -> None:
    with suppress(OSError):  # it has ended
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def _has_ended(pidfd: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
