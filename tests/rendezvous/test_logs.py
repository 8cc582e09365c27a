"""The broker's log: one JSON object a line, and nothing in it about whom it is, whatever fails."""

from __future__ import annotations

import ast
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import psycopg
import pytest
import trio

from peer.broker.client import BrokerClient, LoginToken
from peer.protocol.errors import DispatchError
from rendezvous import logs
from rendezvous.broker import wall_clock
from rendezvous.storage.opening import DATABASE
from rendezvous.storage.postgresql import database
from tests.conftest import HANG
from tests.rendezvous.postgresql import Server
from tests.rendezvous.test_backup import person
from tests.rendezvous.test_mail import mailed_page
from tests.rendezvous.test_main import ROOT, environment, process
from tests.rendezvous.world import Clock, MailServer, Person, Running

FROM = "203.0.113.77"
"""The address that a proxy names."""


async def sign_in(someone: Person, mail: MailServer, secrets: set[str]) -> LoginToken:
    prompt = await someone.client.login_device(someone.who.device_set)
    secrets |= {prompt.user_code, prompt.device_code}
    page = await someone.http.post(prompt.verification_uri, data={"user_code": prompt.user_code})
    assert page.status_code == 200, page.text
    at, token = mailed_page(mail)
    secrets.add(token)
    for code in ("BBBB-BBBB", prompt.user_code):
        page = await someone.http.post(at, data={"t": token, "user_code": code})
    assert page.status_code == 200, page.text
    done = await someone.client.login_token(prompt.device_code)
    assert isinstance(done, LoginToken)
    secrets.add(done.access_token)
    return done


def break_writes(data: Path, url: str) -> None:
    """Have every announcement fail by an error that names whom it is about."""
    if url:
        with psycopg.connect(url, autocommit=True) as server:
            server.execute("DELETE FROM presence")
            server.execute("ALTER TABLE presence ADD CHECK (device = '')")  # its DETAIL has the whole row
        return
    with closing(sqlite3.connect(data / DATABASE)) as db:
        db.execute(
            "CREATE TRIGGER fails BEFORE INSERT ON presence BEGIN"
            f" SELECT RAISE(ABORT, 'alice@example.org at {FROM} failed'); END"
        )


def break_reads(data: Path, url: str) -> None:
    statement = "ALTER TABLE versions RENAME COLUMN version TO other"
    if url:
        with psycopg.connect(url, autocommit=True) as server:
            server.execute(statement)
        return
    with closing(sqlite3.connect(data / DATABASE)) as db:
        db.execute(statement)


@pytest.mark.parametrize("kept_in", ["file", "postgresql"])
async def test_nothing_in_it_says_whom_it_is_about(tmp_path: Path, postgresql: Server, kept_in: str) -> None:
    """Sign-ins, presence, invitations and failures of every part. Seen to fail with a traceback's own words."""
    where = {"DATABASE_URL": postgresql.database()} if kept_in == "postgresql" else {}
    data, url = tmp_path / "data", where.get("DATABASE_URL", "")
    secrets: set[str] = {FROM, "alice@", "bob@"}
    with MailServer(tmp_path / "mail").running() as mail:
        options: tuple[str, ...] = ("--port", "0", "--behind-proxy", "127.0.0.1", "--smtp-host", "127.0.0.1")
        options += ("--smtp-port", str(mail.port), "--smtp-user", mail.USER, "--smtp-ca", str(mail.ca))
        options += ("--smtp-from", "dispatch <d@broker.example>")
        with process(data, *options, DISPATCH_SMTP_PASSWORD=mail.PASSWORD, **where) as (running, at):
            outside = Running(at, Clock(), None)  # type: ignore[arg-type]  # it is in another process
            async with httpx.AsyncClient(
                trust_env=False, verify=False, timeout=HANG, headers={"x-forwarded-for": FROM}
            ) as http:
                people = []
                for name in ("alice", "bob"):
                    who = person(tmp_path, name)
                    client = BrokerClient(at, author=who)
                    await client.__aenter__()
                    people.append(Person(outside, who, client, http))
                    secrets |= {who.device, who.seed.hex()}
                alice, bob = people
                token = (await sign_in(alice, mail, secrets)).access_token
                await sign_in(bob, mail, secrets)
                await alice.client.put_presence(seq=1, expires=wall_clock() + 600_000, box=b"box")
                await bob.client.get_presence("alice@example.org")
                mail.refuse = True
                posted = await alice.client.post_invitation(alice.signed_invitation("bob@example.org"))
                assert not posted.emailed
                secrets.add(posted.token)
                await bob.client.answer(posted.token, kind="accepted", sealed={alice.who.device: b"sealed"})
                for path in (f"/v1/presence/{token}", "/v1/presence/alice@example.org", f"/{alice.who.device}"):
                    await alice.raw("GET", path, token=token[:-4] + "xxxx")
                break_writes(data, url)
                answer = await alice.raw(
                    "PUT",
                    "/v1/presence",
                    alice.statement("presence.put", {"seq": 9, "expires": wall_clock() + 600_000, "box": b"box"}),
                )
                assert answer.status_code == 500 and "alice" not in answer.text, answer.text
                break_reads(data, url)
                with pytest.raises(DispatchError) as failed:
                    await bob.client.invitations()
                assert failed.value.code == 503
                for each in people:
                    await each.client.__aexit__(None, None, None)
            running.terminate()
            _, said = await trio.to_thread.run_sync(running.communicate)
    lines = [json.loads(line) for line in said.splitlines()]
    assert all(line["event"] and line["level"] and line["timestamp"] for line in lines)
    events = {line["event"] for line in lines}
    assert events == {"broker.started", "mail.failed", "request.failed", "database.failed"}, said
    found = [secret for secret in secrets if secret in said]
    assert not found, f"{found} in {said}"
    (raised,) = [line["raised"] for line in lines if line["event"] == "request.failed"]
    assert any("presence.py" in place for place in raised[-1]["at"] + raised[0]["at"]), raised


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("SELECT 'alice@example.org'::bigint", ""),  # the sentence quotes it
        ("SELECT 1 / 0", ""),
        ("SELECT nothing", 'column "nothing" does not exist'),
    ],
)
def test_of_a_statement_that_failed_no_value_is_said(postgresql: Server, statement: str, said: str) -> None:
    """Seen to fail with the server's own words."""
    with psycopg.connect(postgresql.url("postgres")) as server, pytest.raises(psycopg.Error) as failed:
        server.execute(statement)
    assert database._said(failed.value) == said


PROGRAM_THAT_ENDS = """
import logging
from rendezvous import logs
logs.to_stderr()
try:
    raise KeyError("alice@example.org")
except KeyError as error:
    logging.getLogger("library").warning("no connection to %s", "alice@example.org", exc_info=error)
    logging.getLogger("library").warning(f"filled in already: alice@example.org")
    raise ExceptionGroup("alice@example.org", [ValueError("alice@example.org")]) from error
"""


def test_what_libraries_say_and_what_ends_the_program_is_there_without_its_values() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM_THAT_ENDS],
        env=environment(),
        capture_output=True,
        check=False,
        text=True,
        timeout=HANG,
    )
    filled, formatted, ended = (json.loads(line) for line in done.stderr.splitlines())
    assert done.returncode == 1 and "alice@" not in done.stderr
    assert (filled["event"], filled["library"], filled["message"]) == ("library.said", "library", "no connection to %s")
    assert filled["raised"] == [{"kind": "KeyError", "at": ["<string>:6 <module>"]}]
    assert formatted["message"] == "<string>:9"
    assert ended["event"] == "program.ended"
    assert [each["kind"] for each in ended["raised"]] == ["ExceptionGroup", "KeyError", "ValueError"]


def test_a_long_chain_of_exceptions_is_cut() -> None:
    def fall(depth: int) -> None:
        if depth:
            fall(depth - 1)
        raise ValueError

    last: BaseException | None = None
    for _ in range(50):
        try:
            fall(50)
        except ValueError as error:
            error.__cause__ = last
            last = error
    assert last is not None
    found = logs.places(last)
    assert len(found) == logs.MAX_EXCEPTIONS and all(len(each["at"]) == logs.MAX_FRAMES for each in found)  # type: ignore[arg-type]
    last.__cause__ = last
    assert len(logs.places(last)) == 1


def events() -> Iterator[tuple[str, frozenset[str]]]:
    """Every event that the broker or the relay logs, with its fields, as it stands in the source."""
    for path in sorted((ROOT / "rendezvous").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="log" | "_log"), attr=level), args=[ast.Constant(str(event))]
                ):
                    assert level in ("info", "warning", "error"), path
                    yield event, frozenset(word.arg or "" for word in node.keywords)


@pytest.mark.parametrize(("event", "fields"), sorted(set(events()), key=str))
def test_every_event_is_in_the_documentation_with_its_fields(event: str, fields: frozenset[str]) -> None:
    rows = (ROOT / "docs/broker.md").read_text().splitlines()
    (row,) = [row for row in rows if row.startswith(f"| `{event}` |")]
    # `mail.failed` is filled from a mapping.
    named = {"raised" if field == "exc_info" else field for field in fields - {""}}
    assert all(f"`{field}`" in row for field in named), row
