"""Setting what the kernel bounds of one process: rlimits and the OOM score. The bounds themselves are profile.py's."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

from sandbox import programs
from sandbox.confinement.profile import Limits


def prlimit_prefix(limits: Limits) -> list[str]:
    """The words put before the program's own inside the sandbox: prlimit(1) sets soft and hard limits, then execs.

    Not preexec_fn: that runs Python between fork and exec, and cannot reach past bwrap's own clone. A limit that this
    process itself is under already is kept where it is the lower one. The kernel does not apply RLIMIT_NPROC, which
    counts threads too, to host uid 0; the watchdog does. It counts the agent's sandbox and the shell zone apart, and
    the watchdog both, so what one of them may have leaves room for the other: else the run would end where a fork
    fails.
    """
    wanted = {
        "data": (resource.RLIMIT_DATA, limits.data),
        "fsize": (resource.RLIMIT_FSIZE, limits.file_size),
        "cpu": (resource.RLIMIT_CPU, limits.cpu_seconds),
        "nproc": (resource.RLIMIT_NPROC, limits.processes * 7 // 8),
        "nofile": (resource.RLIMIT_NOFILE, limits.open_files),
        "memlock": (resource.RLIMIT_MEMLOCK, limits.locked_memory),
        "core": (resource.RLIMIT_CORE, 0),
        "msgqueue": (resource.RLIMIT_MSGQUEUE, 0),
        "rtprio": (resource.RLIMIT_RTPRIO, 0),
    }
    words = [f"--{name}={_at_most(kind, value)}" for name, (kind, value) in wanted.items()]
    return [programs.find("prlimit").path or "prlimit", *words, "--"]


@contextlib.contextmanager
def killed_first_when_out_of_memory() -> Iterator[None]:
    """What is started inside is killed first when this machine runs out of memory (proc_pid_oom_score_adj(5)).

    Inherited across fork and exec, so set on this process for that instant. Where it may not be set, as in some
    containers, the run starts without.
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
