"""A broker that goes from its file to a server: everything it had is there, and nothing if anything is wrong."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import trio
from click.testing import CliRunner

from rendezvous.main import main
from rendezvous.storage import moving
from rendezvous.storage.opening import DATABASE
from rendezvous.storage.postgresql import PostgresqlStorage
from rendezvous.storage.rows import InvitationAnswer, InvitationStatus
from rendezvous.storage.sql.connection import Connection
from rendezvous.storage.sqlite import SqliteStorage
from tests.rendezvous.postgresql import Server
from tests.rendezvous.storage.values import HOUR, NOW, approved, author, caller, claim, invitation, sign_in

ALICE, BOB = "alice@example.org", "bob@example.org"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file of a broker with something in every table."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    trio.run(fill, folder)
    return folder / DATABASE


async def fill(folder: Path) -> None:
    async with SqliteStorage(folder / DATABASE) as storage:
        for user in (ALICE, BOB):
            await approved(storage, user)
            await storage.announce(author(user), seq=3, expires=NOW + HOUR, box=b"\0\xffbox")
        await storage.post_invitation(author(ALICE), invitation(ALICE, BOB, "t"), NOW)
        given = InvitationAnswer(
            token="t", decision=InvitationStatus.ACCEPTED, sealed={caller(ALICE).device: b"sealed"}, digest=b"digest"
        )
        await storage.answer_invitation(author(BOB), given, NOW)
        await storage.reserve_invitation_mail(inviter=ALICE, invitee=BOB, now=NOW)
        waiting = claim("carol@example.org")
        await storage.open_sign_in(
            author("carol@example.org"),
            waiting,
            sign_in("carol@example.org", "code", device_set=waiting.device_set),
            device_code=b"code",
            interval=5000,
            now=NOW,
        )


def move(file: Path, url: str, *, status: int = 0) -> str:
    done = CliRunner().invoke(main, ["migrate", "--from", f"sqlite:{file}", "--to", url, "--json"])
    assert done.exit_code == status, done.output
    return done.output


def test_the_tables_are_all_there_are(postgresql: Server, file: Path) -> None:
    """A new table or column would be left behind. Seen to fail with one left out."""
    named = {table.name: set(table.columns) for table in moving.TABLES}
    with closing(sqlite3.connect(file)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        assert {name: {row[1] for row in db.execute(f"PRAGMA table_info({name})")} for name in tables} == named
    url = postgresql.database()
    trio.run(PostgresqlStorage(url).aclose)  # its tables are made
    with psycopg.connect(url) as server:
        found: dict[str, set[str]] = {}
        for table, column in server.execute(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
        ):
            found.setdefault(table, set()).add(column)
    assert found == {**named, "schema_version": {"version"}}


def test_everything_is_moved_once(postgresql: Server, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "ROWS_AT_ONCE", 1)
    url = postgresql.database()
    rows = json.loads(move(file, url))["rows"]
    assert all(rows.values()) and rows["users"] == 2 and rows["presence"] == 2, rows

    async def look() -> None:
        async with PostgresqlStorage(url) as storage:
            changes = await storage.invitation_changes(caller(ALICE), 0)
            assert [(each.token, each.status, each.sealed) for each in changes.sent] == [
                ("t", InvitationStatus.ACCEPTED, b"sealed")
            ]
            (present,) = await storage.announcements(caller(BOB), ALICE, NOW)
            assert (present.seq, present.box) == (3, b"\0\xffbox")
            assert await storage.sign_in_by_user_code("code", NOW) is not None

    trio.run(look)
    assert "has rows of a broker already" in move(file, url, status=1)


def test_a_row_that_differs_leaves_nothing(postgresql: Server, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = postgresql.database()
    rows = moving._rows

    def damaged(db: Connection, table: moving._Table) -> Iterator[tuple[object, ...]]:
        found = list(rows(db, table))
        return iter(found[::-1] if table.name == "presence" and not isinstance(db, sqlite3.Connection) else found)

    monkeypatch.setattr(moving, "_rows", damaged)
    assert "nothing was moved" in move(file, url, status=1)
    with psycopg.connect(url) as server:
        row = server.execute("SELECT count(*) FROM users").fetchone()
        assert row == (0,)


@pytest.mark.parametrize("given", ["rendezvous.db", "sqlite:", "sqlite:/nowhere/rendezvous.db"])
def test_what_is_no_file_of_a_broker_is_refused(given: str) -> None:
    done = CliRunner().invoke(main, ["migrate", "--from", given, "--to", "postgresql:///x"])
    assert done.exit_code == 2 and "fix: " in done.output
