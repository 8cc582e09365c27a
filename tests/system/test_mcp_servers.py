"""MCP servers of the recipient, whole: granted, pinned, called by a run, asked about when they change, gone with it."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from peer.client.blocking import Client
from peer.protocol.errors import DispatchError
from sandbox.mcp.marker import MARKER
from tests.conftest import more
from tests.system.world import Document, Person, World, all_gone, connect, descendants, eventually

SERVER = Path(__file__).parents[1] / "sandbox" / "mcp_server.py"


class Recipient:
    """Bob with servers of his own, and Alice who sends to him."""

    def __init__(self, alice: Person, bob: Person) -> None:
        self.alice, self.bob = alice, bob

    def installs(self, *tools: str, **others: Any) -> None:
        notes = {"command": sys.executable, "args": [str(SERVER), *tools], "env": {"TOKEN_OF_BOB": "bobs-token"}}
        servers = {"notes": notes, "remote": {"type": "http", "url": "https://mcp.example.org"}, **others}
        (self.bob.home / ".claude.json").write_text(json.dumps({"mcpServers": servers}))

    def edits(self, **change: Any) -> Document:
        return dict(self.bob.client.edit_trust(self.alice.email, change))

    def gets(self, *calls: tuple[str, Document]) -> str:
        """A dispatch in Bob's inbox, whose run will make these calls of his server."""
        self.bob.will(*[{"tool": f"mcp__notes__{tool}", "input": given} for tool, given in calls])
        dispatch_id = str(self.alice.client.send(self.bob.email, "Look into the notes")["dispatch_id"])
        self.alice.state_of(dispatch_id, "pending")
        return dispatch_id

    def results(self, dispatch_id: str) -> list[tuple[bool, str]]:
        self.bob.state_of(dispatch_id, "completed", "failed")
        events = self.bob.client.dispatch(dispatch_id)["events"]
        return [(event["ok"], event["output"]) for event in events if event["kind"] == "tool_result"]

    def pinned(self) -> Document:
        [(tools,)] = self.bob.rows("SELECT tools FROM edge_mcp_servers WHERE name = 'notes'")
        return dict(json.loads(tools)) if tools else {}


@pytest.fixture
def recipient(pair: tuple[Person, Person]) -> Iterator[Recipient]:
    yield Recipient(*pair)
    (pair[1].home / ".claude.json").unlink(missing_ok=True)


def refusal(client: Client, dispatch_id: str) -> DispatchError:
    with pytest.raises(DispatchError) as raised:
        client.accept(dispatch_id)
    return raised.value


def test_a_granted_server_is_pinned_and_a_changed_one_is_asked_about(recipient: Recipient) -> None:
    bob, alice = recipient.bob, recipient.alice
    alice.stop()
    alice.launch(as_usual=True)  # Bob's daemon finds her state folder in the environment of her daemon
    alice.ready()
    recipient.installs("say", "read", "environment")
    assert recipient.edits(mcp_servers="*", approval="auto")["scopes"]["mcp_servers"] == ["notes"]
    assert bob.client.trust(recipient.alice.email)["pinned_servers"][0]["tools"] is None
    token = str(bob.state.local_token)
    others = str(recipient.alice.state.local_token)
    first = recipient.gets(
        ("say", {"text": "hello"}), ("read", {"text": token}), ("environment", {}), ("read", {"text": others})
    )
    bob.client.accept(first)
    said = recipient.results(first)
    assert said[0] == (True, "say: hello") and not said[1][0]
    assert not said[3][0], "here both identities are one user's, and a server sees neither"
    assert "TOKEN_OF_BOB=bobs-token" in said[2][1] and said[2][1].count("DISPATCH") == said[2][1].count(MARKER) == 1
    assert bob.client.dispatch(first)["status"] == "completed"
    pinned = recipient.pinned()
    assert set(pinned) == {"say", "read", "environment"}
    (shown,) = bob.client.trust(recipient.alice.email)["pinned_servers"]
    assert shown["name"] == "notes" and str(SERVER) in shown["command"]
    assert shown["tools"] == ["environment", "read", "say"]

    # Another command: refused until Bob looks at the edge again; the dispatch waits for him.
    recipient.installs("say=Send everything", "read", "environment")
    second = recipient.gets(("say", {"text": "again"}), ("say", {"text": "more"}))
    error = refusal(bob.client, second)
    assert error.code == 403 and "a different command" in error.message and "trust edit" in error.fix
    assert bob.client.dispatch(second)["status"] == "pending"
    recipient.edits(approval="auto")
    assert refusal(bob.client, second).code == 403
    # The same command, and another tool behind it (a server that was updated): asked, also on an auto edge, once.
    bob_edit = recipient.edits(mcp_servers="notes")
    assert bob_edit["scopes"]["mcp_servers"] == ["notes"] and recipient.pinned() == {}
    as_before = json.dumps(pinned)
    _write(bob, "UPDATE edge_mcp_servers SET tools = ?", as_before)
    bob.client.accept(second)
    waiting = bob.approval_of(second)
    assert waiting["tool"] == "mcp__notes__say" and "has changed since" in waiting["unusual"][-1]
    bob.client.approve(second, waiting["request_id"])
    assert recipient.results(second) == [(True, "say: again"), (True, "say: more")]
    now = recipient.pinned()
    assert now["say"] != pinned["say"] and {**now, "say": ""} == {**pinned, "say": ""}

    # Gone, and become dispatch.
    third = recipient.gets(("say", {}))
    (bob.home / ".claude.json").unlink()
    assert "no longer installed" in refusal(bob.client, third).message
    recipient.installs(notes={"command": "dispatch-mcp"})
    assert "dispatch itself" in refusal(bob.client, third).message


def _write(person: Person, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(person.state.store)) as db, db:
        db.execute(statement, values)


def test_what_can_be_granted_is_said(recipient: Recipient, world: World) -> None:
    bob = recipient.bob
    link = bob.home / "helper"
    link.write_text("#!/bin/sh\nexec dispatch-mcp\n")
    link.chmod(0o755)
    recipient.installs("say", courier={"command": str(link)})
    edit = ["trust", "edit", recipient.alice.email, "--mcp-servers"]
    unknown = bob.refused(*edit, "notse")
    assert unknown["code"] == 422 and "`notes`" in unknown["message"] and "choose from: notes" in unknown["fix"]
    assert bob.refused(*edit, "courier")["code"] == 403
    remote = bob.refused(*edit, "remote")
    assert remote["code"] == 422 and "network" in remote["message"]
    assert bob.cli(*edit, "*", "--json").json["scopes"]["mcp_servers"] == ["notes"]

    nora = world.person("nora")
    invited = nora.client.invite(bob.email)
    menu = bob.cli("accept-invitation", invited["link"], "--json", status=2).json
    assert menu["installed_mcp_servers"] == ["notes"]
    assert menu["menu"][2]["mcp_servers"] == ["notes"]
    assert [line.partition(":")[0] for line in menu["mcp_servers_left_out"]] == ["remote"]
    shown = bob.cli("accept-invitation", invited["link"], status=2)
    assert "cannot be granted: remote" in shown + shown.errors
    connect(nora, bob, mcp_servers="notes")
    [(command,)] = bob.rows(
        "SELECT command FROM edge_mcp_servers JOIN edges USING (edge_id) WHERE user_id = ?", nora.email
    )
    assert json.loads(command)[1:] == [str(SERVER), "say"]
    bob.client.revoke_trust(nora.email)


@pytest.mark.long
def test_a_server_that_does_not_start_fails_the_run_and_tells_the_sender_nothing(recipient: Recipient) -> None:
    recipient.installs(notes={"command": "sh", "args": ["-c", "echo no credentials of bob >&2; exit 1"]})
    recipient.edits(mcp_servers="notes")
    dispatch_id = recipient.gets(("say", {}))
    recipient.bob.client.accept(dispatch_id)
    mine = recipient.bob.state_of(dispatch_id, "failed")
    assert mine["code"] == 503 and "no credentials of bob" in mine["message"]
    theirs = recipient.alice.state_of(dispatch_id, "failed")
    assert "credentials" not in json.dumps(recipient.alice.client.dispatch(dispatch_id)), theirs


@pytest.mark.parametrize("how", [*more("revoke"), "crash"])
def test_servers_end_with_the_run(recipient: Recipient, how: str) -> None:
    bob = recipient.bob
    recipient.installs("sleep")
    recipient.edits(mcp_servers="notes", approval="auto")
    marker = bob.home / f"sleeping-{how}"
    dispatch_id = recipient.gets(("sleep", {"text": str(marker)}))
    bob.client.accept(dispatch_id)
    eventually(marker.exists, what="the server's tool to work")
    assert bob.program is not None
    tree = descendants(bob.program.pid)
    assert any(str(SERVER) in line for line in tree.values())
    if how == "revoke":
        bob.client.revoke_trust(recipient.alice.email)
    else:
        bob.crash()
    assert all_gone(list(tree))
