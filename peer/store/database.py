"""Opening the store: migrations, transactions, the two connections. What is stored is said in the other modules.

One connection writes, one reads (WAL lets them not wait for each other); both are used from worker threads, one caller
at a time each. All writes of one step are one function run inside one transaction: state, event and outgoing statement
become durable together (synchronous=FULL) before anyone is told.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import TypeVar

import trio

from peer.protocol.errors import Conflict, Internal, Unavailable

T = TypeVar("T")

BUSY_MS = 5_000
"""How long a statement waits for another process's lock: the CLI's own writes (an offline revocation) take
milliseconds, so five seconds mean that something is stuck."""


class NewerStore(Conflict):
    """The store was written by a later version of the program; it is refused and not touched."""


def schema() -> list[str]:
    """Return the migrations in order; the n-th brings `user_version` to n."""
    folder = resources.files("peer.store") / "schema"
    return [item.read_text("utf-8") for item in sorted(folder.iterdir(), key=lambda item: item.name)]


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open `path` without migrating it. Raises NewerStore, Unavailable."""
    mode = "ro" if read_only else "rwc"
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False
        )
        connection.row_factory = sqlite3.Row
        connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        known = len(schema())
        if version > known:
            connection.close()
            raise NewerStore(
                f"the store has version {version}, this program knows {known}", fix="update dispatch on this machine"
            )
        if not read_only:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error as error:
        raise as_error(error) from error
    return connection


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the store to this program's version, each migration in a transaction of its own."""
    for version, script in enumerate(schema(), start=1):
        with writing(connection):
            (present,) = connection.execute("PRAGMA user_version").fetchone()
            if present < version:
                for statement in _statements(script):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {version}")


def _statements(script: str) -> Iterator[str]:
    # executescript() commits what is open, so a crash half way would leave half a schema: one by one instead.
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""


@contextmanager
def writing(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Run the block as one transaction: committed at its end, rolled back by any exception."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def as_error(error: sqlite3.Error) -> Unavailable | Internal:
    """Say an SQLite error as one of ours."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if code is not None else None
    if primary in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return Unavailable("the disk of the state folder is full or failing", fix="free some space, then try again")
    if primary in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return Unavailable(
            "the store cannot be opened or written", fix="check that the state folder is yours: `dispatch doctor --fix`"
        )
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Unavailable("another program holds the store", fix="close what else has the state folder open")
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return Unavailable("the store is damaged", fix="restore the state folder from a backup")
    return Internal(f"the store failed: {error}")


class Store:
    """The open store of the one node of a state folder. Open with `Store.open`, close with `close`."""

    def __init__(self, path: Path, writer: sqlite3.Connection, reader: sqlite3.Connection) -> None:
        self.path = path
        self._writer = writer
        self._reader = reader
        self._write_limit = trio.CapacityLimiter(1)
        self._read_limit = trio.CapacityLimiter(1)

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open and migrate the store at `path` (blocking; at start only). Raises NewerStore, Unavailable."""
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
        """Run `step` inside one durable transaction and return its value; its exceptions roll everything back."""

        def run() -> T:
            try:
                with writing(self._writer) as connection:
                    return step(connection)
            except sqlite3.Error as error:
                raise as_error(error) from error

        # Not cancellable: a step once begun is finished, and its caller learns what became durable.
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
        """Close both connections; the write-ahead log is folded in."""
        self._reader.close()
        self._writer.close()
