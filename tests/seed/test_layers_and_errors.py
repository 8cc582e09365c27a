"""The layers that hold without each other, and the errors that people and agents meet, with what helps."""

from __future__ import annotations

import json
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from peer.client.blocking import find_daemon
from tests.seed.conftest import People, Scene, bash
from tests.system.world import Document


def api(people: People, path: str, *, token: str | None, method: str = "GET", body: Document | None = None) -> int:
    """Call Bob's loopback API by hand; return the HTTP status."""
    port, _ = find_daemon(people.bob.state)
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(Request(f"http://127.0.0.1:{port}{path}", data, headers, method=method)) as answer:
            return int(answer.status)
    except HTTPError as error:
        with error:
            return int(error.code)


def test_the_edge_is_the_first_layer(people: People) -> None:
    assert people.carol.refused("send", people.bob.email, "x")["code"] == 403


def test_the_signature_is_the_second_layer(done: Scene) -> None:
    """Signed by the sender's device: who it was can be checked by anybody, without a server."""
    done.people.alice.cli("receipt", done.short, "--out", "layers.receipt")
    try:
        proven = done.people.dora.cli("verify-receipt", str(done.people.alice.home / "layers.receipt"), "--json").json
        assert proven["sender"]["user_id"] == done.people.alice.email
    finally:
        (done.people.alice.home / "layers.receipt").unlink()


def test_the_approval_is_the_third_layer(people: People) -> None:
    _, call = people.running(bash("echo asked"))
    assert call["tool"] == "Bash"


def test_approvals_are_resolved_on_the_recipients_machine_alone(people: People) -> None:
    """There is no way to relay a decision: the sender's own daemon does not know the call."""
    dispatch_id, call = people.running(bash("echo mine"))
    assert people.alice.refused("approve", dispatch_id, call["request_id"])["code"] in (404, 409)
    assert people.alice.cli("approvals", "--json").json == []


def test_the_local_api_takes_the_local_token_alone(people: People) -> None:
    _, token = find_daemon(people.bob.state)
    assert api(people, "/v1/approvals", token=token) == 200
    assert api(people, "/v1/approvals", token=None) == 401
    assert api(people, "/v1/approvals", token="guessed") == 401


def test_the_page_is_served_on_loopback_for_the_person_at_the_machine(people: People) -> None:
    assert api(people, "/", token=None) == 200
    assert api(people, "/v1/dispatches", token=None) == 401, "it shows nothing until it is signed in"


def test_open_signs_the_page_in(people: People) -> None:
    assert people.bob.cli("open", "--json").json


def test_the_sender_cannot_accept_for_the_recipient(people: People) -> None:
    dispatch_id = people.sent("Accept yourself")
    assert people.alice.refused("accept", dispatch_id)["code"] == 404
    assert people.bob.client.dispatch(dispatch_id)["status"] == "pending"


def test_nothing_is_accepted_automatically(people: People) -> None:
    """Not even on an edge whose calls run unasked."""
    people.bob.client.edit_trust(people.alice.email, {"approval": "auto"})
    dispatch_id = people.sent("Auto?")
    assert people.bob.client.dispatch(dispatch_id)["status"] == "pending"


@pytest.mark.parametrize(
    ("who", "arguments", "code", "message", "fix"),
    [
        ("carol", ["send", "bob@example.org", "x"], 403, "", "dispatch invite"),
        ("dora", ["send", "bob@example.org", "x"], 503, "no local daemon token", "dispatch-daemon"),
        ("dora", ["accept", "0192f0c1-7a3b-7c44-9d2e-5b6a7c8d9e0f"], 503, "", "dispatch-daemon"),
        ("bob", ["accept", "0192f0c1-7a3b-7c44-9d2e-5b6a7c8d9e0f"], 404, "no dispatch", ""),
        ("bob", ["approve", "0192f0c1-7a3b-7c44-9d2e-5b6a7c8d9e0f", "1"], 409, "nothing pending", ""),
        ("alice", ["send", "bob@example.org", " "], 422, "empty", ""),
        ("alice", ["send", "bobby", "x"], 404, "bobby", "dispatch contacts"),
        ("alice", ["config", "set", "prot", "1"], 422, "prot", "port"),
    ],
)
def test_an_error_says_what_happened_and_what_helps(
    who: str, arguments: list[str], code: int, message: str, fix: str, people: People
) -> None:
    person = getattr(people, who)
    arguments = [people.bob.email if each == "bob@example.org" else each for each in arguments]
    error = person.refused(*arguments)
    assert error["code"] == code and message in error["message"] and fix in error["fix"] and error["fix"]


def test_a_daemon_that_went_away_is_a_503_with_its_port(people: People) -> None:
    people.bob.stop()
    try:
        error = people.bob.refused("approvals")
    finally:
        people.bob.start()
    assert error["code"] == 503 and error["fix"] == "start it: `dispatch-daemon`"


def test_a_broker_that_is_not_there_is_a_503_and_known_contacts_keep_working(people: People) -> None:
    people.world.broker.stop()
    try:
        error = people.alice.refused("invite", "new@example.org")
        assert error["code"] == 503 and "can't reach broker" in error["message"] and "dispatch whoami" in error["fix"]
        people.sent("Still works")
    finally:
        people.world.broker.start()


def test_doctor_says_what_is_broken_and_how_to_mend_it(people: People) -> None:
    checks = people.dora.cli("doctor", "--json", status=1).json["checks"]
    (daemon,) = [check for check in checks if check["name"] == "daemon"]
    assert not daemon["ok"] and "dispatch-daemon" in daemon["fix"]
