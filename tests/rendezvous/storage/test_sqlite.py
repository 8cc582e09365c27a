"""What only the SQLite file has: its version, its migrations, its mode, transactions, readers beside a writer."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trio

from peer.protocol.errors import Unavailable
from rendezvous.storage.sqlite import SqliteStorage, database
from rendezvous.storage.sqlite.database import READERS, Database, migrations
from tests.conftest import HANG
from tests.rendezvous.storage.full import filled
from tests.rendezvous.storage.values import NOW, approved, author, caller, invitation, version_of

ALICE = "alice@example.org"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rendezvous.db"


@pytest.fixture
def opened(path: Path) -> Iterator[Database]:
    with closing(Database(path)) as opened:
        yield opened


def one(db: sqlite3.Connection, query: str) -> object:
    return db.execute(query).fetchone()[0]


def test_a_newer_file_is_refused_and_not_touched(path: Path) -> None:
    Database(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 999")
    before = path.read_bytes()
    with pytest.raises(Unavailable, match="newer") as refused:
        Database(path)
    assert "update" in refused.value.fix and path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(Unavailable, match="can't use its database"):
        Database(path)


def test_the_file_is_its_owner_s_alone(path: Path, opened: Database) -> None:
    opened.write(lambda db: db.execute("INSERT INTO versions VALUES ('a', 1)"))
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert set(modes) == {"rendezvous.db", "rendezvous.db-wal", "rendezvous.db-shm"}
    assert set(modes.values()) == {0o600}


def test_a_step_that_fails_leaves_nothing(opened: Database) -> None:
    def step(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO versions VALUES ('a', 1)")
        raise ValueError

    with pytest.raises(ValueError):
        opened.write(step)
    assert opened.read(lambda db: one(db, "SELECT count(*) FROM versions")) == 0
    opened.close()
    for run in (opened.write, opened.read):
        with pytest.raises(Unavailable):
            run(lambda db: one(db, "SELECT 1"))


def test_a_read_cannot_write_and_sees_one_state(opened: Database) -> None:
    with pytest.raises(Unavailable, match="readonly"):
        opened.read(lambda db: db.execute("INSERT INTO versions VALUES ('a', 1)"))

    def twice(db: sqlite3.Connection) -> list[object]:
        first = one(db, "SELECT count(*) FROM versions")
        opened.write(lambda writer: writer.execute("INSERT INTO versions VALUES ('a', 1)"))
        return [first, one(db, "SELECT count(*) FROM versions")]

    assert opened.read(twice) == [0, 0]
    assert opened.read(lambda db: one(db, "SELECT count(*) FROM versions")) == 1


def test_a_migration_is_whole_or_absent(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen to fail where a migration was run by executescript(), which commits what came before it."""
    broken = "CREATE TABLE half (x TEXT);\nCREATE TABLE other_half (\n    x NO SUCH THING (\n);\n"
    monkeypatch.setattr(database, "migrations", lambda: [*migrations(), broken])
    with pytest.raises(Unavailable):
        Database(path)
    monkeypatch.setattr(database, "migrations", lambda: [*migrations(), "CREATE TABLE half (x TEXT);\n-- all\n"])
    with closing(Database(path)) as opened:
        assert opened.read(lambda db: one(db, "PRAGMA user_version")) == len(migrations()) + 1
        assert opened.read(lambda db: one(db, "SELECT count(*) FROM half")) == 0
        Database(path).close()  # migrated already: nothing is run again


def test_no_statement_of_a_migration_is_lost(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last one without its semicolon, and one with semicolons in its body."""
    trigger = (
        "CREATE TRIGGER grows AFTER INSERT ON versions\nBEGIN\n    DELETE FROM users;\n    DELETE FROM devices;\nEND;\n"
    )
    script = f"-- a comment; with a semicolon\nCREATE TABLE first (x TEXT);\n{trigger}CREATE TABLE last (x TEXT)"
    monkeypatch.setattr(database, "migrations", lambda: [*migrations(), script])
    with closing(Database(path)) as opened:
        names = opened.read(lambda db: {name for (name,) in db.execute("SELECT name FROM sqlite_master")})
    assert {"first", "grows", "last"} <= names


async def test_reads_do_not_wait_for_a_writer(path: Path) -> None:
    """Seen to fail where reads had the writer's connection."""
    async with SqliteStorage(path) as storage:
        await approved(storage, ALICE)
        with closing(sqlite3.connect(path, isolation_level=None)) as writer, trio.fail_after(HANG):
            writer.execute("BEGIN IMMEDIATE")
            writer.execute("INSERT INTO versions VALUES (?, 7)", (ALICE,))
            async with trio.open_nursery() as nursery:
                purged = trio.Event()

                async def purge() -> None:
                    await storage.purge(NOW)
                    purged.set()

                nursery.start_soon(purge)
                for _ in range(3 * READERS):
                    nursery.start_soon(storage.check)
                    assert await version_of(storage, caller(ALICE)) == 0
                assert not purged.is_set()
                writer.execute("COMMIT")
        assert await version_of(storage, caller(ALICE)) == 7


@pytest.mark.root
async def test_a_full_disk_is_said_and_nothing_is_half_written(small: Path) -> None:
    """What is there can be read. With room again it goes on."""
    async with SqliteStorage(small / "rendezvous.db") as storage:
        await approved(storage, ALICE)
        ballast = filled(small)
        taken, refused = [], None
        for number in range(200):  # pages of the log that are there already are still taken
            made = invitation(ALICE, f"user{number}@example.org", f"t{number}", statement=bytes(9000))
            try:
                await storage.post_invitation(author(ALICE), made, NOW)
            except Unavailable as error:
                refused = error
                break
            taken.append(made.token)
        assert refused is not None and "full" in refused.message and "disk" in refused.fix, refused
        found = await storage.invitation_changes(caller(ALICE), 0)
        assert [each.token for each in found.sent] == taken[:25]
        ballast.unlink()
        await storage.post_invitation(author(ALICE), made, NOW)
