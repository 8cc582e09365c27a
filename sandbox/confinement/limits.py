"""What one confined run may use up, as rlimits and file system sizes; how they are set, not who chooses
them.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024
GIB = 1024 * MIB


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds in bytes, seconds or counts. rlimits hold per process, sizes and what is watched per run.

    ``data`` bounds private writable memory of one process; the address space is left alone because V8, Go and Java
    reserve tens of GiB that they never touch. Below 1 GiB of data the claude program does not start. ``processes``
    counts threads too; the kernel does not apply it to host uid 0, the watch does. Watched (watch.py): ``memory`` of
    the whole run, ``disk`` and ``files`` in its own folders, and the ``room`` that it leaves on file systems it may
    write (or a twentieth of one, if that is more).
    """

    data: int = 4 * GIB
    file_size: int = 2 * GIB
    cpu_seconds: int = 3600
    processes: int = 1024
    open_files: int = 4096
    locked_memory: int = 64 * MIB
    tmp_size: int = 1 * GIB
    home_size: int = 256 * MIB
    shm_size: int = 128 * MIB
    memory: int = 8 * GIB
    disk: int = 10 * GIB
    files: int = 250_000
    room: int = GIB

    def whole_memory(self) -> int:
        """``memory``, or three quarters of what this machine has where that is less."""
        return min(self.memory, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 3 // 4)


def prlimit_prefix(limits: Limits) -> list[str]:
    """The words put before the program's own inside the sandbox: prlimit(1) sets soft and hard limits,
    then execs.

    Not preexec_fn: that runs Python between fork and exec, and cannot reach past bwrap's own clone. A limit
    that this process itself is under already is kept where it is the lower one.
    """
    wanted = {
        "data": (resource.RLIMIT_DATA, limits.data),
        "fsize": (resource.RLIMIT_FSIZE, limits.file_size),
        "cpu": (resource.RLIMIT_CPU, limits.cpu_seconds),
        "nproc": (resource.RLIMIT_NPROC, limits.processes),
        "nofile": (resource.RLIMIT_NOFILE, limits.open_files),
        "memlock": (resource.RLIMIT_MEMLOCK, limits.locked_memory),
        "core": (resource.RLIMIT_CORE, 0),
        "msgqueue": (resource.RLIMIT_MSGQUEUE, 0),
        "rtprio": (resource.RLIMIT_RTPRIO, 0),
    }
    words = [f"--{name}={_at_most(kind, value)}" for name, (kind, value) in wanted.items()]
    return ["/usr/bin/prlimit", *words, "--"]


@contextlib.contextmanager
def first_to_die() -> Iterator[None]:
    """What is started inside is taken first when this machine runs out of memory (proc_pid_oom_score_adj(5)).

    Inherited across fork and exec, so set on this process for that instant. Where it may not be set, as some containers
    have it, the run starts without.
    """
    own = Path("/proc/self/oom_score_adj")
    before = None
    with contextlib.suppress(OSError):
        before = own.read_text()
        own.write_text("1000")
    try:
        yield
    finally:
        if before is not None:
            with contextlib.suppress(OSError):
                own.write_text(before)


def _at_most(kind: int, value: int) -> int:
    hard = resource.getrlimit(kind)[1]
    return value if hard == resource.RLIM_INFINITY else min(value, hard)
