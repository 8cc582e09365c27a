"""A clock that jumps, for single programs: theirs is the machine's, moved by as much as a test says, at any time.

It is a fake. A real one would be set for the whole machine, and for every test that runs on it. libfaketime cannot be
used, since a sleep until a time of the monotonic clock fails below it (time.sleep of Python 3.11, libfaketime 0.9.10).
The library here goes in front of the three functions of the C library that tell the date, and of nothing else: waits
are the kernel's, as they are when a real clock is set. dp-agent and all that it confines get no variable of the
daemon's, so they have the machine's own clock.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

SOURCE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *moved;

__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("CLOCK_MOVED_BY"), O_RDONLY | O_CLOEXEC);
    void *there = mmap(0, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    if (there == MAP_FAILED) abort();
    moved = there;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    int failed = syscall(SYS_clock_gettime, clock, at);
    if (!failed && moved && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) at->tv_sec += *moved;
    return failed;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
"""


class Clock:
    """One clock, for all programs that have its `environment`."""

    def __init__(self, library: Path, file: Path) -> None:
        self._file = file
        file.write_bytes(bytes(8))
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_MOVED_BY": str(file)}

    def move(self, *, days: float = 0, hours: float = 0) -> None:
        """Let it be this much ahead of the machine's clock (behind it, below 0)."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("=q", int(days * 86_400 + hours * 3_600)))


def library(folder: Path) -> Path:
    """Compile it. The test is skipped without a compiler."""
    if (compiler := shutil.which("cc") or shutil.which("gcc")) is None:
        pytest.skip("a clock is moved by a small library, which needs a C compiler")
    source, made = folder / "clock.c", folder / "clock.so"
    source.write_text(SOURCE)
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(made), str(source)], check=True)
    return made
