"""The node's open store: durable write steps and read snapshots, in worker threads. The queries: the other modules.

One connection writes and one reads, without blocking each other (WAL); each is used by one caller at a time, in a
worker thread. All writes of a step happen in one function inside one transaction: state, event and outgoing statement
become durable together (synchronous=FULL) before any effect outside the store.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import trio

from peer.protocol.errors import Unavailable
from peer.store.connection import as_error, connect, migrate, writing

T = TypeVar("T")


class Store:
    """The open store of a state folder's only node. Open with `Store.open`, close with `close`."""

    def __init__(self, path: Path, writer: sqlite3.Connection, reader: sqlite3.Connection) -> None:
        self.path = path
        self._writer = writer
        self._reader = reader
        self._write_limit = trio.CapacityLimiter(1)
        self._read_limit = trio.CapacityLimiter(1)

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open and migrate the store (blocking, at start only). Raises NewerStore, OlderStore, Unavailable."""
        try:
            path.touch(mode=0o600, exist_ok=True)
        except OSError as error:
            fix = "free some space" if error.errno == errno.ENOSPC else "check that the state folder is yours"
            raise Unavailable(f"the store cannot be opened: {error.strerror}", fix=fix) from error
        writer = connect(path)
        try:
            migrate(writer)
        except sqlite3.Error as error:
            writer.close()
            raise as_error(error) from error
        return cls(path, writer, connect(path))

    async def write(self, step: Callable[[sqlite3.Connection], T]) -> T:
        """Run `step` inside one durable transaction and return its value; an exception rolls everything back."""

        def run() -> T:
            try:
                with writing(self._writer) as connection:
                    return step(connection)
            except sqlite3.Error as error:
                raise as_error(error) from error

        # Shielded: a started step runs to its end, so its caller always gets the outcome of the transaction.
        with trio.CancelScope(shield=True):
            return await trio.to_thread.run_sync(run, limiter=self._write_limit)

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run `query` on a snapshot that no writer changes."""

        def run() -> T:
            try:
                self._reader.execute("BEGIN")
                try:
                    return query(self._reader)
                finally:
                    self._reader.execute("ROLLBACK")
            except sqlite3.Error as error:
                raise as_error(error) from error

        with trio.CancelScope(shield=True):
            return await trio.to_thread.run_sync(run, limiter=self._read_limit)

    def close(self) -> None:
        """Close both connections, which checkpoints the write-ahead log."""
        self._reader.close()
        self._writer.close()
