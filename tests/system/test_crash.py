"""SIGKILL of either daemon at each step of the story, seen from outside: one run per accept, nothing lost.

The instants in between, commit by commit, are in test_every_commit.py.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.system.world import Document, Person, all_gone, descendants, eventually

Pair = tuple[Person, Person]


def marking(*more: Document) -> list[Document]:
    """A script that says so in the trace each time it runs."""
    return [{"tool": "Bash", "input": {"command": "echo ran"}}, *more]


def runs(person: Person, dispatch_id: str) -> int:
    """How often a script of `marking` has run."""
    events = person.client.dispatch(dispatch_id)["events"]
    return sum(event["kind"] == "tool_result" and event["output"].startswith("ran") for event in events)


def project_of(person: Person, name: str) -> Path:
    folder = person.projects / name
    folder.mkdir()
    return folder


def test_sender_killed_before_delivery_and_at_the_result(pair: Pair) -> None:
    alice, bob = pair
    project = project_of(bob, "one")
    bob.client.edit_trust(alice.email, {"approval": "auto"})
    bob.will(*marking(), {"tool": "Write", "input": {"file_path": "/dispatch/out/a", "content": "b"}})
    bob.stop()
    dispatch_id = alice.client.send(bob.email, "Once")["dispatch_id"]
    alice.crash()
    alice.launch()
    bob.start()
    alice.ready()
    alice.state_of(dispatch_id, "pending")
    alice.crash()
    bob.client.accept(dispatch_id, cwd=str(project))
    bob.state_of(dispatch_id, "completed")
    # The result waits on disk; the daemon that made it dies before anybody took it.
    assert bob.rows("SELECT count(*) FROM outbox WHERE kind = 'result' AND dispatch_id = ?", dispatch_id) == [(1,)]
    bob.crash()
    alice.launch()
    bob.start()
    alice.ready()
    alice.state_of(dispatch_id, "completed")
    eventually(lambda: all(file["ready"] for file in alice.client.dispatch(dispatch_id)["result"]["files"]))
    assert runs(bob, dispatch_id) == 1
    eventually(lambda: bob.untold(alice) == 0, what="everything taken")
    # What both sides show of the run is the same.
    assert _kinds(alice, dispatch_id) == _kinds(bob, dispatch_id)


def test_recipient_killed_while_it_waits_and_while_it_runs(pair: Pair) -> None:
    alice, bob = pair
    project = project_of(bob, "two")
    bob.client.edit_trust(alice.email, {"approval": "auto"})
    bob.will(*marking({"tool": "Bash", "input": {"command": "sleep 300"}}))
    dispatch_id = alice.client.send(bob.email, "Twice accepted", expires=600)["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    bob.crash()
    bob.start()
    assert bob.client.dispatch(dispatch_id)["status"] == "pending"
    deadline = bob.client.dispatch(dispatch_id)["expires_at"]

    bob.client.accept(dispatch_id, cwd=str(project))
    assert bob.program is not None
    daemon = bob.program.pid
    eventually(lambda: any("sleep 300" in line for line in descendants(daemon).values()), what="the run under way")
    alice.state_of(dispatch_id, "running")
    running = list(descendants(daemon))
    bob.crash()
    assert all_gone(running), "a run outlived its daemon"
    bob.start()
    # Interrupted: back in the inbox, with its whole time anew, and not run again by itself.
    row = bob.client.dispatch(dispatch_id)
    assert (row["status"], row["attempt"]) == ("pending", 1) and row["expires_at"] > deadline
    assert [event["status"] for event in row["events"] if event["kind"] == "status"][-1] == "interrupted"
    told = alice.state_of(dispatch_id, "pending")
    assert told["expires_at"] == row["expires_at"]
    eventually(lambda: not bob.run_folders(), what="what it changed kept, and its folder removed")
    assert bob.client.approvals() == []
    assert runs(bob, dispatch_id) == 1

    bob.will(*marking(), {"say": "done"})
    bob.client.accept(dispatch_id, cwd=str(project))
    assert alice.state_of(dispatch_id, "completed")["attempt"] == 2
    assert runs(bob, dispatch_id) == 2


@pytest.mark.long
def test_recipient_killed_right_after_the_accept_and_at_an_approval(pair: Pair) -> None:
    alice, bob = pair
    project = project_of(bob, "three")
    bob.will(*marking())
    dispatch_id = alice.client.send(bob.email, "Ask me")["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    bob.client.accept(dispatch_id, cwd=str(project))
    bob.crash()  # committed, and at most on its way to a process
    bob.start()
    assert bob.state_of(dispatch_id, "pending")["attempt"] == 1
    bob.client.accept(dispatch_id, cwd=str(project))
    call = bob.approval_of(dispatch_id)
    bob.crash()
    bob.start()
    assert bob.client.approvals() == []
    error = bob.refused("approve", dispatch_id, call["request_id"])
    assert error["code"] == 409 and error["message"].startswith("nothing pending"), error
    # The deadline starts anew once; the second interruption leaves it.
    first, second = bob.rows("SELECT interrupted, expires FROM dispatches WHERE dispatch_id = ?", dispatch_id)[0]
    assert first == 2 and second > 0
    assert runs(bob, dispatch_id) == 0
    # Another call waits now, under the same id of the agent's: the answer to the earlier one is not taken for it.
    # Seen to fail with ids that repeat from attempt to attempt.
    bob.will({"tool": "Bash", "input": {"command": "echo something else"}}, *marking())
    bob.client.accept(dispatch_id, cwd=str(project))
    other = bob.approval_of(dispatch_id)
    assert other["input"]["command"] == "echo something else"
    error = bob.refused("approve", dispatch_id, call["request_id"])
    assert error["code"] == 409 and error["message"].startswith("nothing pending"), error
    bob.client.deny(dispatch_id, other["request_id"])
    call = eventually(lambda: [row for row in bob.client.approvals() if row["request_id"] != other["request_id"]])[0]
    bob.client.approve(dispatch_id, call["request_id"])
    assert alice.state_of(dispatch_id, "completed")["attempt"] == 3
    events = [event for event in bob.client.dispatch(dispatch_id)["events"] if event.get("call_id")]
    called, answered, done = (
        {event["call_id"] for event in events if event["kind"] == kind}
        for kind in ("tool_call", "approval", "tool_result")
    )
    assert {other["request_id"], call["request_id"]} <= called and answered <= called and done <= called
    assert runs(bob, dispatch_id) == 1


def test_either_side_killed_while_files_travel(pair: Pair, tmp_path: Path) -> None:
    alice, bob = pair
    files = []
    for number in range(12):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(os.urandom(5_000_000))
        files.append(str(path))
    bob.stop()
    dispatch_id = alice.client.send(bob.email, "Much to carry", files=files)["dispatch_id"]
    bob.start()
    eventually(lambda: any(name.endswith(".part") for name in bob.blobs()), what="a file half fetched")
    bob.crash()
    half = bob.blobs()
    assert len([name for name in half if not name.endswith(".part")]) < 12, "it was too quick to be interrupted"
    # Not all is there, so it is in nobody's inbox, and nobody can accept it.
    assert dispatch_id not in [row["dispatch_id"] for row in bob.cli("inbox", "--json").json["dispatches"]]
    bob.start()
    eventually(lambda: any(name.endswith(".part") for name in bob.blobs()), what="a file half fetched again")
    alice.crash()
    alice.start()
    alice.state_of(dispatch_id, "pending")
    row = bob.client.dispatch(dispatch_id)
    assert row["status"] == "pending" and all(file["ready"] for file in row["files"])
    assert not [name for name in bob.blobs() if name.endswith(".part") or name.startswith(".in-")]


def _kinds(person: Person, dispatch_id: str) -> list[str]:
    return [event["kind"] for event in person.client.dispatch(dispatch_id)["events"]]
