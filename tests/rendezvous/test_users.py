"""`user list|remove|release` beside a broker that runs, on both storages."""

from __future__ import annotations

import json
import os
import pty
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import trio

from peer.broker.client import BrokerClient
from peer.protocol.errors import Conflict, Unauthorized
from rendezvous.broker import wall_clock
from rendezvous.storage.opening import DATABASE
from rendezvous.storage.sqlite.database import migrations
from tests.conftest import HANG
from tests.rendezvous.postgresql import Server
from tests.rendezvous.test_backup import person, run
from tests.rendezvous.test_main import PROGRAM, environment, process, sign_in
from tests.rendezvous.world import Clock, People, Person, Running, people_at

ALICE, BOB = "alice@example.org", "bob@example.org"
TOKEN = "m" * 32
OPERATOR = {"authorization": f"Bearer {TOKEN}"}


@dataclass
class Beside:
    """A broker's process, who is signed in there, and how its operator's commands are called."""

    url: str
    people: People
    where: dict[str, str]
    data: Path

    async def user(self, *arguments: object, status: int = 0) -> str:
        given = ("user", *arguments, "--data", self.data)
        return await trio.to_thread.run_sync(lambda: run(*given, status=status, **self.where))

    async def listed(self, *arguments: object) -> dict[str, Any]:
        found = json.loads(await self.user("list", "--json", *arguments))
        return {each["user_id"]: each for each in found["users"]}

    async def signed_in(self, email: str) -> Person:
        someone = await self.people.new(email)
        await sign_in(someone.client, someone.who.device_set)
        return someone


@pytest.fixture(params=["file", "postgresql"])
async def beside(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Beside]:
    where = {}
    if request.param == "postgresql":
        where["DATABASE_URL"] = request.getfixturevalue("postgresql").database()
    data = tmp_path / "data"
    with process(data, "--dev", "--port", "0", DISPATCH_METRICS_TOKEN=TOKEN, **where) as (_, url):
        outside = Running(url, Clock(), None)  # type: ignore[arg-type]  # it is in another process
        async with people_at(outside, tmp_path / "people") as people:
            yield Beside(url, people, where, data)


async def test_accounts_are_listed_with_what_is_kept_for_them(beside: Beside) -> None:
    assert await beside.user("list") == "no accounts yet\n" and await beside.listed() == {}
    alice, bob = await beside.signed_in(ALICE), await beside.signed_in(BOB)
    await alice.client.put_presence(seq=1, expires=wall_clock() + 600_000, box=b"box")
    found = await beside.listed()
    assert list(found) == [ALICE, BOB]
    ((device,),) = ([each["device"] for each in found[ALICE]["devices"]],)
    assert device == alice.who.device and found[ALICE]["devices"][0]["announced_until"].endswith("Z")
    assert found[BOB]["devices"] == [{"device": bob.who.device, "announced_until": None}]
    assert found[ALICE]["kept_bytes"] > found[BOB]["kept_bytes"] > len(bob.who.device_set)
    page = json.loads(await beside.user("list", "--limit", 1, "--json"))
    assert [each["user_id"] for each in page["users"]] == [ALICE] and page["next"] == ALICE
    page = json.loads(await beside.user("list", "--limit", 1, "--after", page["next"], "--json"))
    assert [each["user_id"] for each in page["users"]] == [BOB] and page["next"] is None
    said = await beside.user("list", "Alice@Example.org")
    assert said.startswith(f"{ALICE}  1 device, announced until ") and f"device {alice.who.device}" in said
    assert f"more: --after {ALICE}" in await beside.user("list", "--limit", 1)
    assert "there is no account of carol@" in await beside.user("list", "carol@example.org", status=1)


async def test_an_account_that_was_removed_is_gone_from_the_running_broker(beside: Beside) -> None:
    """On PostgreSQL seen to wait for its time-out without a notice."""
    alice, bob = await beside.signed_in(ALICE), await beside.signed_in(BOB)
    await alice.client.put_presence(seq=1, expires=wall_clock() + 600_000, box=b"box")
    await alice.client.post_invitation(alice.signed_invitation(BOB))
    assert [each.box for each in await bob.client.get_presence(ALICE)] == [b"box"]
    refused: list[str] = []
    # The server tells the broker of it. Of the file it is not told: who waits reads again when the wait is over.
    seconds = 25 if beside.where else 2

    async def wait() -> None:
        with trio.fail_after(HANG):
            try:
                await alice.client.invitations(version=(await alice.client.invitations()).version, wait=seconds)
                await alice.client.invitations()
            except Unauthorized as error:
                refused.append(error.message)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        async with httpx.AsyncClient(trust_env=False, verify=False, headers=OPERATOR) as http:
            while "dispatch_readers_waiting 1" not in (await http.get(f"{beside.url}/metrics")).text:
                await trio.sleep(0.02)
        said = await beside.user("remove", ALICE, "--yes")
    assert said.startswith("deleted: the account, 1 device, 1 invitation from it and 0 to it.")
    assert len(refused) == 1 and "has not signed in to this broker" in refused[0]
    assert await bob.client.get_presence(ALICE) == []
    changes = await bob.client.invitations()
    assert changes.received == []
    assert list(await beside.listed()) == [BOB]
    assert "there is no account" in await beside.user("remove", ALICE, "--yes", status=1)
    await sign_in(alice.client, alice.who.device_set)  # the address is whose who proves it next


async def test_a_released_address_is_owned_by_the_next_key(beside: Beside) -> None:
    alice, bob = await beside.signed_in(ALICE), await beside.signed_in(BOB)
    await alice.client.post_invitation(alice.signed_invitation(BOB))
    await bob.client.post_invitation(bob.signed_invitation(ALICE))
    new = await beside.people.new(ALICE)  # another root key
    with pytest.raises(Conflict, match="already has another root key"):
        await new.client.login_device(new.who.device_set)
    done = json.loads(await beside.user("release", ALICE, "--yes", "--json"))
    assert done == {"user_id": ALICE, "devices": 1, "withdrawn": [BOB]}
    with pytest.raises(Unauthorized):
        await alice.client.invitations()
    await sign_in(new.client, new.who.device_set)
    received = (await new.client.invitations()).received
    assert [each.inviter for each in received] == [BOB]
    with pytest.raises(Conflict, match="already has another root key"):
        await alice.client.login_device(alice.who.device_set)
    assert [each.status for each in (await bob.client.invitations()).received] == ["withdrawn"]
    assert "no account of carol@" in await beside.user("release", "carol@example.org", "--yes", status=1)


def test_a_person_is_asked_on_a_terminal_and_nobody_elsewhere(tmp_path: Path) -> None:
    """Seen to remove at once without the question."""
    data = tmp_path / "data"
    with process(data, "--dev", "--port", "0") as (_, url):
        trio.run(_signed_in_at, url, tmp_path)
        for command in ("remove", "release"):
            assert "add --yes" in run("user", command, ALICE, "--data", data, status=2)
            asked, here = pty.openpty()
            with subprocess.Popen(
                [*PROGRAM, "user", command, ALICE, "--data", str(data)],
                stdin=here,
                stdout=subprocess.PIPE,
                text=True,
                env=environment(),
            ) as running:
                os.write(asked, b"n\n")
                said, _ = running.communicate(timeout=HANG)
            os.close(asked)
            os.close(here)
            assert running.returncode == 1 and f"{ALICE}: 1 device" in said and "[y/N]" in said
        assert ALICE in run("user", "list", "--data", data)


async def _signed_in_at(url: str, tmp_path: Path) -> None:
    who = person(tmp_path, "alice")
    async with BrokerClient(url, author=who) as client:
        await sign_in(client, who.device_set)


def test_tables_of_another_version_are_left_as_they_are(postgresql: Server, tmp_path: Path) -> None:
    """A newer program's command migrates nothing beneath a broker that runs. Seen to be migrated without the guard."""
    data = tmp_path / "data"
    with process(data, "--dev", "--port", "0"):
        pass
    for version, fix in ((1, "restart the broker with this version"), (99, "update dispatch-rendezvous")):
        with closing(sqlite3.connect(data / DATABASE)) as db:
            db.execute(f"PRAGMA user_version = {version}")
        said = run("user", "list", "--data", data, status=1)
        assert fix in said, said
        with closing(sqlite3.connect(data / DATABASE)) as db:
            assert db.execute("PRAGMA user_version").fetchone() == (version,)
    assert len(migrations()) not in (1, 99)
    url = postgresql.database()
    assert "no tables of a broker yet" in run("user", "list", "--data", data, status=1, DATABASE_URL=url)
    with process(data, "--dev", "--port", "0", DATABASE_URL=url):
        pass
    with psycopg.connect(url, autocommit=True) as server:
        server.execute("UPDATE schema_version SET version = 99")
    assert "use the version" in run("user", "list", "--data", data, status=1, DATABASE_URL=url)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("list", "--data", "nothing"), "there is no data folder"),
        (("list", "--data", "empty"), f"there is no {DATABASE}"),
        (("remove", "no address", "--yes", "--data", "empty"), "no address"),
        (("list", "--limit", "501", "--data", "empty"), "501"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir(mode=0o700)
    assert says in run("user", *arguments, status=2)
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]
