# ruff: noqa: PTH108, PTH123
"""Using up the machine. Each takes more than its bound at once, so that little is really taken."""

import ctypes
import errno
import mmap
import os
import resource
from typing import Any

from tests.attacks.inside import SHELL, attack, checked, libc

GIB = 1024**3
NORESERVE = 0x4000
ROOT = "the kernel bounds no processes of root's; an ordinary user's it does"


def _a_lot(path: str, size: int) -> None:
    handle = os.open(path, os.O_TMPFILE | os.O_RDWR, 0o600)
    try:
        os.posix_fallocate(handle, 0, size)
    finally:
        os.close(handle)


@attack("ENOMEM")
def memory_of_one_process(a: Any) -> None:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE
    mmap.mmap(-1, 5 * GIB, flags=flags).close()


@attack("ENOMEM")
def memory_in_many_pieces(a: Any) -> None:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE
    assert len([mmap.mmap(-1, GIB // 4, flags=flags) for _ in range(20)]) == 20


@attack("EFBIG")
def one_large_file(a: Any) -> None:
    path = f"{a.project}/large-{os.getpid()}"  # an overlay has files without a name from Linux 6.3 on only
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    os.unlink(path)
    os.ftruncate(handle, 2 * GIB + 1)


@attack("ENOSYS")
def memory_as_a_file(a: Any) -> None:
    """Nobody's resident memory, of no file system, and no limit of a process counts it."""
    os.truncate(os.memfd_create("large"), GIB)


@attack("EPERM")
def memory_shared_without_a_file(a: Any) -> None:
    """Given back page by page it is resident in no process, yet all there; of many pieces one page each can stay."""
    shared = mmap.mmap(-1, 1 << 20, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
    shared.write(b"x" * (1 << 20))
    shared.madvise(mmap.MADV_DONTNEED)
    assert shared[4096:4097] == b"x"


@attack("ENODEV")
def memory_behind_dev_zero(a: Any) -> None:
    """The same as memory without a file, when the device is mapped."""
    mmap.mmap(os.open("/dev/zero", os.O_RDWR), 1 << 20, flags=mmap.MAP_SHARED).close()


@attack("ENOSYS")
def pages_given_to_a_pipe(a: Any) -> None:
    """One byte holds the whole page, of up to 2 MiB, when its process has long forgotten it."""
    page = ctypes.create_string_buffer(4096)
    _, writing = os.pipe()
    checked(libc().vmsplice(writing, (ctypes.c_size_t * 2)(ctypes.addressof(page), 1), 1, 0), "vmsplice")


@attack("ENOSYS")
def pages_of_a_file_kept_in_a_pipe(a: Any) -> None:
    _, writing = os.pipe()
    checked(libc().splice(os.open("/usr/bin/env", os.O_RDONLY), None, writing, None, ctypes.c_size_t(1), 0), "splice")


@attack("ENOSYS")
def pages_kept_in_a_second_pipe(a: Any) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"x")
    _, second = os.pipe()
    checked(libc().tee(reading, second, ctypes.c_size_t(1), 0), "tee")


@attack("ENOSPC")
def all_of_dev_shm(a: Any) -> None:
    _a_lot(a.shm, GIB // 8 + 65536)


@attack("ENOSPC")
def all_of_tmp(a: Any) -> None:
    _a_lot(a.tmp, GIB + 65536)


@attack("ENOSPC", places=(SHELL,))
def all_of_the_shells_home(a: Any) -> None:
    _a_lot(a.shell_home, GIB // 4 + 65536)


@attack("EMFILE", machine=True)
def descriptors(a: Any) -> None:
    if a.side == "outside":
        resource.setrlimit(resource.RLIMIT_NOFILE, (5000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    for _ in range(4200):
        os.dup(0)


@attack("EAGAIN", ordinary_only=ROOT)
def processes_without_end(a: Any) -> None:
    import threading

    threading.stack_size(64 * 1024)
    done = threading.Event()
    try:
        for _ in range(1100):
            threading.Thread(target=done.wait, daemon=True).start()
    except RuntimeError as problem:
        raise OSError(errno.EAGAIN, str(problem)) from problem
    finally:
        done.set()


def _raise(name: str) -> Any:
    def attempt(a: Any) -> None:
        kind = getattr(resource, f"RLIMIT_{name}")
        try:
            resource.setrlimit(kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        except ValueError as problem:  # what Python makes of EPERM here
            raise OSError(errno.EPERM, str(problem)) from problem

    attempt.__name__ = f"the_limit_{name}_lifted"
    attempt.__module__ = __name__
    return attempt


for _name in ("DATA", "FSIZE", "CPU", "NPROC", "CORE"):
    attack("EPERM", machine=True)(_raise(_name))


@attack("EACCES", root_only=True)
def more_than_its_turn_of_the_processor(a: Any) -> None:
    os.setpriority(os.PRIO_PROCESS, 0, -5)


@attack("EPERM", root_only=True, machine=True)
def real_time(a: Any) -> None:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


@attack("EPERM", shell="EROFS", places=(SHELL,), machine=True)
def somebody_else_first_when_memory_ends(a: Any) -> None:
    """A run is the first that the kernel ends when memory does; a shell cannot change that."""
    with open("/proc/self/oom_score_adj", "r+", encoding="ascii") as file:
        least = "-1000" if os.geteuid() == 0 and a.side == "outside" else "0"
        file.write(least)


@attack("EACCES|EPERM", shell="EROFS", root_only=True, machine=True)
def spared_when_memory_ends(a: Any) -> None:
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("-900")
