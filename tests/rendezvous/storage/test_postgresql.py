"""What only a PostgreSQL server has: versions of its tables, connections, notices between processes; a real server.

How a server fails, short of being away: test_postgresql_failures.py.
"""

from __future__ import annotations

import signal

import psycopg
import pytest
import trio

from peer.protocol.errors import DispatchError, Invalid, Unavailable
from rendezvous.storage.errors import NonceUsed
from rendezvous.storage.limits import StorageLimits
from rendezvous.storage.postgresql import PostgresqlStorage, database, deadlines
from rendezvous.storage.postgresql.database import PostgresqlDatabase, migrations
from rendezvous.storage.sql.connection import Connection
from tests.conftest import HANG
from tests.rendezvous.postgresql import Server
from tests.rendezvous.storage.values import NOW, approved, author, caller, invitation

ALICE, BOB = "alice@example.org", "bob@example.org"


@pytest.fixture
def url(postgresql: Server) -> str:
    return postgresql.database()


def one(url: str, query: str) -> object:
    with psycopg.connect(url, autocommit=True) as connected:
        row = connected.execute(query).fetchone()
        assert row is not None
        return row[0]


async def test_tables_of_a_newer_program_are_refused_and_not_touched(url: str) -> None:
    await PostgresqlStorage(url).aclose()
    one(url, "UPDATE schema_version SET version = 999 RETURNING 1")
    with pytest.raises(Unavailable, match=r"newer .*schema 999") as refused:
        PostgresqlStorage(url)
    assert "update" in refused.value.fix
    assert one(url, "SELECT version FROM schema_version") == 999


async def test_processes_that_start_at_once_make_the_tables_once(url: str) -> None:
    """Seen to fail without the lock: "duplicate key value violates unique constraint"."""
    made: list[PostgresqlStorage] = []

    async def start() -> None:
        made.append(await trio.to_thread.run_sync(PostgresqlStorage, url))

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(start)
    for each in made:
        await each.check()
        await each.aclose()
    assert one(url, "SELECT count(*) FROM schema_version") == 1


def test_a_migration_is_whole_or_absent(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = "CREATE TABLE half (x TEXT); CREATE TABLE other (x NO SUCH THING);"
    monkeypatch.setattr(database, "migrations", lambda: [*migrations(), broken])
    with pytest.raises(Unavailable):
        PostgresqlStorage(url)
    assert one(url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0


@pytest.mark.parametrize("given", ["postgresql://[", "dispatch", "postgresql:///x?nonsense=1"])
def test_what_is_no_address_of_a_database_is_refused(given: str) -> None:
    with pytest.raises(Invalid, match="no PostgreSQL address"):
        PostgresqlStorage(given)


async def test_a_server_that_is_away_is_said_and_found_again(own: Server) -> None:
    """At the start, during requests, and after it came back, with what was written before."""
    url = own.database()
    async with PostgresqlStorage(url) as storage:
        await approved(storage, ALICE)
        own.stop("immediate")
        with pytest.raises(Unavailable, match="database"):
            await storage.authorize(author(ALICE))
        with pytest.raises(Unavailable, match="database"):
            PostgresqlStorage(url)
        own.start()
        with trio.fail_after(HANG):
            while True:
                try:
                    await storage.authorize(author(ALICE))
                    break
                except Unavailable:
                    await trio.sleep(0.05)
        assert (await storage.counts(NOW)).users == 1


async def test_connections_that_the_server_ended_are_replaced_unnoticed(url: str) -> None:
    """As after a restart: each idle connection is dead, and nothing that was asked has happened."""
    async with PostgresqlStorage(url) as storage:
        await approved(storage, ALICE)
        ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database()"
        one(url, f"{ended} AND pid <> pg_backend_pid()")
        await storage.authorize(author(ALICE))


async def test_a_server_that_stands_still_is_given_up(own: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async with PostgresqlStorage(own.database()) as storage:
        await storage.check()
        monkeypatch.setattr(deadlines, "STEP_SECONDS", 0.2)
        own.signal(signal.SIGSTOP)
        try:
            with trio.fail_after(HANG), pytest.raises(Unavailable):
                await storage.check()
        finally:
            own.signal(signal.SIGCONT)


async def test_a_server_that_only_reads_is_said(own: Server) -> None:
    async with PostgresqlStorage(own.database()) as storage:
        await approved(storage, ALICE)
        own.stop()
        own.start(default_transaction_read_only="on")
        with pytest.raises(Unavailable):
            await storage.authorize(author(ALICE))
        own.stop()
        own.start()


async def test_more_steps_than_connections_wait_for_each_other(url: str) -> None:
    async with PostgresqlStorage(url) as storage, trio.open_nursery() as nursery:
        for _ in range(10 * StorageLimits().database_connections):
            nursery.start_soon(storage.check)


async def test_a_step_that_fails_leaves_nothing_and_one_that_reads_cannot_write(url: str) -> None:
    opened = PostgresqlDatabase.open(url)
    await PostgresqlStorage(url).aclose()

    def step(db: Connection) -> None:
        db.execute("INSERT INTO versions VALUES ('a', 1)")
        raise NonceUsed

    with pytest.raises(NonceUsed):
        await opened.write(step)
    with pytest.raises(Unavailable):
        await opened.read(step)
    assert one(url, "SELECT count(*) FROM versions") == 0
    await opened.aclose()
    with pytest.raises(Unavailable):
        await opened.read(lambda db: db.execute("SELECT 1"))


async def test_another_process_hears_of_each_change_and_of_what_it_missed(own: Server) -> None:
    url = own.database()
    heard, listen = trio.open_memory_channel[str | None](100)
    async with PostgresqlStorage(url) as here, PostgresqlStorage(url) as there, trio.open_nursery() as nursery:
        for user in (ALICE, BOB):
            await approved(here, user)
        nursery.start_soon(there.listen, heard.send_nowait)
        with trio.fail_after(HANG):
            assert await listen.receive() is None, "what came before it listened"
            await here.post_invitation(author(ALICE), invitation(ALICE, BOB, "t"), NOW)
            assert {await listen.receive(), await listen.receive()} == {ALICE, BOB}
            await here.note_fetched(caller(BOB), ["t"], NOW)
            assert await listen.receive() == ALICE
            own.stop("immediate")
            own.start()
            assert await listen.receive() is None, "what came while it did not hear"
        nursery.cancel_scope.cancel()


async def test_text_that_the_server_cannot_hold_is_refused_and_breaks_nothing(url: str) -> None:
    async with PostgresqlStorage(url) as storage:
        with pytest.raises(DispatchError):
            await approved(storage, "nul\0@example.org")
        await approved(storage, ALICE)
