"""The SQLite file: opening, migrations, one transaction at a time. What is in it: the modules beside this one."""

from __future__ import annotations

import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import structlog

from peer.protocol.errors import Unavailable
from rendezvous.storage.errors import OtherSchema

log = structlog.get_logger(__name__)

R = TypeVar("R")

READERS = 4
"""Connections for reads. In WAL mode they neither wait for the writer's fsync nor hold it up."""
BUSY_SECONDS = 5
"""The broker holds its data folder alone: only a command of its operator can have the file locked."""


def migrations() -> list[str]:
    """Return the SQL of schema/NNN_name.sql in order; the n-th brings `user_version` to n."""
    folder = resources.files("rendezvous.storage.sqlite").joinpath("schema")
    return [
        entry.read_text("utf-8")
        for entry in sorted(folder.iterdir(), key=lambda e: e.name)
        if entry.name.endswith(".sql")
    ]


class FileConnection(sqlite3.Connection):
    """A connection for the SQL in rendezvous.storage.sql."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.changed: dict[str, None] = {}

    def note_change(self, user_id: str) -> None:
        self.changed[user_id] = None


class Database:
    """One connection that writes and READERS that read, for worker threads. Raises Unavailable for SQLite's errors.

    Several processes may have the file open: in WAL mode they read beside each other, and write in turns.
    """

    def __init__(self, path: Path, *, beside: bool = False) -> None:
        """Open the file, made or migrated; `beside` the broker that uses it, it is used as it is."""
        if not beside:
            # Created 0600 before SQLite opens it: the -wal and -shm files get its mode.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._write_lock = threading.Lock()
        self._readers: queue.SimpleQueue[FileConnection] = queue.SimpleQueue()
        self._readers_open = 0
        self._looking_up: FileConnection | None = None
        with _as_unavailable():
            self._writer = _connect(path, "rw")
            try:
                _refuse_newer(self._writer, path)
                if beside:
                    _refuse_older(self._writer, path)
                self._writer.execute("PRAGMA journal_mode = WAL")
                self._writer.execute("PRAGMA synchronous = FULL")
                if not beside:
                    migrate(self._writer)
                for _ in range(READERS):
                    self._readers.put(_connect(path, "ro"))
                    self._readers_open += 1
                self._looking_up = _connect(path, "ro", busy_seconds=0)
            except BaseException:
                self._close()
                raise

    def close(self) -> None:
        """Close the file once running transactions have ended; later ones raise Unavailable."""
        with self._write_lock:
            self._close()

    def _close(self) -> None:
        self._writer.close()
        if self._looking_up is not None:
            self._looking_up.close()
        readers = [self._readers.get() for _ in range(self._readers_open)]
        for reader in readers:
            reader.close()
            self._readers.put(reader)

    def write(self, step: Callable[[FileConnection], R]) -> tuple[R, Collection[str]]:
        """Return `step(connection)` and the users that it noted a change of; all of its writes are committed together
        or, when it raises, none."""
        with self._write_lock, _as_unavailable():
            changed: dict[str, None] = {}
            self._writer.changed = changed
            with transaction(self._writer, "BEGIN IMMEDIATE"):
                result = step(self._writer)
            return result, changed

    def read(self, step: Callable[[FileConnection], R]) -> R:
        """Return `step(connection)`, which sees one committed state of the file and cannot write."""
        reader = self._readers.get()
        try:
            with _as_unavailable(), transaction(reader, "BEGIN"):
                return step(reader)
        finally:
            self._readers.put(reader)

    def look_up(self, statement: str, values: Sequence[object]) -> list[Any] | None:
        """Return the rows of one statement, or None where that fails, as on a locked file: it never waits."""
        assert self._looking_up is not None
        try:
            return self._looking_up.execute(statement, values).fetchall()
        except sqlite3.Error:
            return None


@contextmanager
def transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    """Run the block as one transaction: committed at its end, rolled back by any exception."""
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file to this program's version, each migration in a transaction of its own."""
    for version, script in enumerate(migrations(), start=1):
        with transaction(connection, "BEGIN IMMEDIATE"):
            (present,) = connection.execute("PRAGMA user_version").fetchone()
            if present < version:
                for statement in _statements(script):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {version}")


def _statements(script: str) -> Iterator[str]:
    # executescript() first commits the open transaction, so that a crash half way would leave half a migration.
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
    yield pending  # a comment, or a statement without its semicolon, which must not be lost


def _connect(path: Path, mode: str, *, busy_seconds: float = BUSY_SECONDS) -> FileConnection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=busy_seconds,
        factory=FileConnection,
    )
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def look(path: Path) -> str:
    """Return the version of a file's tables and its size, in words; change nothing. Raises Unavailable."""
    if not path.exists():
        return f"none yet: the first `serve` makes {path}"
    # Without a WAL nobody has it open: read as immutable, nothing is made beside it.
    mode = "ro" if path.with_name(f"{path.name}-wal").exists() else "ro&immutable=1"
    with _as_unavailable(), closing(_connect(path, mode)) as connection:
        _refuse_newer(connection, path)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return f"{path}, {path.stat().st_size:,} bytes, tables of version {version}; this program's is {len(migrations())}"


def _refuse_newer(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    known = len(migrations())
    if version > known:
        raise Unavailable(
            f"{path} was written by a newer dispatch-rendezvous (schema {version}, this one knows {known})",
            fix="update dispatch-rendezvous; the file was not touched",
        )


def _refuse_older(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version < len(migrations()):
        raise OtherSchema(str(path), found=version, known=len(migrations()))


@contextmanager
def _as_unavailable() -> Iterator[None]:
    try:
        yield
    except sqlite3.IntegrityError:
        raise  # a fault of ours, not of the disk
    except sqlite3.Error as error:
        log.warning("database.failed", error=type(error).__name__, code=getattr(error, "sqlite_errorname", ""))
        raise Unavailable(
            f"the broker can't use its database: {error}", fix="its operator should look at disk and log"
        ) from error
