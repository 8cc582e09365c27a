"""What the disk under the state folders costs, so that what is spent in fsync can be told from what is ours."""

from __future__ import annotations

import mmap
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import psutil

FRAME = 4096 + 24
"""One page in SQLite's write-ahead log."""


def fsync_seconds(folder: Path, rounds: int) -> list[float]:
    """Append one log frame to a file and fsync it, so many times."""
    path = folder / "fsync"
    taken = []
    with path.open("wb", buffering=0) as file:
        for _ in range(rounds):
            start = time.perf_counter()
            file.write(bytes(FRAME))
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - start)
    path.unlink()
    return taken


def use_memory(size: int) -> None:
    """Write to `size` bytes of memory, or to half of what is free, and give it back.

    A virtual machine has most of its memory from its host only once it is first written to. That takes six times as
    long as writing to it again, and would fall to whoever writes first.
    """
    size = min(size, psutil.virtual_memory().available // 2)
    with mmap.mmap(-1, size) as memory:
        for start in range(0, size, mmap.PAGESIZE):
            memory[start] = 1


def commit_seconds(folder: Path, rounds: int) -> list[float]:
    """Commit one row of 1 KiB in a store set up like ours (WAL, synchronous=FULL), nothing around it."""
    path = folder / "commit.db"
    taken = []
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("CREATE TABLE rows (n INTEGER PRIMARY KEY, raw BLOB)")
        for _ in range(rounds):
            start = time.perf_counter()
            db.execute("INSERT INTO rows (raw) VALUES (?)", (bytes(1024),))
            taken.append(time.perf_counter() - start)
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    return taken
