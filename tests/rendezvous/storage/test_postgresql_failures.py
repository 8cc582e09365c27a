"""A PostgreSQL server that fails, and one that another takes over from: what a storage answers, and that it goes on.

The servers are real, also the standby. A server that is away or stands still: test_postgresql.py.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import trio

from peer.protocol.errors import Unavailable
from rendezvous.storage.limits import StorageLimits
from rendezvous.storage.postgresql import PostgresqlStorage, database, look
from tests.conftest import HANG
from tests.rendezvous.postgresql import DATABASE, PORT, Server
from tests.rendezvous.storage.full import filled
from tests.rendezvous.storage.values import HOUR, NOW, approved, author, caller, claim, invitation, sign_in, version_of

CONNECTIONS = StorageLimits().database_connections
ALICE, BOB, CAROL = "alice@example.org", "bob@example.org", "carol@example.org"


@pytest.fixture
def url(postgresql: Server) -> str:
    return postgresql.database()


@contextmanager
def standby_of(primary: Server) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        server = Server(Path(folder), copy_of=primary)
        try:
            yield server
        finally:
            server.end()


async def until_taken(step: Callable[[], Awaitable[object]]) -> None:
    """Ask until it is taken. Nothing but Unavailable may come meanwhile."""
    with trio.fail_after(HANG):
        while True:
            try:
                await step()
            except Unavailable:
                await trio.sleep(0.05)
            else:
                return


def administer(url: str, *statements: str) -> list[Any]:
    """Run statements beside the storage; return the rows of the last one."""
    with psycopg.connect(url, autocommit=True) as admin:
        for statement in statements:
            rows = admin.execute(statement)
        return rows.fetchall() if rows.description else []


@pytest.mark.parametrize("end", ["dies", "only reads"])
async def test_a_standby_takes_over(own: Server, end: str) -> None:
    """With replication that commits wait for, nothing that was acknowledged is lost; whoever listens hears that it may
    have missed something. Seen to fail, with the primary that only reads, where connections to it are kept."""
    own.stop()
    own.start(synchronous_standby_names="*", synchronous_commit="remote_apply")
    administer(own.url("postgres"), "SET synchronous_commit = local", f"CREATE DATABASE {DATABASE}")
    heard, listen = trio.open_memory_channel[str | None](100)
    with standby_of(own) as standby:
        url = f"postgresql:///{DATABASE}?host={own.folder},{standby.folder}&port={PORT},{PORT}&user=dispatch"
        async with PostgresqlStorage(url) as storage, trio.open_nursery() as nursery:
            nursery.start_soon(storage.listen, heard.send_nowait)
            for user in (ALICE, BOB):
                await approved(storage, user)
            await storage.post_invitation(author(ALICE), invitation(ALICE, BOB, "t"), NOW)
            with trio.fail_after(HANG):
                assert await listen.receive() is None
            if end == "dies":
                own.stop("immediate")
            else:
                administer(
                    own.url(),
                    "SET synchronous_commit = local",
                    "ALTER SYSTEM SET default_transaction_read_only = on",
                    "SELECT pg_reload_conf()",
                )
                while administer(own.url(), "SHOW default_transaction_read_only") != [("on",)]:
                    await trio.sleep(0.02)
            standby.promote()
            await until_taken(lambda: storage.announce(author(BOB), seq=1, expires=NOW + HOUR, box=b"box"))
            assert [each.token for each in (await storage.invitation_changes(caller(BOB), 0)).received] == ["t"]
            assert administer(standby.url(), "SELECT box FROM presence") == [(b"box",)]
            if end == "dies":
                with trio.fail_after(HANG):
                    while await listen.receive() is not None:
                        pass
            nursery.cancel_scope.cancel()


async def test_a_server_with_no_connection_to_spare_is_said_and_found_again(own: Server) -> None:
    """A broker that runs goes on with what it has; one that starts is told."""
    own.stop()
    own.start(max_connections="12")
    url = own.database()
    async with PostgresqlStorage(url) as storage:
        await approved(storage, ALICE)
        with ExitStack() as taken:
            with pytest.raises(psycopg.OperationalError, match="too many clients"):
                while True:
                    taken.enter_context(psycopg.connect(own.url("postgres")))
            with pytest.raises(Unavailable, match="database"):
                PostgresqlStorage(url)
            async with trio.open_nursery() as nursery:
                for _ in range(3 * CONNECTIONS):
                    nursery.start_soon(storage.authorize, author(ALICE))
        async with PostgresqlStorage(url) as another:
            await another.check()


@pytest.mark.root
async def test_a_full_disk_is_said_and_nothing_is_half_written(own: Server, small: Path) -> None:
    """What is there can be read. With room again it goes on."""
    administer(
        own.url("postgres"), f"CREATE TABLESPACE small LOCATION '{small}'", "CREATE DATABASE little TABLESPACE small"
    )
    async with PostgresqlStorage(own.url("little")) as storage:
        await approved(storage, ALICE)
        ballast = filled(small)
        taken, refused = [], None
        for number in range(200):  # what pages have room for is still taken
            made = invitation(ALICE, f"user{number}@example.org", f"t{number}", statement=os.urandom(9000))
            try:
                await storage.post_invitation(author(ALICE), made, NOW)
            except Unavailable as error:
                refused = error
                break
            taken.append(made.token)
        assert refused is not None and "53100" in refused.message, refused
        found = await storage.invitation_changes(caller(ALICE), 0)
        assert [each.token for each in found.sent] == taken[:25]
        ballast.unlink()
        await until_taken(lambda: storage.post_invitation(author(ALICE), made, NOW))


async def test_a_notice_that_is_lost_with_its_connection_is_made_up_for(url: str) -> None:
    """Seen to wait for ever where a new connection says nothing."""
    heard, listen = trio.open_memory_channel[str | None](100)
    async with PostgresqlStorage(url) as here, PostgresqlStorage(url) as there, trio.open_nursery() as nursery:
        for user in (ALICE, BOB):
            await approved(here, user)
        before = await version_of(there, caller(BOB))
        nursery.start_soon(there.listen, heard.send_nowait)
        with trio.fail_after(HANG):
            assert await listen.receive() is None
            listening = "datname = current_database() AND query LIKE 'LISTEN%'"
            ended = administer(url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {listening}")
            assert ended == [(True,)]
            await here.post_invitation(author(ALICE), invitation(ALICE, BOB, "t"), NOW)
            while await listen.receive() is not None:
                pass
            assert await version_of(there, caller(BOB)) > before
        nursery.cancel_scope.cancel()


async def test_a_statement_that_takes_too_long_is_ended(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another session holds what it needs. Nothing has happened, and once that is let go it does."""
    monkeypatch.setattr(database, "STATEMENT_MS", 200)
    async with PostgresqlStorage(url) as storage:
        await approved(storage, ALICE)
        with psycopg.connect(url) as other:
            other.execute("LOCK TABLE presence IN ACCESS EXCLUSIVE MODE")
            by = author(ALICE)
            with trio.fail_after(HANG), pytest.raises(Unavailable, match="57014"):
                await storage.announce(by, seq=1, expires=NOW + HOUR, box=b"box")
            with trio.fail_after(HANG), pytest.raises(Unavailable, match="57014"):
                await storage.announcements(caller(ALICE), ALICE, NOW)
            await storage.invitation_changes(caller(ALICE), 0)  # what does not need it goes on
        await storage.announce(by, seq=1, expires=NOW + HOUR, box=b"box")


async def test_a_step_waits_for_its_turn_only_so_long(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else all that comes while a server is away would be answered one after the other, long after who asked has left.
    Seen to fail without the bound: it waited until the others were done."""
    monkeypatch.setattr(database, "WAIT_SECONDS", 0.5)
    async with PostgresqlStorage(url) as storage:
        await approved(storage, ALICE)
        with psycopg.connect(url) as other:
            other.execute("LOCK TABLE invitations IN ACCESS EXCLUSIVE MODE")
            done = 0

            async def read() -> None:
                nonlocal done
                await storage.invitation_changes(caller(ALICE), 0)
                done += 1

            async with trio.open_nursery() as nursery:
                for _ in range(CONNECTIONS):
                    nursery.start_soon(read)
                waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                with trio.fail_after(HANG):
                    while administer(url, waiting) != [(CONNECTIONS,)]:
                        await trio.sleep(0.02)
                with pytest.raises(Unavailable, match="too busy"):
                    await version_of(storage, caller(ALICE))
                assert done == 0
                other.rollback()
        assert done == CONNECTIONS


@pytest.mark.parametrize("seconds", [-600, 600])
async def test_a_broker_whose_clock_is_off_writes_nothing(
    url: str, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """It would forget nonces that another broker still takes. Seen to fail without the comparison: the nonce was gone,
    and the same request was taken again."""
    moved = 0.0
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + moved)
    async with PostgresqlStorage(url) as right, PostgresqlStorage(url) as off:
        await approved(off, ALICE)
        by = author(ALICE, expires=NOW + 300_000)
        await right.authorize(by)
        moved = seconds
        way = "ahead of" if seconds > 0 else "behind"
        with pytest.raises(Unavailable, match=f"600 s {way} its database server's"):
            await off.check()
        for write in (
            lambda: off.purge(NOW + 600_000),
            lambda: off.authorize(author(ALICE)),
            lambda: off.open_sign_in(
                author(BOB), claim(BOB), sign_in(BOB, "code"), device_code=b"code", interval=5000, now=NOW
            ),
        ):
            with pytest.raises(Unavailable, match="so it writes nothing") as refused:
                await write()
            assert "timedatectl" in refused.value.fix
        assert administer(url, f"SELECT count(*) FROM nonces WHERE nonce = '{by.nonce}'") == [(1,)]
        assert await off.announcements(caller(ALICE), ALICE, NOW) == ()  # it reads
        for opened in (PostgresqlStorage, look):
            with pytest.raises(Unavailable, match="600 s"):
                opened(url)
        moved = 59 if seconds > 0 else -59
        await off.check()
        await off.authorize(author(ALICE))
        assert await off.purge(NOW) == 0
