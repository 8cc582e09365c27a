"""Opens the store's file: version, migrations, transactions, SQLite's errors as ours. No threads, no trio.

Without trio because `dispatch inbox` opens the store itself if no daemon runs, and should feel instant.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peer.protocol.errors import Conflict, Internal, Unavailable

BUSY_MS = 5_000
"""How long an SQL statement waits for another process's lock. The CLI's own writes (an offline revocation) take
milliseconds, so after five seconds something is stuck."""


class NewerStore(Conflict):
    """The store was written by a later version of the program; it is not opened."""


class OlderStore(Conflict):
    """The store was written by an earlier version and cannot be migrated, or not by a program that only reads it."""


WITH_MEMBERSHIPS = 6
"""The first store version in which contacts are pinned by their devices' signed memberships."""


def schema() -> list[str]:
    """Return the migrations in order; the n-th sets `user_version` to n."""
    # Not importlib.resources: its import takes as long as all other work of opening a store.
    return [path.read_text("utf-8") for path in sorted(Path(__file__).with_name("schema").glob("*.sql"))]


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open `path` without migrating it. Raises NewerStore, Unavailable; if `read_only` also OlderStore."""
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
        if read_only and version < known:
            connection.close()
            raise OlderStore(
                f"the store has version {version}, this program reads {known}",
                fix="start the daemon, which brings it up to date: `dispatch-daemon`",
            )
        if not read_only:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error as error:
        raise as_error(error) from error
    return connection


def empty() -> sqlite3.Connection:
    """Return a store in memory that holds nothing, as before the first start of a daemon."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.row_factory = sqlite3.Row
    migrate(connection)
    return connection


def migrate(connection: sqlite3.Connection) -> None:
    """Migrate the store to this program's version, each migration in its own transaction. Raises OlderStore."""
    from peer.store.history import reply_of  # imports the protocol, which is slow; only migrating needs it

    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if 0 < found < WITH_MEMBERSHIPS and connection.execute("SELECT 1 FROM contacts LIMIT 1").fetchone():
        raise OlderStore(
            "the store holds contacts of dispatch 0.1.0, whose devices this version cannot recognise",
            fix="move store.db and blobs out of the state folder and invite your contacts again; your keys stay",
        )
    connection.create_function("reply_of", 1, reply_of, deterministic=True)
    for version, script in enumerate(schema(), start=1):
        with writing(connection):
            (present,) = connection.execute("PRAGMA user_version").fetchone()
            if present < version:
                for statement in _statements(script):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {version}")


def _statements(script: str) -> Iterator[str]:
    # Not executescript(): it commits the open transaction first, so a crash could leave half a migration.
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
    yield pending  # a comment, or a statement without a semicolon, which must not be skipped silently


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
    """Return an SQLite error as one of ours."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if code is not None else None
    if primary in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return Unavailable("the disk of the state folder is full or failing", fix="free some space, then try again")
    if primary in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return Unavailable(
            "the store cannot be opened or written", fix="check that the state folder is yours: `dispatch doctor --fix`"
        )
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Unavailable(
            "another program has locked the store", fix="close the other program that uses the state folder"
        )
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return Unavailable("the store is damaged", fix="restore the state folder from a backup")
    return Internal(f"the store failed: {error}")
