"""On a manual edge every call waits for a person: shown whole, answered once, for the session or always, or denied."""

from __future__ import annotations

import pytest

from tests.seed.conftest import Host, People, bash
from tests.system.world import Document, eventually


def answers(people: People, dispatch_id: str) -> list[Document]:
    return [event for event in people.bob.client.dispatch(dispatch_id)["events"] if event["kind"] == "approval"]


def test_approvals_lists_a_waiting_call_whole_with_the_time_left(people: People) -> None:
    command = "echo " + "a" * 600
    dispatch_id, _ = people.running(bash(command))
    (row,) = people.bob.cli("approvals", "--json").json
    assert (row["dispatch_id"], row["tool"], row["input"]) == (dispatch_id, "Bash", {"command": command})
    assert row["sender_id"] == people.alice.email and 0 < row["expires_in"] <= 120
    said = people.bob.cli("approvals")
    assert command in said and f"what this returns goes to {people.alice.email}" in said


def test_approve_lets_one_call_through(people: People) -> None:
    dispatch_id, call = people.running(bash("echo a"), bash("echo b"))
    document = people.bob.cli("approve", dispatch_id, call["request_id"], "--json").json
    assert (document["decision"], document["ok"]) == ("allowed", True)
    following = people.bob.approval_of(dispatch_id)
    eventually(lambda: [row["input"]["command"] for row in people.bob.client.approvals()] == ["echo b"])
    assert following["dispatch_id"] == dispatch_id


def test_ids_of_answers_may_be_short(people: People) -> None:
    dispatch_id, call = people.running(bash("echo short"))
    people.bob.cli("approve", dispatch_id[-8:-2], call["request_id"])
    people.alice.state_of(dispatch_id, "completed")


def test_deny_lets_the_run_go_on_without_it_and_tells_the_agent_why(people: People) -> None:
    dispatch_id, call = people.running(bash("rm -r /"), {"say": "then not"})
    people.bob.cli("deny", dispatch_id, call["request_id"], "--note", "use a copy")
    people.alice.state_of(dispatch_id, "completed")
    document = people.bob.client.dispatch(dispatch_id)
    assert document["result"]["reply"] == "then not"
    assert "use a copy" in str([event for event in document["events"] if event["kind"] == "tool_result"])
    (answer,) = answers(people, dispatch_id)
    assert (answer["outcome"], answer["by"]) == ("denied", "person")


def test_session_covers_calls_like_it_until_the_run_ends(people: People) -> None:
    dispatch_id, call = people.running(bash("echo same"), bash("echo same"))
    people.bob.cli("approve", dispatch_id, call["request_id"], "--session")
    people.alice.state_of(dispatch_id, "completed")
    assert [each["outcome"] for each in answers(people, dispatch_id)] == ["allowed", "allowed"]
    assert people.bob.client.trust(people.alice.email)["rules"] == []
    again, _ = people.running(bash("echo same"))
    assert again != dispatch_id, "the next run asks again"


def test_always_stores_the_rule_it_named_and_it_can_be_taken_back(people: People) -> None:
    """A rule is as narrow as the call: to allow a whole tool unasked is a matter of the scope, not of an answer."""
    dispatch_id, call = people.running(bash("echo rule"))
    assert "--always would store: Bash(echo rule)" in people.bob.cli("approvals")
    people.bob.cli("approve", dispatch_id, call["request_id"], "--always")
    people.alice.state_of(dispatch_id, "completed")
    (rule,) = people.bob.client.trust(people.alice.email)["rules"]
    assert (rule["tool"], rule["pattern"]) == ("Bash", "echo rule")
    unasked = people.sent("Again", bash("echo rule"))
    people.bob.client.accept(unasked)
    people.alice.state_of(unasked, "completed")
    assert [each["by"] for each in answers(people, unasked)] == ["rule"]
    people.bob.cli("trust", "edit", people.alice.email, "--remove-rule", str(rule["id"]))
    assert people.bob.client.trust(people.alice.email)["rules"] == []


@pytest.mark.parametrize("number", ["9", "1000"])
def test_a_rule_that_was_not_offered_is_named_as_it_was_typed(number: str, people: People) -> None:
    dispatch_id, call = people.running(bash("echo rule"))
    error = people.bob.refused("approve", dispatch_id, call["request_id"], "--always", "--rule", number)
    assert error["code"] == 422 and f"rule {number}:" in error["message"]


def test_always_and_session_exclude_each_other(people: People) -> None:
    dispatch_id, call = people.running(bash("echo x"))
    assert people.bob.refused("approve", dispatch_id, call["request_id"], "--always", "--session")["code"] == 422


def test_an_answered_call_is_a_409_that_says_nothing_is_pending(people: People) -> None:
    dispatch_id, call = people.running(bash("echo a"))
    people.bob.cli("approve", dispatch_id, call["request_id"])
    people.alice.state_of(dispatch_id, "completed")
    error = people.bob.refused("approve", dispatch_id, call["request_id"])
    assert error["code"] == 409 and error["message"].startswith("nothing pending")


def test_an_auto_edge_runs_without_questions_inside_its_scope(people: People) -> None:
    people.bob.client.edit_trust(people.alice.email, {"approval": "auto", "tools": "Read,Bash"})
    dispatch_id = people.sent(
        "Unasked", bash("echo free"), {"tool": "Write", "input": {"file_path": "x", "content": ""}}
    )
    people.bob.client.accept(dispatch_id)
    people.alice.state_of(dispatch_id, "completed")
    assert [each["by"] for each in answers(people, dispatch_id)] != ["person"]
    ok = {event["ok"] for event in people.bob.client.dispatch(dispatch_id)["events"] if event["kind"] == "tool_result"}
    assert ok == {True, False}, "Bash ran, and Write is not in the scope"


def test_a_call_outside_the_scope_is_denied_without_a_question(people: People) -> None:
    people.bob.client.edit_trust(people.alice.email, {"tools": "Read"})
    dispatch_id = people.sent("Beyond", bash("id"))
    people.bob.client.accept(dispatch_id)
    people.alice.state_of(dispatch_id, "completed")
    events = people.bob.client.dispatch(dispatch_id)["events"]
    assert [event["ok"] for event in events if event["kind"] == "tool_result"] == [False]
    assert people.bob.client.approvals() == []


def test_a_write_is_shown_as_a_difference(people: People) -> None:
    write = {"tool": "Write", "input": {"file_path": "/dispatch/out/a.txt", "content": "new line\n"}}
    people.running(write)
    (row,) = people.bob.cli("approvals", "--json").json
    assert "+new line" in row["diff"] and row["resolved_path"]


def test_five_denials_in_a_row_end_the_run(people: People) -> None:
    dispatch_id = people.sent("Stubborn", *(bash(f"echo {number}") for number in range(6)))
    people.bob.client.accept(dispatch_id)
    for number in range(5):
        command = f"echo {number}"

        def waiting(command: str = command) -> Document | None:
            return next((row for row in people.bob.client.approvals() if row["input"]["command"] == command), None)

        people.bob.client.deny(dispatch_id, eventually(waiting, what=command)["request_id"])
    people.alice.state_of(dispatch_id, "failed")


def test_the_session_lists_calls_of_runs_that_were_accepted_elsewhere(people: People, bob_host: Host) -> None:
    dispatch_id, call = people.running(bash("echo elsewhere"))
    (row,) = bob_host.ok("dispatch_pending_approvals")["approvals"]
    assert (row["request_id"], row["input"]) == (call["request_id"], {"command": "echo elsewhere"})
    bob_host.ok("dispatch_approve", dispatch_id=dispatch_id, request_id=call["request_id"], decision="deny")
    people.alice.state_of(dispatch_id, "completed")
