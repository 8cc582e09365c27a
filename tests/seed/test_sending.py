"""Sending a task: verbatim, with what it needs, signed by this device, and only where somebody let me."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.seed.conftest import FILE, TASK, Host, People, Scene
from tests.system.world import World, connect, eventually


def test_a_send_returns_its_id_at_once(done: Scene) -> None:
    assert set(done.sent) == {"dispatch_id", "status", "expires_at", "peer_online"}
    assert len(done.dispatch_id) == 36


def test_the_task_arrives_verbatim(done: Scene) -> None:
    """Line ends, tabs and blanks at its end too: what standard input had is what was sent."""
    assert done.theirs["task"] == done.mine["task"] == TASK


def test_only_a_minus_means_standard_input(people: People) -> None:
    dispatch_id = people.alice.cli("send", "--json", "--", people.bob.email, "- not this", stdin="other").json[
        "dispatch_id"
    ]
    assert people.alice.client.dispatch(dispatch_id)["task"] == "- not this"
    people.alice.cli("cancel", dispatch_id)


def test_files_arrive_whole_and_are_readable_in_the_run(done: Scene) -> None:
    (file,) = done.theirs["files"]
    digest = hashlib.sha256(FILE).hexdigest()
    assert (file["name"], file["size"], file["sha256"], file["ready"]) == ("two.txt", len(FILE), digest, True)
    assert [event["output"].strip() for event in done.theirs["events"] if event["kind"] == "tool_result"] == ["2"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("project", "shop"),
        ("links", ["https://spec.example/a"]),
        ("deliverable", "a number"),
        ("background", "Alice counts by hand until now."),
        ("meta", {"ticket": "17"}),
    ],
)
def test_a_dispatch_may_carry(field: str, value: object, done: Scene) -> None:
    assert done.theirs[field] == value


def test_all_of_it_is_under_the_signature(done: Scene, tmp_path: Path) -> None:
    """A receipt proves it without a daemon; one altered byte of any of it is found."""
    receipt = tmp_path / "x.receipt"
    done.people.bob.cli("receipt", done.short, "--out", str(receipt))
    proven = done.people.carol.cli("verify-receipt", str(receipt), "--json").json
    assert proven["verified"] and proven["task"] == TASK
    for part in (b"verbatim", b"shop", b"spec.example", b"a number", b"by hand", b"ticket", b"two.txt"):
        raw = receipt.read_bytes()
        assert part in raw
        bad = tmp_path / "bad.receipt"
        bad.write_bytes(raw.replace(part, part[:-1] + b"~", 1))
        assert done.people.carol.cli("verify-receipt", str(bad), status=1).errors.startswith("error 422")


def test_the_deadline_is_the_senders_choice(done: Scene) -> None:
    from datetime import datetime

    created, expires = (datetime.fromisoformat(done.mine[name]) for name in ("created", "expires_at"))
    assert (expires - created).total_seconds() == 7200


def test_an_hour_unless_it_is_said(people: People) -> None:
    from datetime import datetime

    document = people.alice.client.dispatch(people.sent("Default"))
    created, expires = (datetime.fromisoformat(document[name]) for name in ("created", "expires_at"))
    assert (expires - created).total_seconds() == 3600


@pytest.mark.parametrize("seconds", ["59", "86401"])
def test_a_deadline_out_of_its_range_is_wrong_usage(seconds: str, people: People) -> None:
    error = people.alice.refused("send", people.bob.email, "x", "--expires", seconds)
    assert error["code"] == 422 and "60" in error["message"] and "86400" in error["message"]


@pytest.mark.parametrize(
    ("flags", "limit"),
    [
        (["--project", "x" * 201], "200"),
        (["--deliverable", "x" * 2_001], "2,000"),
        (["--background", "x" * 20_001], "20,000"),
        (["--link", "https://" + "x" * 500], "500"),
        (["--link", "https://a.example"] * 11, "10"),
    ],
)
def test_too_much_is_a_413_that_says_which_limit(flags: list[str], limit: str, people: People) -> None:
    error = people.alice.refused("send", people.bob.email, "x", *flags)
    assert error["code"] == 413 and limit in error["message"] + error["fix"]


def test_too_long_a_task_is_a_413_by_how_much(people: People) -> None:
    said = people.alice.cli("send", people.bob.email, "-", "--json", stdin="x" * 100_001, status=1)
    assert said.json["error"]["code"] == 413 and "100,000" in said.json["error"]["message"]


def test_more_than_fifty_files_are_refused(people: People, tmp_path: Path) -> None:
    flags: list[str] = []
    for number in range(51):
        (tmp_path / str(number)).write_text("x")
        flags += ["--file", str(tmp_path / str(number))]
    assert people.alice.refused("send", people.bob.email, "x", *flags)["code"] == 413


def test_a_file_above_five_megabytes_is_refused(people: People, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(5 * 1024 * 1024 + 1))
    error = people.alice.refused("send", people.bob.email, "x", "--file", str(tmp_path / "big"))
    assert error["code"] == 413 and "big" in error["message"]


def test_background_may_be_read_from_a_file(people: People, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("known so far\n")
    arguments = ["send", people.bob.email, "x", "--background", f"@{tmp_path / 'notes'}", "--json"]
    dispatch_id = people.alice.cli(*arguments).json["dispatch_id"]
    assert people.alice.client.dispatch(dispatch_id)["background"] == "known so far\n"
    people.alice.cli("cancel", dispatch_id)


def test_there_is_no_working_directory_for_the_sender_to_choose(people: People) -> None:
    assert "there is no option" in people.alice.refused("send", people.bob.email, "x", "--cwd", "/")["message"]


def test_without_an_edge_it_is_a_403_at_once_that_says_to_invite(people: People) -> None:
    before = people.carol.count("dispatches")
    error = people.carol.refused("send", people.bob.email, "May I?")
    assert error["code"] == 403 and f"dispatch invite {people.bob.email}" in error["fix"]
    assert people.carol.count("dispatches") == before, "nothing is queued"


def test_an_edge_lets_one_direction_only(people: People) -> None:
    assert people.bob.refused("send", people.alice.email, "Back?")["code"] == 403


def test_without_the_daemon_it_is_a_503_that_says_to_start_it(people: People) -> None:
    """It signs: there is no way to send without it."""
    error = people.dora.refused("send", people.bob.email, "x")
    assert error["code"] == 503 and "dispatch-daemon" in error["fix"]


def test_to_a_recipient_who_is_offline_it_waits_and_is_delivered_later(people: People) -> None:
    """It was to fail where the recipient's machine is off: here it is kept, signed, and sent when both are up."""
    people.bob.stop()
    said = people.alice.cli("send", people.bob.email, "When you are back", "--json").json
    assert said["status"] == "queued"
    people.bob.start()
    people.alice.state_of(said["dispatch_id"], "pending")
    assert people.bob.client.dispatch(said["dispatch_id"])["task"] == "When you are back"
    people.alice.cli("cancel", said["dispatch_id"])


def test_wait_prints_the_result_and_exits_by_it(people: People) -> None:
    people.bob.will({"say": "forty-two"})
    from tests.system.world import Program

    log = people.alice.home / "wait.errors"
    arguments = ["send", people.bob.email, "Ask", "--wait", "--json"]
    program = Program("cli.main", arguments, people.alice.environment, log)
    assert program.process.stdout is not None

    def waiting() -> str | None:
        rows = people.bob.client.dispatches("received", status="pending")["dispatches"]
        return next((row["dispatch_id"] for row in rows if row["task"] == "Ask"), None)

    people.bob.client.accept(str(eventually(waiting, what="the dispatch in the inbox")))
    import json

    document = json.loads(program.process.stdout.read())
    program.process.stdout.close()
    assert program.process.wait() == 0
    assert (document["status"], document["result"]["status"]) == ("completed", "completed")
    canaries = document["result"]["sandbox"]["canaries"]
    assert canaries["tried"] > 40 and canaries["failed"] == []


def test_the_session_sends_with_everything_at_once(people: People, alice_host: Host, tmp_path: Path) -> None:
    (tmp_path / "spec.md").write_text("# Spec\n")
    said = alice_host.ok(
        "dispatch_send",
        recipient=people.bob.email,
        task="Read the spec",
        files=[str(tmp_path / "spec.md")],
        project="shop",
        links=["https://a.example"],
        deliverable="a list",
        background="from this session",
    )
    people.alice.state_of(said["dispatch_id"], "pending")
    got = people.bob.client.dispatch(said["dispatch_id"])
    assert [file["name"] for file in got["files"]] == ["spec.md"] and got["background"] == "from this session"
    people.alice.cli("cancel", said["dispatch_id"])


def test_the_session_gets_the_same_refusals(people: People, alice_host: Host) -> None:
    assert alice_host.refused("dispatch_send", recipient="nobody@example.org", task="x")["code"] == 403


def test_a_send_to_a_key_that_nobody_verified_shows_what_to_compare(world: World) -> None:
    """Seen to fail with a send that says nothing: the acceptance may be of whoever runs the broker."""
    vera, willi = world.people_named("vera", "willi")
    connect(vera, willi, by="token")
    fingerprint = willi.client.whoami()["fingerprint"]
    outcome = vera.cli("send", willi.email, "for your eyes only", "--json")
    assert outcome.json["unverified"] == fingerprint
    human = vera.cli("send", willi.email, "for your eyes only")
    assert f"the key of {willi.email} is not verified" in human.errors and fingerprint in human.errors
    connect(willi, vera)
    assert "unverified" not in willi.client.send(vera.email, "this way round it is")
