"""The whole story with real processes: the broker, two daemons, two command lines, one confined run."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from peer.protocol.errors import DispatchError
from tests.conftest import more
from tests.system.world import (
    Document,
    Person,
    World,
    all_gone,
    connect,
    connected,
    descendants,
    eventually,
)

Pair = tuple[Person, Person]
Strangers = tuple[Person, Person]


@pytest.fixture(scope="module")
def strangers(world: World) -> Strangers:
    """(carol, dave), who do not know each other at first; the tests below go on from one another's end."""
    carol, dave = world.people_named("carol", "dave")
    return carol, dave


def test_from_invitation_to_fetched_result(strangers: Strangers, tmp_path: Path) -> None:
    carol, dave = strangers
    project = dave.projects / "shop"
    project.mkdir()
    (project / "cart.py").write_text("total = price * count - 1\n")
    dave.will(
        {"say": "Looking at the cart."},
        {"tool": "Read", "input": {"file_path": "cart.py"}},
        {"tool": "Bash", "input": {"command": "rm -rf ."}},
        {"tool": "Write", "input": {"file_path": "/dispatch/out/answer.txt", "content": "off by one\n"}},
        {"say": "It is off by one."},
    )

    # Nobody may dispatch yet: said at once, nothing queued.
    error = carol.refused("send", dave.email, "Find the bug")
    assert error["code"] == 403 and error["fix"] == f"invite them: `dispatch invite {dave.email}`"
    assert carol.cli("sent", "--json").json["dispatches"] == []

    invited = carol.cli("invite", dave.email, "--json").json
    assert invited["to"] == dave.email and invited["emailed"] is False
    # Without tools: the menu, and nothing happens.
    menu = dave.cli("accept-invitation", invited["link"], "--json", status=2).json
    assert menu["status"] == "scope_choice_required" and menu["inviter"] == carol.email
    assert dave.cli("contacts", "--json").json["trust"] == []
    granted = dave.cli(
        "accept-invitation",
        "-",
        "--tools",
        "Read,Glob,Grep,Write",
        "--paths",
        str(dave.projects),
        "--json",
        stdin=invited["link"],
    ).json
    assert granted["scopes"]["approval"] == "manual"
    edge = connected(carol, dave)
    assert edge["trust_link_id"] == granted["trust_link_id"] and edge["verified"] is True
    for person, direction in ((carol, "outgoing"), (dave, "incoming")):
        (row,) = person.cli("contacts", "--json").json["trust"]
        assert (row["direction"], row["status"], row["peer_online"]) == (direction, "active", True)
        assert sorted(row["scopes"]["tools"]) == ["Glob", "Grep", "Read", "Write"]

    notes = tmp_path / "notes.txt"
    notes.write_text("customers complain\n")
    sent = carol.cli(
        "send", dave.email, "Find the bug in the cart", "--file", str(notes), "--meta", "ticket=7", "--json"
    ).json
    assert sent["status"] == "queued" and sent["peer_online"] is True
    dispatch_id = sent["dispatch_id"]
    carol.state_of(dispatch_id, "pending")
    (row,) = dave.cli("inbox", "--json").json["dispatches"]
    assert (row["dispatch_id"], row["status"], row["sender_id"]) == (dispatch_id, "pending", carol.email)
    accepted = dave.cli("--json", "accept", dispatch_id[-8:], "--cwd", str(project)).json
    assert accepted["ok"] and accepted["approval"] == "manual" and accepted["cwd"] == str(project)

    call = dave.approval_of(dispatch_id)
    assert call["tool"] == "Read" and call["sender_id"] == carol.email
    assert [row["request_id"] for row in dave.cli("approvals", "--json").json] == [call["request_id"]]
    assert dave.cli("approve", dispatch_id[-8:], call["request_id"], "--json").json["ok"] is True
    # Bash is out of scope: denied without asking anybody; the next question is the write.
    call = dave.approval_of(dispatch_id)
    assert call["tool"] == "Write"
    dave.cli("approve", dispatch_id, call["request_id"])

    carol.state_of(dispatch_id, "completed")
    shown = carol.cli("status", dispatch_id[-8:], "--json").json
    assert shown["result"]["reply"] == "It is off by one."
    assert [item["name"] for item in shown["result"]["files"]] == ["answer.txt"]
    # Signed by Dave's device, and what his machine says of itself: how his run was confined.
    assert shown["result"]["sandbox"]["tier"] == dave.client.whoami()["sandbox"]["tier"] == "full"
    canaries = shown["result"]["sandbox"]["canaries"]
    assert canaries["tried"] > 40 and canaries["failed"] == []
    denied = [event for event in shown["events"] if event["kind"] == "approval" and event["outcome"] == "denied"]
    assert [event["by"] for event in denied] == ["scope"]
    kinds = [event["kind"] for event in shown["events"]]
    assert kinds == [event["kind"] for event in dave.client.dispatch(dispatch_id)["events"]]
    carol.cli("fetch", dispatch_id, "--to", str(tmp_path / "back"))
    assert (tmp_path / "back" / "answer.txt").read_text() == "off by one\n"
    # Nothing of the run is left, and what was attached was only ever in its own workspace.
    assert dave.run_folders() == []
    assert sorted(path.name for path in project.iterdir()) == ["cart.py"]


def test_recipient_off_at_send_sender_off_at_result(pair: Pair, tmp_path: Path) -> None:
    alice, bob = pair
    bob.stop()
    twins = [tmp_path / "one.txt", tmp_path / "two.txt"]
    for file in twins:
        file.write_text("the same words\n")
    sent = alice.client.send(bob.email, "Read both", files=[str(file) for file in twins])
    lost = alice.client.send(bob.email, "Read this", files=[str(_written(tmp_path / "lost.txt", "gone soon\n"))])
    assert (sent["status"], sent["peer_online"]) == ("queued", False)
    # The disk loses a file before it is fetched: that dispatch ends, with the reason, and only that one.
    digest = alice.client.dispatch(lost["dispatch_id"])["files"][0]["sha256"]
    (alice.state.blobs / digest[:2] / digest).unlink()
    bob.will(
        {"tool": "Read", "input": {"file_path": "in/one.txt"}},
        {"tool": "Write", "input": {"file_path": "out/reply.txt", "content": "read\n"}},
    )
    bob.start()
    # Two files with the same bytes are fetched at once, not one half a minute after the other.
    alice.state_of(sent["dispatch_id"], "pending")
    ended = alice.state_of(lost["dispatch_id"], "rejected")
    assert "lost.txt" in ended["message"] and ended["code"] in (404, 422), ended

    bob.client.accept(sent["dispatch_id"])
    first = bob.approval_of(sent["dispatch_id"])
    alice.stop()
    bob.client.approve(sent["dispatch_id"], first["request_id"], grant="session")
    second = bob.approval_of(sent["dispatch_id"])
    bob.client.approve(sent["dispatch_id"], second["request_id"])
    bob.state_of(sent["dispatch_id"], "completed")
    alice.start()
    alice.state_of(sent["dispatch_id"], "completed")
    eventually(lambda: all(file["ready"] for file in alice.client.dispatch(sent["dispatch_id"])["result"]["files"]))
    alice.cli("fetch", sent["dispatch_id"], "--to", str(tmp_path / "back"))
    assert (tmp_path / "back" / "reply.txt").read_text() == "read\n"


def test_contacts_do_without_the_broker(pair: Pair, world: World) -> None:
    alice, bob = pair
    # She may have called him: he remembers all the same where she listens.
    address = alice.client.whoami()["daemon"]["addresses"][0].partition("/p2p/")[0]
    eventually(lambda: any(address in row[0] for row in bob.rows("SELECT addresses FROM contact_devices")))
    world.broker.stop()
    try:
        bob.restart()  # on another port: he finds Alice where he last saw her
        bob.will({"say": "still here"})
        sent = alice.client.send(bob.email, "Are you there?")
        alice.state_of(sent["dispatch_id"], "pending")
        bob.client.accept(sent["dispatch_id"])
        alice.state_of(sent["dispatch_id"], "completed")
        error = alice.refused("invite", "grace@example.org")
        assert error["code"] == 503 and world.broker.url in error["message"] and error["fix"]
        # Nothing half done: no invitation is open here that the broker never heard of.
        assert "grace@example.org" not in [row["to"] for row in alice.client.invitations()["sent"]]
    finally:
        world.broker.start()


@pytest.mark.parametrize("ended_by", [*more("sender", "recipient"), "revocation"])
def test_ending_a_run_leaves_no_process(pair: Pair, ended_by: str) -> None:
    alice, bob = pair
    bob.client.edit_trust(alice.email, {"approval": "auto"})
    # Many events on the way: the end must cross them, in the store and on the wire.
    chatter = [{"say": f"line {n}"} for n in range(50)]
    bob.will(*chatter, {"tool": "Bash", "input": {"command": "sleep 300 & sleep 300"}})
    dispatch_id = alice.client.send(bob.email, "Sleep well")["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    bob.client.accept(dispatch_id)
    assert bob.program is not None
    daemon = bob.program.pid
    eventually(
        lambda: sum("sleep 300" in line for line in descendants(daemon).values()) >= 2, what="the run's processes"
    )
    running = list(descendants(daemon))
    if ended_by == "sender":
        alice.client.cancel(dispatch_id, reason="changed my mind")
    elif ended_by == "recipient":
        bob.client.cancel(dispatch_id)
    else:
        bob.client.revoke_trust(alice.email)
    assert all_gone(running), {pid: line for pid, line in descendants(daemon).items() if pid in running}
    bob.state_of(dispatch_id, "cancelled")
    ended = alice.state_of(dispatch_id, "cancelled")
    if ended_by == "sender":
        assert bob.client.dispatch(dispatch_id)["message"] == f"{alice.email} says: “changed my mind”"
    if ended_by == "revocation":
        assert ended["code"] == 403 and "revoked" in ended["message"]
        error = eventually(lambda: _refusal(alice, "send", bob.email, "Again"), what="the news of the revocation")
        assert error["code"] == 403 and error["fix"] == f"invite them: `dispatch invite {bob.email}`"
    eventually(lambda: not bob.run_folders(), what="the run's folder removed")


def test_ends_that_cross_a_stream_of_events(pair: Pair) -> None:
    alice, bob = pair
    bob.client.edit_trust(alice.email, {"approval": "auto"})
    bob.will(*({"say": f"line {n} of very many"} for n in range(3000)))
    for number in range(4):
        dispatch_id = alice.client.send(bob.email, f"Chatter {number}")["dispatch_id"]
        alice.state_of(dispatch_id, "pending")
        bob.client.accept(dispatch_id)
        bob.event_of(dispatch_id, lambda event: event["kind"] == "reasoning")
        (alice if number % 2 else bob).client.cancel(dispatch_id)
        assert bob.state_of(dispatch_id, "cancelled", "completed")
        assert alice.state_of(dispatch_id, "cancelled", "completed")
    assert bob.up, bob.program and bob.program.errors()


def test_a_run_that_cannot_begin_says_why(pair: Pair) -> None:
    alice, bob = pair
    (bob.home / "script.json").unlink()
    dispatch_id = alice.client.send(bob.email, "Try")["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    bob.client.accept(dispatch_id)
    assert "the script cannot be used" in bob.state_of(dispatch_id, "failed")["message"]
    ended = alice.state_of(dispatch_id, "failed")
    assert ended["code"] == 422 and bob.up
    eventually(lambda: not bob.run_folders(), what="the run's folder removed")


@pytest.mark.long
def test_always_is_a_rule_and_declining_at_an_approval_ends_the_run(pair: Pair) -> None:
    alice, bob = pair
    bob.will({"tool": "Bash", "input": {"command": "echo one"}}, {"tool": "Bash", "input": {"command": "echo two"}})
    for number in range(2):
        dispatch_id = alice.client.send(bob.email, f"Round {number}")["dispatch_id"]
        alice.state_of(dispatch_id, "pending")
        bob.client.accept(dispatch_id)
        call = bob.approval_of(dispatch_id)
        if number == 0:
            assert call["input"] == {"command": "echo one"} and call["rule_if_always"]
            bob.cli("approve", dispatch_id, call["request_id"], "--always")
            call = bob.event_of(dispatch_id, lambda event: "echo two" in str(event.get("input")))
            call = eventually(bob.client.approvals)[0]
        # The second time only the call without a rule is asked about.
        assert call["input"] == {"command": "echo two"}
        bob.client.deny(dispatch_id, call["request_id"], decline_dispatch=True)
        assert alice.state_of(dispatch_id, "declined") and bob.state_of(dispatch_id, "declined")
        error = bob.refused("approve", dispatch_id, call["request_id"])
        assert error["code"] == 409 and error["message"].startswith("nothing pending")
    assert len(bob.client.trust(alice.email)["rules"]) == 1


def test_a_cancel_right_behind_the_accept_ends_the_run(pair: Pair) -> None:
    alice, bob = pair
    bob.client.edit_trust(alice.email, {"approval": "auto"})
    bob.will({"tool": "Bash", "input": {"command": "sleep 300"}})
    assert bob.program is not None
    sent = [alice.client.send(bob.email, f"Race {n}")["dispatch_id"] for n in range(6)]
    for dispatch_id in sent:
        alice.state_of(dispatch_id, "pending")
    for dispatch_id in sent:
        with ThreadPoolExecutor(3) as pool:
            accepts = [pool.submit(_code, bob.client.accept, dispatch_id) for _ in range(2)]
            cancel = pool.submit(_code, bob.client.cancel, dispatch_id)
        # Two accepts are one run; whoever came after the cancel hears that nothing is pending.
        assert sorted(accept.result() for accept in accepts)[-1] == 409 and cancel.result() == 200
        assert bob.state_of(dispatch_id, "cancelled")["attempt"] <= 1
    daemon = bob.program.pid
    eventually(lambda: not descendants(daemon), what="no process of any run")
    assert bob.up


def test_revoked_while_the_daemon_is_down(pair: Pair) -> None:
    alice, bob = pair
    waiting = alice.client.send(bob.email, "Waits in the inbox")["dispatch_id"]
    alice.state_of(waiting, "pending")
    bob.stop()
    late = alice.client.send(bob.email, "Comes after the end")["dispatch_id"]
    said = bob.cli("trust", "revoke", alice.email, "--json").json
    assert said["status"] == "revoked"
    assert next(row["status"] for row in bob.cli("inbox", "--json").json["dispatches"]) == "cancelled"
    bob.start()
    assert alice.state_of(late, "rejected")["code"] == 403
    assert alice.state_of(waiting, "cancelled")["code"] == 403
    assert bob.rows("SELECT count(*) FROM dispatches WHERE dispatch_id = ?", late) == [(0,)]


def test_pause_resume_and_rate(pair: Pair) -> None:
    alice, bob = pair
    bob.cli("trust", "pause", alice.email)
    eventually(lambda: (alice.edge(bob, "outgoing") or {})["status"] == "paused")
    assert alice.refused("send", bob.email, "Now?")["code"] == 403
    bob.cli("trust", "resume", alice.email)
    eventually(lambda: (alice.edge(bob, "outgoing") or {})["status"] == "active")
    alice.state_of(alice.client.send(bob.email, "Now!")["dispatch_id"], "pending")
    bob.cli("trust", "edit", alice.email, "--max-per-day", "1")
    over = alice.state_of(alice.client.send(bob.email, "One too many")["dispatch_id"], "rejected")
    assert over["code"] == 429 and over["message"] and over["fix"]


@pytest.mark.long
def test_redacted_results_keep_inputs_and_outputs_here(pair: Pair) -> None:
    alice, bob = pair
    bob.client.edit_trust(alice.email, {"results": "redacted", "approval": "auto"})
    bob.will({"tool": "Bash", "input": {"command": "echo very-private"}}, {"say": "done"})
    dispatch_id = alice.client.send(bob.email, "Look")["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    bob.client.accept(dispatch_id)
    alice.state_of(dispatch_id, "completed")
    assert "very-private" not in json.dumps(alice.client.dispatch(dispatch_id))


def test_invitations_taken_back_declined_and_answered_while_one_side_is_off(world: World, strangers: Strangers) -> None:
    carol, dave = strangers
    withdrawn = dave.client.invite(carol.email)
    dave.cli("invitations", "withdraw", withdrawn["token"])
    eventually(lambda: dave.count("broker_outbox") == 0, what="the broker's knowledge of it")
    error = eventually(lambda: _refusal(carol, "accept-invitation", withdrawn["link"], "--tools", "Read"))
    assert error["code"] in (409, 410) and error["fix"], error
    crossed = dave.client.invite(carol.email)
    assert _knows(carol, crossed)
    assert dave.program is not None
    dave.program.freeze()  # he takes back what she has accepted, and neither knows of the other
    carol.client.accept_invitation(crossed["link"], {"tools": "Read"})
    eventually(lambda: not carol.rows("SELECT 1 FROM broker_outbox"), what="the answer at the broker")
    with ThreadPoolExecutor(1) as other:
        refusal = other.submit(dave.refused, "invitations", "withdraw", crossed["token"])
        dave.program.thaw()
        assert refusal.result()["code"] == 409
    for person, peer, direction in ((dave, carol, "outgoing"), (carol, dave, "incoming")):
        eventually(partial(_in_force, person, peer, direction), what=direction)
    carol.cli("trust", "revoke", dave.email)
    eventually(lambda: (dave.edge(carol, "outgoing") or {})["status"] == "revoked")

    declined = dave.client.invite(carol.email)
    assert _knows(carol, declined)
    carol.cli("decline-invitation", declined["token"])
    eventually(lambda: _status(dave, declined) == "declined", what="the news of the decline")
    for person, peer, direction in ((dave, carol, "outgoing"), (carol, dave, "incoming")):
        assert (person.edge(peer, direction) or {})["status"] == "revoked"  # no other came of it

    # The inviter is off when it is accepted; the acceptor is off when that is confirmed.
    invited = dave.client.invite(carol.email)
    dave.stop()
    carol.client.accept_invitation(invited["link"], {"tools": "Read"})
    eventually(lambda: not carol.rows("SELECT 1 FROM broker_outbox"), what="the answer at the broker")
    carol.stop()
    dave.start()
    eventually(lambda: (dave.edge(carol, "outgoing") or {}).get("status") == "active", what="the edge at the inviter")
    early = dave.client.send(carol.email, "Before you confirmed")["dispatch_id"]
    carol.start()
    connected(dave, carol)
    dave.state_of(early, "pending")


def test_blocked(strangers: Strangers) -> None:
    carol, dave = strangers
    assert carol.edge(dave, "outgoing") or connect(carol, dave)
    dispatch_id = carol.client.send(dave.email, "Please")["dispatch_id"]
    carol.state_of(dispatch_id, "pending")
    dave.cli("block", carol.email)
    assert dave.state_of(dispatch_id, "cancelled")["code"] == 403
    # She hears of both, and then nothing more.
    assert carol.state_of(dispatch_id, "cancelled")["code"] == 403
    eventually(lambda: (carol.edge(dave, "outgoing") or {})["status"] == "revoked", what="the word of the revocation")
    eventually(lambda: not (carol.edge(dave, "outgoing") or {})["peer_online"], what="the connection to end")
    error = carol.refused("send", dave.email, "Are you there?")
    assert error["code"] == 403 and error["fix"]


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _code(act: Callable[[str], object], dispatch_id: str) -> int:
    try:
        act(dispatch_id)
    except DispatchError as error:
        return error.code
    return 200


def _refusal(person: Person, *arguments: str) -> Document | None:
    """The error of a command that may still succeed; None then."""
    return person.cli(*arguments, "--json", status=None).json.get("error")


def _knows(person: Person, invited: Document) -> bool:
    """Wait until the broker has told of an invitation."""
    received = person.client.invitations
    return bool(eventually(lambda: invited["token"] in [row["token"] for row in received()["received"]]))


def _status(person: Person, invited: Document) -> str:
    (row,) = [row for row in person.client.invitations(ended=True)["sent"] if row["token"] == invited["token"]]
    return str(row["status"])


def _in_force(person: Person, peer: Person, direction: str) -> bool:
    return (person.edge(peer, direction) or {}).get("status") == "active"
