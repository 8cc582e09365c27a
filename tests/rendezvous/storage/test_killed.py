"""A broker that is killed in the midst of a write, on both storages: asked again, it is done exactly once."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest

from rendezvous.storage.errors import NonceUsed, NoSuchAccount
from rendezvous.storage.interface import Storage
from rendezvous.storage.moving import TABLES
from rendezvous.storage.opening import DATABASE, open_storage
from tests.conftest import HANG, more
from tests.rendezvous.postgresql import Server
from tests.rendezvous.storage.killed import MOMENTS, WRITES, Moment, Write, prepare
from tests.rendezvous.test_main import ROOT, environment

READS = frozenset(
    [
        "sign_in_by_user_code",
        "sign_in_by_mail_token",
        "announcements",
        "invitation",
        "standing",
        "invitation_changes",
        "invitation_by_token",
        "account",
        "accounts",
        "counts",
        "usage",
        "check",
        "listen",
        "aclose",
    ]
)

Kept = dict[str, list[tuple[object, ...]]]


def test_every_write_is_tried() -> None:
    assert {each.operation for each in WRITES.values()} == Storage.__abstractmethods__ - READS


@pytest.fixture(params=["file", "postgresql"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Makes an empty place for a storage: a folder, or the address of a database."""
    if request.param == "postgresql":
        server: Server = request.getfixturevalue("postgresql")
        return server.database
    numbers = iter(range(100))

    def folder() -> str:
        (made := tmp_path / f"{next(numbers)}").mkdir(mode=0o700)
        return str(made)

    return folder


def opened(where: str) -> Storage:
    return open_storage(where if where.startswith("postgresql:") else "", Path(where))


def kept(where: str) -> Kept:
    """Every row of every table."""
    queries = {each.name: f"SELECT {', '.join(each.columns)} FROM {each.name}" for each in TABLES}
    if where.startswith("postgresql:"):
        with psycopg.connect(where) as server:
            return {name: sorted(map(tuple, server.execute(query)), key=repr) for name, query in queries.items()}
    with closing(sqlite3.connect(Path(where) / DATABASE)) as file:
        return {name: sorted(map(tuple, file.execute(query)), key=repr) for name, query in queries.items()}


async def done(where: str, write: Write, *, times: int) -> Kept:
    """Do a write so often in a new storage; return what is kept then."""
    async with opened(where) as storage:
        await prepare(storage)
        for _ in range(times):
            with suppress(NonceUsed, NoSuchAccount):
                await write.run(storage)
    return kept(where)


USUAL = ("approve", "collect", "announce", "post", "answer", "withdraw")


@pytest.mark.parametrize("name", [*USUAL, *more(*(each for each in WRITES if each not in USUAL))])
async def test_of_a_write_that_is_killed_and_asked_again(make: Callable[[], str], name: str) -> None:
    """Killed before its commit nothing has happened, and after it everything. Seen to fail with the
    nonce used in a transaction of its own."""
    write = WRITES[name]
    none, once, twice = [await done(make(), write, times=times) for times in (0, 1, 2)]
    assert none != once and (once == twice) is write.once
    for moment in MOMENTS:
        where = make()
        if moment == "commit sent" and not where.startswith("postgresql:"):
            continue
        async with opened(where) as storage:
            await prepare(storage)
        kill(where, name, moment)
        until_alone(where)
        async with opened(where) as storage:
            before = kept(where)
            assert before in {"before commit": [none], "after commit": [once]}.get(moment, [none, once])
            with suppress(NonceUsed, NoSuchAccount):
                await write.run(storage)
        assert kept(where) == (once if before == none else twice)


def until_alone(where: str) -> None:
    """Wait until the server has noticed that whoever was connected is gone: it may still do what it was told."""
    if where.startswith("postgresql:"):
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        with psycopg.connect(where, autocommit=True) as server:
            while server.execute(others).fetchone() != (0,):
                time.sleep(0.02)


def kill(where: str, name: str, moment: Moment) -> None:
    command = [sys.executable, "-m", "tests.rendezvous.storage.killed", where, name, moment]
    ended = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=environment(), timeout=HANG, check=False
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
