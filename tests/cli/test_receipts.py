"""`receipt` and `verify-receipt`, from real stores: no daemon, no broker, nothing overwritten, nothing claimed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.receipts import LATER
from peer.machine.state_folder import StateFolder
from peer.protocol.statements import FileRef
from peer.steps import running
from peer.store import connection, retention
from peer.trust import fingerprints
from tests.cli.conftest import Cli
from tests.steps.people import Person, accept, connect, people, send
from tests.steps.test_change_sets import change_set, keep, land, stored
from tests.steps.test_landing_reports import greet

EVENT = '{"kind":"reasoning","text":"hm"}'


class Parties:
    """Alice and Bob, and one dispatch between them that has ended."""

    def __init__(self, alice: Person, bob: Person) -> None:
        self.alice, self.bob = alice, bob
        self.open = send(alice, bob, "wait")
        self.ended = send(alice, bob, "say hello\x1b[2J")
        alice.deliver(bob)
        row = accept(bob, self.ended)
        bob.step(lambda tx: running.start(tx, self.ended, 1))
        bob.step(lambda tx: running.record(tx, self.ended, row.attempt, [EVENT], [EVENT]))
        bob.step(
            lambda tx: running.finish(
                tx, self.ended, row.attempt, "completed", reply="hello", files=[FileRef("a.txt", 3, bytes(32))]
            )
        )
        bob.deliver(alice)


@pytest.fixture
def parties(tmp_path: Path, cli: Cli) -> Iterator[Parties]:
    """The command line is Alice's; there is no daemon."""
    with people(tmp_path / "people", "alice", "bob") as (_, alice, bob):
        connect(alice, bob)
        made = Parties(alice, bob)
        cli.patch.setenv("DISPATCH_HOME", str(alice.context.state.path))
        cli.folder = StateFolder(alice.context.state.path)
        cli.folder.repair()  # these parties' store is made by sqlite3, with the usual mode
        cli.configure(email=alice.user)
        yield made


def test_a_receipt_goes_into_a_new_private_file(cli: Cli, parties: Parties) -> None:
    made = cli("receipt", parties.ended[-8:], "--out", "x.receipt")
    assert made.code == 0, made.err
    assert "x.receipt (" in made.out
    assert stat.S_IMODE(Path("x.receipt").stat().st_mode) == 0o600
    whole = Path("x.receipt").read_bytes()
    refused = cli("receipt", parties.ended, "--out", "x.receipt", "--json")
    assert (refused.code, refused.document["error"]["code"]) == (1, 409)
    Path("link").symlink_to("elsewhere")
    assert cli("receipt", parties.ended, "--out", "link").code == 1
    assert not Path("elsewhere").exists()
    assert Path("x.receipt").read_bytes() == whole
    asked = cli("receipt", parties.ended, "--json")
    default = Path.cwd() / f"dispatch-{parties.ended[-8:]}.receipt"
    assert asked.document == {
        "dispatch_id": parties.ended,
        "file": str(default),
        "size": len(whole),
        "complete": True,
        "missing_batches": 0,
    }
    assert default.read_bytes() == whole


def test_into_a_pipe_or_onto_no_terminal(cli: Cli, parties: Parties) -> None:
    command = [sys.executable, "-m", "cli.main", "receipt", parties.ended]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    piped = subprocess.run(command, capture_output=True, check=True, env=environment).stdout
    assert list(Path.cwd().iterdir()) == []
    with cli.patch.context() as patch:
        patch.setattr(sys.stdout, "isatty", lambda: True)
        assert "dispatch-receipt-1" not in cli("receipt", parties.ended).out
    assert Path(f"dispatch-{parties.ended[-8:]}.receipt").read_bytes() == piped


def test_of_what_has_not_ended_or_is_unknown_there_is_none(cli: Cli, parties: Parties) -> None:
    waiting = cli("receipt", parties.open, "--json")
    assert (waiting.code, waiting.document["error"]["code"]) == (1, 409)
    assert cli("receipt", "0198c0de-1111-7222-8333-444455556666", "--json").document["error"]["code"] == 404
    assert list(Path.cwd().iterdir()) == []


@pytest.fixture
def receipt(cli: Cli, parties: Parties) -> Path:
    assert cli("receipt", parties.ended, "--out", "x.receipt").code == 0
    # Whoever checks it has no identity, no store and no sign-in.
    cli.patch.setenv("DISPATCH_HOME", str(Path.cwd() / "nowhere"))
    return Path("x.receipt")


def test_what_a_receipt_proves(cli: Cli, parties: Parties, receipt: Path) -> None:
    document = cli("verify-receipt", str(receipt), "--json").document
    assert document["verified"] is True
    assert (document["dispatch_id"], document["status"], document["reply"]) == (parties.ended, "completed", "hello")
    assert (document["events"], document["statements"]) == (1, 6)
    assert (document["complete"], document["missing_batches"]) == (True, 0)
    assert document["returned"] == [{"name": "a.txt", "size": 3, "sha256": "00" * 32}]
    for name, person in (("sender", parties.alice), ("recipient", parties.bob)):
        assert document[name] == {
            "user_id": person.user,
            "device_id": person.device,
            "fingerprint": str(fingerprints.fingerprint(person.context.identity.root)),
            "root": "not checked",
        }
    assert any("clock" in words for words in document["not_proven"])
    assert any("revoked" in words for words in document["not_proven"])
    human = cli("verify-receipt", str(receipt))
    assert human.code == 0
    assert human.out.count("not checked") == 2
    assert "\x1b" not in human.out
    for word in ("6 signed statements", "alice@example.org", "bob@example.org", "hello", "a.txt (3 bytes)", "clock"):
        assert word in human.out
    assert not Path("nowhere").exists()


def test_one_without_the_events_says_so_wherever_it_goes(cli: Cli, parties: Parties) -> None:
    """When it is made, when it is checked, in both forms of output and in the exit code. Seen to fail in each place
    without its part."""
    with connection.writing(parties.alice.db) as db:
        retention.thin(db, parties.ended, parties.alice.context.clock())
    words = "is not complete: one batch of events is missing from it"
    made = cli("receipt", parties.ended, "--out", "x.receipt")
    assert made.code == 0 and words in made.err
    told = cli("receipt", parties.ended, "--out", "y.receipt", "--json")
    assert words in told.err
    assert (told.document["complete"], told.document["missing_batches"]) == (False, 1)
    command = [sys.executable, "-m", "cli.main", "receipt", parties.ended]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    piped = subprocess.run(command, capture_output=True, check=True, env=environment)
    assert words in piped.stderr.decode() and piped.stdout == Path("x.receipt").read_bytes()
    human = cli("verify-receipt", "x.receipt")
    assert human.code == 1 and words in human.out and "without the events" in human.out
    asked = cli("verify-receipt", "x.receipt", "--json")
    assert asked.code == 1
    assert [asked.document[name] for name in ("verified", "complete", "missing_batches", "events")] == [
        True,
        False,
        1,
        0,
    ]
    assert asked.document["reply"] == "hello"


def test_what_is_left_of_a_thinned_dispatch_is_shown(cli: Cli, parties: Parties) -> None:
    """And why its files cannot be fetched. Seen to fail without `removed` in views, and without its part in fetch."""
    bob = parties.bob
    with connection.writing(parties.alice.db) as db:
        db.execute("UPDATE files SET ready = 1 WHERE dispatch_id = ?", (parties.ended,))
        retention.thin(db, parties.ended, parties.alice.context.clock())
    shown = cli("status", parties.ended)
    sentence = "its events and the content of its files were removed on 2027-01-15 by this machine's retention rules"
    assert sentence in shown.out and "its receipt, without the events, are kept" in shown.out
    assert "a.txt (3 bytes, removed)" in shown.out and "dispatch fetch" not in shown.out + shown.err
    document = cli("status", parties.ended, "--json").document
    assert document["removed"]["at"].startswith("2027-01-15T") and sentence in document["removed"]["message"]
    assert (document["events"], document["result"]["missing_batches"]) == ([], 1)
    refused = cli("fetch", parties.ended, "--json")
    assert (refused.code, refused.document["error"]["code"]) == (1, 410)
    assert sentence in refused.document["error"]["message"] and "retention_mb" in refused.document["error"]["fix"]
    assert bob.user in cli("sent").out


def test_the_roots_that_are_known_are_compared(cli: Cli, parties: Parties, receipt: Path) -> None:
    bob = fingerprints.fingerprint(parties.bob.context.identity.root)
    alice = fingerprints.fingerprint(parties.alice.context.identity.root)
    one = cli("verify-receipt", str(receipt), "--root", bob.words, "--json").document
    assert (one["sender"]["root"], one["recipient"]["root"]) == ("not checked", "matches")
    both = cli("verify-receipt", str(receipt), "--root", bob.digits, "--root", alice.digits.replace(" ", "")).out
    assert "not checked" not in both
    assert both.count("matches --root") == 2
    other = cli("verify-receipt", str(receipt), "--root", "1" * 40, "--root", bob.digits, "--json")
    assert (other.code, other.document["error"]["code"]) == (1, 409)
    assert "neither party" in other.document["error"]["message"]
    part = cli("verify-receipt", str(receipt), "--root", "12345", "--json")
    assert (part.code, part.document["error"]["code"]) == (2, 422)


def test_what_was_altered_is_named(cli: Cli, receipt: Path) -> None:
    raw = receipt.read_bytes()
    at = raw.rindex(b"hm")
    receipt.write_bytes(raw[:at] + b"no" + raw[at + 2 :])
    outcome = cli("verify-receipt", str(receipt), "--json")
    assert (outcome.code, outcome.document["error"]["code"]) == (1, 422)
    assert "event batch 1" in outcome.document["error"]["message"]
    assert outcome.document["error"]["fix"]
    receipt.write_bytes(b"no receipt at all")
    assert "not a receipt" in cli("verify-receipt", str(receipt)).err
    assert cli("verify-receipt", "missing", "--json").document["error"]["code"] == 404
    assert cli("verify-receipt", ".").code == 1


def test_what_became_of_the_changes_is_in_it_and_shown(cli: Cli, parties: Parties) -> None:
    assert cli("receipt", parties.ended, "--out", "before.receipt").code == 0
    alice, bob, ended = parties.alice, parties.bob, parties.ended
    greet(alice, bob)
    keep(bob, change_set(ended))
    land(bob, stored(bob, ended), {0})
    bob.deliver(alice)
    assert cli("receipt", ended, "--out", "after.receipt").code == 0
    before, after = (cli("verify-receipt", f"{name}.receipt", "--json").document for name in ("before", "after"))
    assert before["landing"] is None and before["statements"] == after["statements"] - 1
    told = after["landing"]
    assert (told["landed"], told["in_place"], told["in_all"], told["words"]) == ("part", 1, 3, "1 of 3 applied")
    assert told["change_set"] == stored(bob, ended).digest.hex() and told["at"]
    assert [each for each in after["not_proven"] if each not in before["not_proven"]] == [LATER]
    said = cli("verify-receipt", "after.receipt").out
    assert "changes: 1 of 3 applied, on " in said and LATER in said
    assert "changes:" not in cli("verify-receipt", "before.receipt").out
