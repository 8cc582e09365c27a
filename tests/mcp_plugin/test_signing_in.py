"""Never signed in, signed out, the broker away: what a session says then, and what goes on without any of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mcp_plugin.tools import TOOLS
from tests.mcp_plugin.hosts import check_fix, raw
from tests.mcp_plugin.test_refusals import SOME, TASK
from tests.system.world import ROOT, Broker, Document, Person, World, connect, eventually

Pair = tuple[Person, Person]

CALLS: dict[str, Document] = {
    "dispatch_read": {"what": "inbox"},
    "dispatch_act": {"action": "accept", "dispatch_id": SOME},
    "dispatch_send": {"recipient": "a@example.org", "task": TASK, "files": ["missing.txt"]},
    "dispatch_invite": {"action": "send", "to_email": "a@example.org"},
    "dispatch_trust": {"action": "list"},
    "dispatch_pending_approvals": {},
    "dispatch_approve": {"dispatch_id": SOME, "request_id": "1", "decision": "deny"},
}


@pytest.fixture
def begun(tmp_path: Path) -> tuple[dict[str, str], Path]:
    """An environment in which every Python program that starts says so in a file, and that file."""
    said = tmp_path / "begun"
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        f"import sys\nopen({str(said)!r}, 'a').write(' '.join(sys.orig_argv) + '\\n')\n"
    )
    return {"PYTHONPATH": f"{tmp_path / 'site'}:{ROOT}"}, said


def test_who_never_signed_in_is_told_so_by_every_tool(tmp_path: Path, begun: tuple[dict[str, str], Path]) -> None:
    """Nothing is begun for them. Seen to fail with a send that looked for its files first, and with a node started."""
    nobody = Person("nobody", tmp_path / "nobody", Broker(tmp_path / "broker"))
    environment, programs = begun
    assert set(CALLS) == set(TOOLS)
    with raw(nobody, environment) as host:
        host.initialize()
        for tool, arguments in CALLS.items():
            answer = host.call(tool, **arguments)
            error = answer["structuredContent"]
            assert answer["isError"] and error["code"] == 401 and "dispatch login" in error["fix"], (tool, error)
    (program,) = programs.read_text().splitlines()
    assert program.endswith("-m mcp_plugin.main"), "no node, not even one that ended"
    assert not nobody.state.path.exists()


def test_another_sign_in_than_the_nodes_is_refused_by_every_tool(pair: Pair) -> None:
    """As by every command: $DISPATCH_BROKER and $DISPATCH_TOKEN mean the same to a session.

    Seen to fail with a session that asks whichever node runs.
    """
    alice, _ = pair
    elsewhere = "https://elsewhere.example"
    for environment, code, said in (
        ({"DISPATCH_BROKER": elsewhere}, 409, f"is signed in at {alice.broker.url}, not at {elsewhere}"),
        ({"DISPATCH_TOKEN": "another"}, 409, "is signed in with another token"),
        ({"DISPATCH_BROKER": "elsewhere"}, 422, "broker"),
    ):
        with raw(alice, environment) as host:
            host.initialize()
            for tool, arguments in CALLS.items():
                arguments = {name: value for name, value in arguments.items() if name != "files"}  # noqa: PLW2901
                error = host.call(tool, **arguments)["structuredContent"]
                assert (error.get("code"), said in str(error.get("message"))) == (code, True), (tool, error)
                check_fix(error["fix"])
            watched = host.call("dispatch_act", action="watch", dispatch_id=SOME)["structuredContent"]
            assert watched["code"] == code
    with raw(alice, {"DISPATCH_BROKER": f"{alice.broker.url}/"}) as host:
        host.initialize()
        assert host.call("dispatch_read", what="whoami")["structuredContent"]["user_id"] == alice.email


@pytest.fixture
def friends(tmp_path: Path) -> Iterator[Pair]:
    """(alice, bob), who may dispatch to each other, in a world of their own."""
    world = World(tmp_path)
    try:
        alice, bob = world.people_named("alice", "bob")
        connect(alice, bob)
        connect(bob, alice)
        yield alice, bob
    finally:
        world.close()


def announced(person: Person) -> bool:
    """Whether their broker keeps where they are."""
    with closing(sqlite3.connect(f"file:{person.broker.folder / 'data' / 'rendezvous.db'}?mode=ro", uri=True)) as db:
        query = "SELECT count(*) FROM presence WHERE user_id = ? AND box IS NOT NULL"
        return bool(db.execute(query, (person.email,)).fetchone()[0])


@pytest.mark.long
@pytest.mark.parametrize("how", ["signed out", "broker away"])
def test_what_needs_no_broker_goes_on(friends: Pair, how: str) -> None:
    """Bob's session is his node. Seen to fail with one that announced him and posted his invitation, signed out."""
    alice, bob = friends
    address = alice.client.whoami()["daemon"]["addresses"][0].partition("/p2p/")[0]
    eventually(lambda: any(address in row[0] for row in bob.rows("SELECT addresses FROM contact_devices")))
    accepted, declined = (str(alice.client.send(bob.email, TASK)["dispatch_id"]) for _ in range(2))
    for dispatch_id in (accepted, declined):
        alice.state_of(dispatch_id, "pending")
    if how == "signed out":
        assert bob.cli("logout", "--json").json["signed_out"]
    else:
        bob.broker.stop()
    bob.stop()
    with raw(bob) as host:
        host.initialize()

        def done(tool: str, **arguments: object) -> Document:
            answer = host.call(tool, **arguments)
            assert not answer.get("isError"), answer
            return dict(answer["structuredContent"])

        inbox = done("dispatch_read", what="inbox")["dispatches"]
        assert {row["dispatch_id"] for row in inbox} == {accepted, declined}
        assert done("dispatch_read", what="status", dispatch_id=accepted)["status"] == "pending"
        assert done("dispatch_act", action="accept", dispatch_id=accepted)["status"] == "completed"
        assert done("dispatch_act", action="decline", dispatch_id=declined)["decision"] == "declined"
        alice.state_of(accepted, "completed")
        alice.state_of(declined, "declined")
        sent = done("dispatch_send", recipient=alice.email, task=TASK)
        bob.state_of(sent["dispatch_id"], "pending")
        assert alice.client.dispatch(sent["dispatch_id"])["status"] == "pending"

        refused = host.call("dispatch_invite", action="send", to_email="grace@example.org")
        assert refused.get("isError"), refused
        error = refused["structuredContent"]
        if how == "signed out":
            assert (error["code"], "dispatch login" in error["fix"]) == (401, True), error
        else:
            assert (error["code"], 'dispatch_read(what="whoami")' in error["fix"]) == (503, True), error
            assert bob.broker.url in error["message"]
        assert all(row["status"] != "open" for row in done("dispatch_invite", action="list")["sent"])
        assert announced(bob) is (how == "broker away"), "for two hours from the last announcement on"
