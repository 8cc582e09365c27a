"""Runs that are ended from outside, declined or their edge revoked: what they started is gone, both sides know it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from peer.protocol.errors import Conflict
from tests.system.world import Person, all_gone, descendants, eventually

Pair = tuple[Person, Person]
SLEEPING = {"tool": "Bash", "input": {"command": "sleep 300 & sleep 300"}}


def started(pair: Pair, cwd: Path | None = None) -> str:
    """A dispatch that was accepted with what `will` says."""
    alice, bob = pair
    dispatch_id = str(alice.client.send(bob.email, "Sleep well")["dispatch_id"])
    alice.state_of(dispatch_id, "pending")
    bob.client.accept(dispatch_id, cwd=None if cwd is None else str(cwd))
    return dispatch_id


def sleeping(bob: Person) -> list[int]:
    """The processes of a run whose command sleeps."""
    assert bob.program is not None
    daemon = bob.program.pid
    eventually(lambda: sum("sleep 300" in line for line in descendants(daemon).values()) >= 2, what="the command")
    return list(descendants(daemon))


def test_declining_a_run_kills_its_command(pair: Pair) -> None:
    alice, bob = pair
    project = bob.projects / "declined"
    project.mkdir()
    bob.client.edit_trust(alice.email, {"approval": "auto", "paths": [str(project)]})
    bob.will(SLEEPING)
    dispatch_id = started(pair, project)
    processes = sleeping(bob)
    assert bob.cli("decline", dispatch_id, "--reason", "not now", "--json").json["decision"] == "declined"
    assert all_gone(processes)
    for person, told in ((alice, f"{bob.email} says: “not now”"), (bob, "not now")):
        assert person.state_of(dispatch_id, "declined")["message"] == told
    with pytest.raises(Conflict, match="already declined"):
        bob.client.cancel(dispatch_id)
    eventually(lambda: not bob.run_folders(), what="the run's folder removed")
    # The agent ended in good order: nothing that held names in the project is left there.
    assert list(project.iterdir()) == []


def test_declining_a_run_that_waits_closes_its_approval(pair: Pair) -> None:
    alice, bob = pair
    bob.will({"tool": "Bash", "input": {"command": "echo one"}})
    dispatch_id = started(pair)
    call = bob.approval_of(dispatch_id)
    assert bob.program is not None
    processes = list(descendants(bob.program.pid))
    bob.client.decline(dispatch_id, reason="no")
    assert bob.client.approvals() == []
    assert all_gone(processes)
    with pytest.raises(Conflict, match="nothing pending"):
        bob.client.approve(dispatch_id, call["request_id"])
    assert alice.state_of(dispatch_id, "declined")["message"] == f"{bob.email} says: “no”"


def test_revoking_kills_every_run_of_the_edge(pair: Pair) -> None:
    alice, bob = pair
    bob.client.edit_trust(alice.email, {"approval": "auto"})
    bob.will(SLEEPING)
    dispatch_id = started(pair)
    alice.state_of(dispatch_id, "running")
    processes = sleeping(bob)
    # As a defect might leave it: its dispatch has ended, and the run goes on.
    with closing(sqlite3.connect(bob.state.store)) as db:
        db.execute("UPDATE dispatches SET state = 'declined' WHERE dispatch_id = ?", (dispatch_id,))
        db.commit()
    assert set(processes) <= set(sleeping(bob)), "it goes on"
    bob.client.revoke_trust(alice.email)
    assert all_gone(processes)
    eventually(lambda: not bob.run_folders(), what="the run's folder removed")
