"""A process that only computes from now on: it has its memory and the descriptors that are open, and nothing else.

For small programs of ours that read hostile text with a library. A run's sandbox is bubblewrap's.
"""

from __future__ import annotations

import errno
import resource
from typing import Final

from sandbox.confinement.libseccomp import load_library

MEMORY: Final = 600_000_000
"""Bytes of address space."""
PROCESSOR: Final = 6
"""Seconds of processor time."""

# Reading and writing what is open; memory; the clock; the end. Nothing that opens, connects, starts or signals.
_ALLOWED = """
brk clock_gettime close exit exit_group fstat futex getpid getrandom gettimeofday gettid getrusage lseek madvise mmap
mprotect mremap munmap newfstatat read rseq rt_sigaction rt_sigprocmask rt_sigreturn sched_yield sigaltstack write
""".split()  # noqa: SIM905 - as in bubblewrap/seccomp.py
# newfstatat names a path too, but only looks; on x86_64 glibc makes fstat of it.


def bound() -> None:
    """Bound this process's memory and processor time, and leave no core of it. Comes first, before anything is read."""
    for limit, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, PROCESSOR),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))


def only_compute() -> None:
    """Close every other system call of this process (EPERM). Not reversible. Raises SandboxError, OSError."""
    library = load_library()
    made = library.SyscallFilter(library.ERRNO(errno.EPERM))
    for name in _ALLOWED:
        try:
            made.add_rule(library.ALLOW, name)
        except OSError as problem:  # a call that this architecture does not have
            if problem.errno not in (errno.EINVAL, errno.EFAULT, errno.EDOM):
                raise
    made.load()
