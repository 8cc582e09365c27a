"""The sender learns what became of the changes of a run, through crashes of either side, and the receipt proves it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from peer.client.blocking import DaemonUnreachable, Interrupted
from tests.conftest import HANG
from tests.killed_in_landing import DAEMON
from tests.system.test_review import CHANGES, UNMARKED, ran
from tests.system.test_review import project as project
from tests.system.world import Document, Person, eventually

Pair = tuple[Person, Person]
PLACEABLE = len(UNMARKED) + len({"conftest.py", "run.sh", "link"})


def told(person: Person, identity: str) -> tuple[str, int, int]:
    """What a sender's device knows; "" before it knows anything."""
    landing = person.client.dispatch(identity)["landing"]
    return (landing["landed"], landing["in_place"], landing["in_all"]) if landing else ("", 0, 0)


def reaches(person: Person, identity: str, *wanted: object) -> None:
    eventually(lambda: told(person, identity) == wanted, what=f"a report of {wanted}")


def proven(person: Person, identity: str) -> Document:
    """Export the receipt of a person's store and check it; return what it says of the changes."""
    file = person.home / f"{person.name}-{len(list(person.home.glob('*.receipt')))}.receipt"
    person.cli("receipt", identity, "--out", str(file))
    document = person.cli("verify-receipt", str(file), "--json").json
    assert document["verified"] and document["complete"]
    return dict(document["landing"])


def test_applied_in_part_taken_back_and_proven(pair: Pair, project: Path) -> None:
    alice, bob = pair
    identity = ran(pair, project, *CHANGES)
    reaches(alice, identity, "waiting", 0, PLACEABLE)
    assert bob.client.apply(identity, paths=["notes.md", "src/app.py"])["ok"]
    reaches(alice, identity, "part", 2, PLACEABLE)
    assert f"changes: 2 of {PLACEABLE} applied" in alice.cli("status", identity)
    assert f"changes: 2 of {PLACEABLE} applied" in " ".join(alice.cli("sent").split())
    assert bob.client.apply(identity, all=True, marked=True)["ok"]
    reaches(alice, identity, "all", PLACEABLE, PLACEABLE)
    assert bob.client.undo(identity)["ok"]
    reaches(alice, identity, "part", 2, PLACEABLE)
    ours, theirs = proven(alice, identity), proven(bob, identity)
    assert ours == theirs and (ours["landed"], ours["in_place"]) == ("part", 2)
    assert ours["change_set"] == bob.client.changes(identity)["digest"]
    bob.client.undo(identity)
    reaches(alice, identity, "waiting", 0, PLACEABLE)
    bob.client.discard(identity)
    reaches(alice, identity, "none", 0, PLACEABLE)
    assert proven(alice, identity)["landed"] == "none"


@pytest.mark.long
def test_killed_when_the_files_are_in_place_and_nothing_is_recorded(pair: Pair, project: Path) -> None:
    """The next start finishes the landing, and tells of it in the same step."""
    alice, bob = pair
    identity = ran(pair, project, *CHANGES)
    reaches(alice, identity, "waiting", 0, PLACEABLE)
    bob.stop()
    bob.launch("_finish", *DAEMON, module="tests.killed_in_landing")
    bob.ready()
    with pytest.raises((DaemonUnreachable, Interrupted)):
        bob.client.apply(identity, all=True)
    assert bob.program is not None and bob.program.process.wait(HANG) != 0
    bob.stop()
    assert (project / "notes.md").exists()
    assert [state for (state,) in bob.rows("SELECT state FROM landings WHERE dispatch_id = ?", identity)] == ["begun"]
    assert told(alice, identity)[0] == "waiting"
    bob.start()
    reaches(alice, identity, "part", len(UNMARKED), PLACEABLE)
    assert proven(alice, identity) == proven(bob, identity)


def test_killed_when_a_landing_that_nobody_asked_for_was_begun(pair: Pair, project: Path) -> None:
    """The next start begins it once more: no person would come back to it."""
    alice, bob = pair
    bob.stop()
    bob.launch("_carry_out", *DAEMON, module="tests.killed_in_landing")
    bob.ready()
    bob.client.edit_trust(alice.email, {"approval": "auto", "apply": "auto"}, confirm_unverified=True)
    bob.will(*CHANGES)
    identity = str(alice.client.send(bob.email, "Mend the kettle")["dispatch_id"])
    alice.state_of(identity, "pending")
    with suppress(DaemonUnreachable, Interrupted):
        bob.client.accept(identity, cwd=str(project))
    assert bob.program is not None and bob.program.process.wait(HANG) != 0
    bob.stop()
    assert not (project / "notes.md").exists()
    assert bob.rows("SELECT state, unasked FROM landings WHERE dispatch_id = ?", identity) == [("begun", 1)]
    bob.start()
    reaches(alice, identity, "part", len(UNMARKED), PLACEABLE)
    assert (project / "notes.md").exists()
    bob.client.edit_trust(alice.email, {"apply": "review"}, confirm_unverified=True)


@pytest.mark.long
def test_killed_when_it_is_recorded_and_not_sent(pair: Pair, project: Path) -> None:
    """With both sides killed, and the sender's machine off meanwhile."""
    alice, bob = pair
    identity = ran(pair, project, *CHANGES)
    reaches(alice, identity, "waiting", 0, PLACEABLE)
    alice.crash()
    assert bob.client.apply(identity, paths=["notes.md"])["ok"]
    bob.crash()
    assert bob.rows("SELECT kind FROM outbox WHERE dispatch_id = ?", identity) == [("landing-report",)]
    bob.start()
    alice.start()
    reaches(alice, identity, "part", 1, PLACEABLE)


def test_what_lands_unasked_is_told_too_and_redacted_the_word_alone(pair: Pair, project: Path) -> None:
    alice, bob = pair
    identity = ran(pair, project, *CHANGES, apply="auto", results="redacted")
    reaches(alice, identity, "part", None, None)
    assert "changes: some applied, not all" in alice.cli("status", identity)
    bob.client.edit_trust(alice.email, {"apply": "review", "results": "full"}, confirm_unverified=True)


@pytest.mark.long
def test_an_accept_ends_with_how_much_is_in_place(pair: Pair, project: Path) -> None:
    """On the command line, in the API, and for the list of changes, in the same word."""
    alice, bob = pair
    for how, said in (("review", "waiting"), ("auto", "part")):
        bob.client.edit_trust(alice.email, {"approval": "auto", "apply": how}, confirm_unverified=True)
        bob.will(*CHANGES)
        identity = str(alice.client.send(bob.email, "Mend the kettle")["dispatch_id"])
        alice.state_of(identity, "pending")
        ended = bob.cli("accept", identity, "--cwd", str(project), "--follow", "--json").json
        (event,) = [event.data for event in bob.client.events(identity) if event.kind == "end"]
        assert [each["landed"] for each in (ended, event, bob.client.changes(identity))] == [said] * 3
    bob.will({"say": "nothing to do"})
    identity = str(alice.client.send(bob.email, "Do nothing")["dispatch_id"])
    alice.state_of(identity, "pending")
    assert bob.cli("accept", identity, "--cwd", str(project), "--follow", "--json").json["landed"] == "none"
    bob.client.edit_trust(alice.email, {"apply": "review"}, confirm_unverified=True)
