"""`backup` while a broker runs, `restore` elsewhere, and going on there: the drill of docs/broker.md."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from click.testing import CliRunner

from peer.broker.client import BrokerClient
from peer.machine import identity
from peer.machine.identity import Identity
from peer.machine.state_folder import StateFolder
from rendezvous import backup as backups
from rendezvous.broker import wall_clock
from rendezvous.main import main
from rendezvous.storage.opening import DATABASE
from rendezvous.storage.sqlite import SqliteStorage
from tests.conftest import HANG
from tests.rendezvous.postgresql import Server, programs
from tests.rendezvous.test_main import PROGRAM, environment, process, sign_in

OURS = ("DISPATCH_", "DATABASE_URL")


def person(tmp_path: Path, name: str) -> Identity:
    return identity.create(StateFolder(tmp_path / name), f"{name}@example.org", "laptop", wall_clock, os.urandom)


def run(*arguments: object, status: int = 0, **variables: Any) -> str:
    cleared = {name: None for name in os.environ if name.startswith(OURS)}
    done = CliRunner().invoke(main, [str(word) for word in arguments], env={**cleared, **variables})
    assert done.exit_code == status, done.output
    return done.output


async def test_who_signed_in_before_goes_on_at_the_restored_broker(tmp_path: Path) -> None:
    """Copied while the broker is being written to, restored into another folder, served at the same address."""
    alice = person(tmp_path, "alice")
    data, saved, moved = tmp_path / "data", tmp_path / "saved", tmp_path / "moved"
    with process(data, "--dev", "--port", "0") as (_, url):
        port = url.rpartition(":")[2]
        async with BrokerClient(url, author=alice) as client, SqliteStorage(data / DATABASE, beside=True) as beside:
            await sign_in(client, alice.device_set)
            await client.put_presence(seq=1, expires=wall_clock() + 600_000, box=b"before")
            token, written, enough, stop = client.token, 0, trio.Event(), False

            async def write_on() -> None:
                nonlocal written
                while not stop:
                    one, other = f"{written}@example.org", f"{written}@example.com"
                    assert await beside.reserve_invitation_mail(inviter=one, invitee=other, now=wall_clock())
                    written += 1
                    if written == 10:
                        enough.set()

            with trio.fail_after(HANG):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(write_on)
                    await enough.wait()
                    before = written
                    said = await trio.to_thread.run_sync(
                        lambda: (
                            subprocess.run(
                                [*PROGRAM, "backup", str(saved), "--data", str(data), "--json"],
                                env=environment(),
                                capture_output=True,
                                check=True,
                            ).stdout
                        )
                    )
                    stop = True
            await client.put_presence(seq=2, expires=wall_clock() + 600_000, box=b"after")
    assert set(json.loads(said)["files"]) == {DATABASE, "jwt.secret", "relay.key"}
    assert json.loads(said)["not_in_it"] == []
    with closing(sqlite3.connect(f"file:{saved / DATABASE}?mode=ro&immutable=1", uri=True)) as db:
        (mails,) = db.execute("SELECT count(*) FROM mails").fetchone()
    assert mails >= 3 * before and mails % 3 == 0  # under three quotas each: no write is there by half
    for path in (saved, *saved.iterdir()):
        assert path.stat().st_mode & 0o077 == 0, path
    run("restore", saved, "--data", moved)
    with process(moved, "--dev", "--port", port) as (_, again):
        assert again == url
        async with BrokerClient(url, author=alice, token=token) as client:
            assert [entry.box for entry in await client.get_presence("alice@example.org")] == [b"before"]
            await client.put_presence(seq=2, expires=wall_clock() + 600_000, box=b"after")
    assert (moved / "relay.key").read_bytes() == (data / "relay.key").read_bytes()


async def test_what_a_crash_left_in_the_write_ahead_log_is_in_the_copy(tmp_path: Path) -> None:
    alice = person(tmp_path, "alice")
    data, saved = tmp_path / "data", tmp_path / "saved"
    with process(data, "--dev", "--port", "0") as (running, url):
        async with BrokerClient(url, author=alice) as client:
            await sign_in(client, alice.device_set)
        running.kill()
        running.wait()
    assert (data / f"{DATABASE}-wal").stat().st_size > 0
    run("backup", saved, "--data", data)
    with closing(sqlite3.connect(f"file:{saved / DATABASE}?mode=ro&immutable=1", uri=True)) as db:
        assert db.execute("SELECT user_id FROM users").fetchall() == [("alice@example.org",)]
    assert sorted(path.name for path in saved.iterdir()) == ["jwt.secret", "lock", "relay.key", DATABASE]


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """The data folder of a broker that has run."""
    with process(tmp_path / "data", "--dev", "--port", "0"):
        pass
    return tmp_path / "data"


def test_nothing_is_overwritten(stopped: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    run("backup", saved, "--data", stopped)
    before = {path: path.read_bytes() for folder in (saved, stopped) for path in folder.iterdir()}
    for arguments in (
        ("backup", saved, "--data", stopped),
        ("backup", stopped, "--data", stopped),
        ("restore", saved, "--data", stopped),
        ("restore", saved, "--data", saved),
    ):
        said = run(*arguments, status=1)
        assert "is not empty" in said or "already running" in said, said
    assert {path: path.read_bytes() for folder in (saved, stopped) for path in folder.iterdir()} == before


def test_a_broker_that_runs_is_not_restored_over(tmp_path: Path) -> None:
    with process(tmp_path / "data", "--dev", "--port", "0"):
        run("backup", tmp_path / "saved", "--data", tmp_path / "data")
        assert "already running" in run("restore", tmp_path / "saved", "--data", tmp_path / "data", status=1)


def test_a_damaged_database_is_not_taken_for_a_backup(stopped: Path, tmp_path: Path) -> None:
    """Seen to pass for one without the check."""
    with closing(sqlite3.connect(stopped / DATABASE)) as db, db:
        db.executemany("INSERT INTO nonces VALUES (?, 'n', 1)", [(f"device {number}",) for number in range(5_000)])
        (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'nonces_by_expiry'").fetchone()
    with closing(sqlite3.connect(stopped / DATABASE)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray((stopped / DATABASE).read_bytes())
    content[(page - 1) * 4096 + 200 : page * 4096 - 200] = b"\0" * (4096 - 400)
    (stopped / DATABASE).write_bytes(content)
    said = run("backup", tmp_path / "saved", "--data", stopped, status=1)
    assert "damaged" in said or "malformed" in said, said
    assert not (tmp_path / "saved").exists()


def test_a_disk_that_fills_up_leaves_nothing(stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backups, "copy_file", full)
    (tmp_path / "empty").mkdir(mode=0o700)
    for target in ("saved", "empty"):
        said = run("backup", tmp_path / target, "--data", stopped, status=1)
        assert "No space left" in said and "fix: " in said
    assert not (tmp_path / "saved").exists() and not [*(tmp_path / "empty").iterdir()]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("backup", "saved", "--data", "nothing"), "there is no data folder"),
        (("backup", "saved", "--data", "empty"), f"there is no {DATABASE}"),
        (("restore", "nothing", "--data", "data"), "is not a backup"),
        (("restore", "empty", "--data", "data"), "is not a backup"),
    ],
)
def test_what_is_no_broker_and_no_backup_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir(mode=0o700)
    said = run(*arguments, status=2)
    assert says in said and "fix: " in said
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_of_a_broker_on_postgresql_the_secrets_are_copied_and_the_rest_is_said(
    postgresql: Server, tmp_path: Path
) -> None:
    data, saved, moved = tmp_path / "data", tmp_path / "saved", tmp_path / "moved"
    url = "postgresql://dispatch:secret@db.example/dispatch?sslmode=require&sslpassword=secret&password=secret"
    with process(data, "--dev", "--port", "0", DATABASE_URL=postgresql.database()):
        pass
    said = run("backup", saved, "--data", data, DATABASE_URL=url)
    assert f"pg_dump --format=custom --file={saved}/rendezvous.dump" in said
    assert "'--dbname=postgresql://dispatch@db.example/dispatch?sslmode=require'" in said
    assert "secret" not in said.replace("jwt.secret", "")
    assert (saved / "jwt.secret").read_bytes() == (data / "jwt.secret").read_bytes()
    assert "pg_restore" in run("restore", saved, "--data", moved)
    assert sorted(path.name for path in moved.iterdir()) == ["jwt.secret", "lock", "relay.key"]
    assert json.loads(run("backup", tmp_path / "again", "--data", data, "--json", DATABASE_URL=url))["not_in_it"] == [
        DATABASE
    ]


async def test_who_signed_in_before_goes_on_at_a_broker_restored_on_postgresql(
    postgresql: Server, tmp_path: Path
) -> None:
    """The same drill, with the command that `backup` prints, while the broker runs."""
    alice = person(tmp_path, "alice")
    data, saved, moved = tmp_path / "data", tmp_path / "saved", tmp_path / "moved"
    first, second = postgresql.database(), postgresql.database()

    def shell(command: str) -> None:
        path = f"{programs()}:{os.environ['PATH']}"
        subprocess.run(command, shell=True, check=True, env=environment(PATH=path), timeout=HANG)

    with process(data, "--dev", "--port", "0", DATABASE_URL=first) as (_, url):
        port = url.rpartition(":")[2]
        async with BrokerClient(url, author=alice) as client:
            await sign_in(client, alice.device_set)
            await client.put_presence(seq=1, expires=wall_clock() + 600_000, box=b"before")
            token = client.token
        said = run("backup", saved, "--data", data, DATABASE_URL=first)
        shell(said.partition("Copy it with: ")[2])
    run("restore", saved, "--data", moved)
    shell(f"pg_restore --no-owner --dbname='{second}' {saved / 'rendezvous.dump'}")
    with process(moved, "--dev", "--port", port, DATABASE_URL=second) as (_, again):
        assert again == url
        async with BrokerClient(url, author=alice, token=token) as client:
            assert [entry.box for entry in await client.get_presence("alice@example.org")] == [b"before"]


def test_a_secret_that_is_not_in_the_folder_is_named(tmp_path: Path) -> None:
    with process(tmp_path / "data", "--dev", "--port", "0", DISPATCH_JWT_SECRET="x" * 32) as (_, url):
        assert httpx.get(f"{url}/health").status_code == 200
    said = run("backup", tmp_path / "saved", "--data", tmp_path / "data")
    assert "not in it: jwt.secret; if you set $DISPATCH_JWT_SECRET instead, keep that too" in said
