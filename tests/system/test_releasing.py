"""On a `review` edge nothing of a run reaches its sender before the recipient sends it: real daemons, real sandbox."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from peer.protocol.errors import Conflict
from tests.system.world import Document, Person, eventually

Pair = tuple[Person, Person]


def steps(canary: str) -> tuple[Document, ...]:
    """A run that reads the canary in the project, says it, prints it, writes it and returns it."""
    return (
        {"say": f"I looked: {canary}"},
        {"tool": "Read", "input": {"file_path": "secret.txt"}},
        {"tool": "Bash", "input": {"command": f"cat secret.txt && echo {canary} > /dispatch/out/found.txt"}},
        {"tool": "Write", "input": {"file_path": "notes.md", "content": f"{canary}\n"}},
        {"say": f"It is {canary}"},
    )


@pytest.fixture
def canary() -> str:
    return f"kept-in-the-cellar-{os.urandom(6).hex()}"


@pytest.fixture
def project(pair: Pair, canary: str) -> Path:
    folder = pair[1].projects / f"cellar-{os.urandom(4).hex()}"
    folder.mkdir()
    (folder / "secret.txt").write_text(f"{canary}\n")
    return folder


def held(pair: Pair, project: Path, *steps: Document) -> str:
    """Run a dispatch in the project until its result is held and its sender has read that; return its id."""
    alice, bob = pair
    bob.client.edit_trust(alice.email, {"approval": "review"}, confirm_unverified=True)
    bob.will(*steps)
    identity = str(alice.client.send(bob.email, "What is in the cellar?")["dispatch_id"])
    alice.state_of(identity, "pending")
    bob.client.accept(identity, cwd=str(project))
    bob.state_of(identity, "held")
    alice.event_of(identity, lambda event: event.get("status") == "held")
    return identity


def knows(person: Person, canary: str) -> bool:
    """Whether any file in a person's state folder has the canary."""
    folder = person.state.path
    return any(canary.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.long
def test_nothing_leaves_before_it_is_sent_also_after_a_kill(pair: Pair, project: Path, canary: str) -> None:
    """Red with Recorder._holds False, and with only the reply held."""
    alice, bob = pair
    identity = held(pair, project, *steps(canary))
    assert knows(bob, canary) and not knows(alice, canary)
    assert alice.client.dispatch(identity)["status"] == "running"
    asked = [event for event in bob.client.dispatch(identity)["events"] if event["kind"] == "approval"]
    assert {event["by"] for event in asked} == {"scope"}, "nobody was asked"

    bob.crash()
    bob.restart()
    document = bob.client.dispatch(identity)
    assert document["status"] == "held" and canary in document["held"]["reply"]
    assert {file["name"] for file in document["held"]["files"]} == {"found.txt", "changes.diff"}
    shown = bob.cli("release", identity, "--show")
    assert shown.count(canary) >= 3 and "found.txt" in shown
    assert not knows(alice, canary)
    assert (project / "notes.md").exists() is False and bob.client.apply(identity, all=True)["ok"]

    assert "released the result" in bob.cli("release", identity[-8:], "--without", "trace")
    ended = alice.state_of(identity, "completed")
    assert ended["status"] == "completed"
    told = alice.client.dispatch(identity)
    assert canary in told["result"]["reply"] and [event["kind"] for event in told["events"]] == ["status", "status"]
    eventually(lambda: all(file["ready"] for file in alice.client.dispatch(identity)["result"]["files"]), what="files")
    alice.cli("fetch", identity, "--to", str(project.parent / f"got-{identity}"))
    assert canary in (project.parent / f"got-{identity}/found.txt").read_text()
    for person in pair:
        person.cli("receipt", identity, "--out", str(project.parent / f"{person.name}-{identity}"))
        assert person.cli("verify-receipt", str(project.parent / f"{person.name}-{identity}"), "--json").json[
            "verified"
        ]
    with pytest.raises(Conflict):
        bob.client.release(identity)


@pytest.mark.parametrize("who", ["recipient", "sender"])
def test_what_is_not_sent_never_arrives(pair: Pair, project: Path, canary: str, who: str) -> None:
    alice, bob = pair
    identity = held(pair, project, *steps(canary))
    if who == "recipient":
        bob.client.decline(identity, reason="not this time")
        assert "not this time" in alice.state_of(identity, "declined")["message"]
    else:
        alice.client.cancel(identity)
        eventually(lambda: bob.client.dispatch(identity)["status"] == "cancelled", what="the sender's cancel")
    assert not knows(alice, canary)
    assert bob.client.changes(identity)["waits"] == 1, "what it changed still waits here"
    with pytest.raises(Conflict):
        bob.client.release(identity)
