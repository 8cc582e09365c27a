# ruff: noqa: PTH123
"""Using up the machine. Each takes more than its bound at once, so that little is really taken."""

import errno
import mmap
import os
import resource
from typing import Any

from tests.attacks.inside import attack

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
    handle = os.open(a.project, os.O_TMPFILE | os.O_RDWR, 0o600)
    os.ftruncate(handle, 2 * GIB + 1)


@attack("EFBIG")
def one_large_file_in_memory(a: Any) -> None:
    os.ftruncate(os.memfd_create("large"), 2 * GIB + 1)


@attack("ENOSPC")
def all_of_tmp(a: Any) -> None:
    _a_lot(a.tmp, GIB + 65536)


@attack("ENOSPC")
def all_of_dev_shm(a: Any) -> None:
    _a_lot(a.shm, GIB // 8 + 65536)


@attack("ENOSPC")
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


@attack("EACCES|EPERM", root_only=True, machine=True)
def spared_when_memory_ends(a: Any) -> None:
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("-900")
