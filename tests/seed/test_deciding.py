"""Deciding on a dispatch: accepting runs it, declining and cancelling end it, and each is decided once."""

from __future__ import annotations

import pytest

from tests.seed.conftest import Host, People, bash
from tests.system.world import eventually


def test_a_dispatch_waits_until_a_person_accepts_it(people: People) -> None:
    dispatch_id = people.sent("Wait for me", bash("echo ran"))
    document = people.bob.client.dispatch(dispatch_id)
    assert (document["status"], document["events"]) == ("pending", [])


def test_accept_runs_it_and_names_how_calls_are_answered(people: People) -> None:
    dispatch_id = people.sent("Run")
    document = people.bob.cli("accept", dispatch_id, "--json").json
    assert (document["decision"], document["ok"], document["approval"]) == ("accepted", True, "manual")
    people.alice.state_of(dispatch_id, "completed")


def test_accept_away_from_a_terminal_warns_that_calls_will_wait(people: People) -> None:
    dispatch_id = people.sent("Run")
    assert "dispatch approvals" in people.bob.cli("accept", dispatch_id).errors
    people.alice.state_of(dispatch_id, "completed")


def test_accept_with_follow_stays_to_the_end(people: People) -> None:
    dispatch_id = people.sent("Follow me", {"say": "the end"})
    assert "the end" in people.bob.cli("accept", dispatch_id, "--follow")


def test_accepting_twice_is_a_409_and_one_run(people: People) -> None:
    dispatch_id, call = people.running(bash("echo once"))
    error = people.bob.refused("accept", dispatch_id)
    assert error["code"] == 409 and error["message"].startswith("nothing pending")
    people.bob.client.approve(dispatch_id, call["request_id"])
    people.alice.state_of(dispatch_id, "completed")
    assert people.bob.client.dispatch(dispatch_id)["result"]["attempt"] == 1


def test_declining_tells_the_sender_why(people: People) -> None:
    dispatch_id = people.sent("Do it")
    document = people.bob.cli("decline", dispatch_id, "--reason", "not on this machine", "--json").json
    assert (document["decision"], document["ok"]) == ("declined", True)
    assert people.alice.state_of(dispatch_id, "declined")["message"] == (
        f"{people.bob.email} says: “not on this machine”"
    )


def test_declining_a_running_dispatch_stops_it(people: People) -> None:
    """By the command, the session and the API alike: nothing of it runs on, and its call waits no longer."""
    for how in ("cli", "api"):
        dispatch_id, _ = people.running(bash("echo never"))
        if how == "cli":
            people.bob.cli("decline", dispatch_id)
        else:
            people.bob.client.decline(dispatch_id)
        people.alice.state_of(dispatch_id, "declined")
        eventually(lambda: not people.bob.client.approvals(), what="an end of the call")
        assert not [
            event for event in people.bob.client.dispatch(dispatch_id)["events"] if event["kind"] == "tool_result"
        ]


@pytest.mark.long
def test_declining_a_running_dispatch_from_a_session_stops_it(people: People, bob_host: Host) -> None:
    dispatch_id, _ = people.running(bash("echo never"))
    bob_host.ok("dispatch_act", action="decline", dispatch_id=dispatch_id)
    people.alice.state_of(dispatch_id, "declined")
    eventually(lambda: not people.bob.client.approvals(), what="an end of the call")


def test_either_side_cancels_before_the_run(people: People) -> None:
    for canceller, other in ((people.alice, people.bob), (people.bob, people.alice)):
        dispatch_id = people.sent("Never mind")
        assert canceller.cli("cancel", dispatch_id, "--reason", "no need", "--json").json["status"] == "cancelled"
        assert other.state_of(dispatch_id, "cancelled")["message"] == f"{canceller.email} says: “no need”"
        own = canceller.client.dispatch(dispatch_id)["message"]
        assert own == "you cancelled it: “no need”", "seen to fail: whose the reason is was not said"


def test_either_side_cancels_a_run(people: People) -> None:
    for canceller, other in ((people.alice, people.bob), (people.bob, people.alice)):
        dispatch_id, _ = people.running(bash("echo never"))
        canceller.cli("cancel", dispatch_id)
        other.state_of(dispatch_id, "cancelled")
        eventually(lambda: not people.bob.client.approvals(), what="an end of the call")


def test_what_is_decided_stays_decided(people: People) -> None:
    declined, taken_back, put_aside = (people.sent("Once") for _ in range(3))
    people.bob.cli("decline", declined)
    people.alice.cli("cancel", taken_back)
    people.bob.state_of(taken_back, "cancelled")
    people.bob.cli("cancel", put_aside)
    for dispatch_id in (declined, taken_back, put_aside):
        for command in ("accept", "decline"):
            error = people.bob.refused(command, dispatch_id)
            assert error["code"] == 409 and error["message"].startswith("nothing pending") and error["fix"]


def test_only_the_recipient_decides(people: People) -> None:
    dispatch_id = people.sent("Mine to send, yours to decide")
    for command in ("accept", "decline"):
        error = people.alice.refused(command, dispatch_id)
        assert error["code"] == 404 and error["fix"]


def test_decisions_need_the_daemon_of_this_machine(people: People) -> None:
    some = "0192f0c1-7a3b-7c44-9d2e-5b6a7c8d9e0f"
    for arguments in (["accept", some], ["decline", some], ["approvals"], ["approve", some, "1"], ["deny", some, "1"]):
        error = people.dora.refused(*arguments)
        assert error["code"] == 503 and "dispatch-daemon" in error["fix"]
        assert "no local daemon token at" in error["message"]


def test_decisions_work_without_the_broker(people: People) -> None:
    """A broker relays no decision; here it relays nothing at all."""
    people.world.broker.stop()
    try:
        dispatch_id = people.sent("Without it")
        people.bob.cli("accept", dispatch_id)
        people.alice.state_of(dispatch_id, "completed")
    finally:
        people.world.broker.start()


def test_an_unknown_id_is_a_404_with_where_to_look(people: People) -> None:
    error = people.bob.refused("accept", "0192f0c1-7a3b-7c44-9d2e-5b6a7c8d9e0f")
    assert error["code"] == 404 and error["fix"]
