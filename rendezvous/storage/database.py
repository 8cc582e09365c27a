"""The SQLite file: opening, migrations, one transaction at a time. What is in it: the modules beside this one."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from peer.protocol.errors import Unavailable

P = ParamSpec("P")
R = TypeVar("R")
Connection = sqlite3.Connection


def migrations() -> list[str]:
    """Return the SQL of schema/NNN_name.sql in order; the n-th one brings `user_version` to n."""
    folder = resources.files("rendezvous.storage").joinpath("schema")
    return [
        entry.read_text() for entry in sorted(folder.iterdir(), key=lambda e: e.name) if entry.name.endswith(".sql")
    ]


class Database:
    """One connection, used from worker threads one at a time: SQLite has one writer anyway, and a transaction here
    takes well under a millisecond."""

    def __init__(self, path: Path) -> None:
        # Made 0600 before SQLite opens it: the -wal and -shm files take over its mode.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
        self._connection.row_factory = sqlite3.Row
        try:
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "trusted_schema=OFF"):
                self._connection.execute(f"PRAGMA {pragma}")
            self._migrate(path)
        except sqlite3.Error as error:
            self._connection.close()
            raise _unavailable(error) from error
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file; later calls raise Unavailable."""
        with self._lock:
            self._connection.close()

    def run(self, step: Callable[Concatenate[sqlite3.Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return `step(connection, …)`, all of whose writes are kept together or, if it raises, not at all.

        Raises Unavailable when the disk is full or the file cannot be used.
        """
        with self._transaction() as connection:
            return step(connection, *args, **kwargs)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                    self._connection.execute("COMMIT")
                except BaseException:
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                    raise
            except sqlite3.IntegrityError:
                raise
            except sqlite3.Error as error:
                raise _unavailable(error) from error

    def _migrate(self, path: Path) -> None:
        steps = migrations()
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version > len(steps):
            raise Unavailable(
                f"{path} was written by a newer dispatch-rendezvous (schema {version}, this one knows {len(steps)})",
                fix="update dispatch-rendezvous; the file was not touched",
            )
        for number, script in enumerate(steps[version:], start=version + 1):
            self._connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")


def _unavailable(error: sqlite3.Error) -> Unavailable:
    return Unavailable(f"the broker can't use its database: {error}", fix="its operator should look at disk and log")
