"""Tool calls that wait for a person, through the API and the command line: asked, answered, remembered, forgotten."""

from __future__ import annotations

import signal

import pytest

from peer.dispatches import asking
from peer.protocol.errors import Conflict, Invalid
from tests.conftest import more
from tests.system.world import Document, Person, all_gone, descendants

Pair = tuple[Person, Person]


def bash(command: str) -> Document:
    return {"tool": "Bash", "input": {"command": command}}


def dispatched(pair: Pair, *steps: Document) -> str:
    alice, bob = pair
    bob.will(*steps)
    dispatch_id = str(alice.client.send(bob.email, "Look into it")["dispatch_id"])
    alice.state_of(dispatch_id, "pending")
    bob.client.accept(dispatch_id)
    return dispatch_id


@pytest.mark.long
def test_always_stores_the_rule_that_was_picked_and_it_can_be_removed(pair: Pair) -> None:
    alice, bob = pair
    first = dispatched(pair, bash("echo one two"), bash("echo three"), bash("echo four; id"))
    call = bob.approval_of(first)
    assert (call["sender_id"], call["sandbox"]) == (alice.email, "full")
    assert [rule["pattern"] for rule in call["rule_choices"]] == ["echo one two", "echo one two", "echo one", "echo"]
    for wrong in (4, -1):
        with pytest.raises(Invalid):
            bob.client.approve(first, call["request_id"], grant="always", rule=wrong)
    with pytest.raises(Invalid):
        bob.client.approve(first, call["request_id"], grant="once", rule=0)
    listed = bob.cli("approvals")
    assert "--always --rule 4 would store: Bash(echo), or with more words after it" in listed
    bob.cli("approve", first, call["request_id"], "--always", "--rule", "4")
    with pytest.raises(Conflict):
        bob.client.approve(first, call["request_id"])
    # `echo three` went through by the rule; a second command on the line is not what was agreed to.
    call = bob.approval_of(first)
    assert call["input"]["command"] == "echo four; id"
    bob.client.approve(first, call["request_id"])
    alice.state_of(first, "completed")

    (rule,) = bob.client.trust(alice.email)["rules"]
    assert (rule["tool"], rule["pattern"], rule["reach"]) == ("Bash", "echo", "prefix")
    assert "Bash(echo), or with more words after it" in bob.cli("trust", "show", alice.email)
    second = dispatched(pair, bash("echo five"))
    alice.state_of(second, "completed")
    assert [event["by"] for event in _approvals(bob, second)] == ["rule"]

    bob.cli("trust", "edit", alice.email, "--remove-rule", str(rule["id"]))
    assert bob.client.trust(alice.email)["rules"] == []
    third = dispatched(pair, bash("echo five"))
    call = bob.approval_of(third)
    bob.client.approve(third, call["request_id"])
    alice.state_of(third, "completed")


def test_a_rule_that_is_removed_ends_in_the_run_that_goes_on(pair: Pair) -> None:
    """Seen to fail with a node that allows what the run's own copy of the rules covers."""
    alice, bob = pair
    going = dispatched(pair, bash("echo one"), bash("echo one"), bash("id"), bash("echo one"), bash("echo one"))
    bob.client.approve(going, bob.approval_of(going)["request_id"], grant="always")
    other = bob.approval_of(going)  # by now the rule has let one through
    assert other["input"]["command"] == "id"
    (rule,) = bob.client.trust(alice.email)["rules"]
    bob.cli("trust", "edit", alice.email, "--remove-rule", str(rule["id"]))
    bob.client.approve(going, other["request_id"])
    again = bob.approval_of(going)
    assert again["input"]["command"] == "echo one" and again["rule_choices"], "it may be stored once more"
    bob.client.approve(going, again["request_id"], grant="session")
    alice.state_of(going, "completed")
    assert [event["by"] for event in _approvals(bob, going)] == ["person", "rule", "person", "person", "session"]


@pytest.mark.parametrize(
    "padding",
    [*more("\n" * 600, " " * 600), "\u3164" * 600, *more("\r", "\u2800", "x" * 100_000)],
    ids=["lines", "blanks", "fillers", "return", "braille", "long"],
)
def test_what_hides_in_a_call_is_marked_and_shown(pair: Pair, padding: str) -> None:
    """A second command behind six hundred line ends, blanks or fillers is in sight, and the call is marked."""
    _, bob = pair
    dispatch_id = dispatched(pair, bash(f"ls #{padding}rm -rf build"))
    call = bob.approval_of(dispatch_id)
    assert (asking.HIDES in (call["unusual"] or [])) is not padding.startswith("x")
    assert call["input"]["command"] == f"ls #{padding}rm -rf build", "documents have it as it is"
    shown = bob.cli("approvals")
    assert "rm -rf build" in shown and len(shown) < 6_000 and len(shown.splitlines()) < 30
    assert (f"look twice: {asking.HIDES}" in shown) is not padding.startswith("x")
    assert ("characters left out here" in shown) is padding.startswith("x")
    bob.client.deny(dispatch_id, call["request_id"])
    bob.state_of(dispatch_id, "completed")


@pytest.mark.parametrize("allowed", [False, True])
def test_the_result_says_what_was_done_whatever_the_agent_claims(pair: Pair, allowed: bool) -> None:
    """All calls denied, and the agent says that it changed twelve files."""
    alice, bob = pair
    folder = bob.home / f"counted-{allowed}"
    folder.mkdir()
    (folder / "old").write_text("before")
    bob.client.edit_trust(alice.email, {"paths": [str(folder)], "tools": "Read,Write,Bash"})
    claim = "All 99 calls were allowed; 12 files changed."
    bob.will(
        {"tool": "Write", "input": {"file_path": "old", "content": "after"}},
        {"tool": "Write", "input": {"file_path": "new", "content": "x"}},
        {"tool": "Read", "input": {"file_path": "/etc/passwd"}},
        {"say": claim},
    )
    dispatch_id = str(alice.client.send(bob.email, "Look into it")["dispatch_id"])
    alice.state_of(dispatch_id, "pending")
    bob.client.accept(dispatch_id, cwd=str(folder))
    for _ in range(2):
        call = bob.approval_of(dispatch_id)
        answer = bob.client.approve if allowed else bob.client.deny
        answer(dispatch_id, call["request_id"])
    expected = {"calls_allowed": 2, "calls_denied": 1, "files_changed": 2}
    words = "2 calls allowed, 1 denied; 2 files changed"
    if not allowed:
        expected, words = (
            {"calls_allowed": 0, "calls_denied": 3, "files_changed": 0},
            "0 calls allowed, 3 denied; 0 files changed",
        )
    for person in (alice, bob):
        person.state_of(dispatch_id, "completed")
        result = person.client.dispatch(dispatch_id)["result"]
        assert (result["reply"], result["counts"]) == (claim, expected)
        assert set(result["usage"]) >= {"turns", "seconds"} and not set(result["usage"]) & set(expected)
        shown = person.cli("status", dispatch_id)
        assert f"counted by the machine that ran it: {words}" in shown
        assert shown.index(words) < shown.rindex(claim)


def test_a_question_outlives_whoever_was_asked_and_its_note_reaches_the_agent(pair: Pair) -> None:
    alice, bob = pair
    dispatch_id = dispatched(pair, bash("make it"))
    events = bob.client.events(dispatch_id)
    asked = next(event.data for event in events if event.kind == "approval")
    del events
    # That client is gone. The call still waits, for any other.
    (waiting,) = bob.cli("approvals", "--json").json
    assert waiting["request_id"] == asked["request_id"]
    bob.cli("deny", dispatch_id, asked["request_id"], "--note", "use the copy in tests/")
    alice.state_of(dispatch_id, "completed")
    trace = bob.client.dispatch(dispatch_id)["events"]
    (told,) = [event["output"] for event in trace if event["kind"] == "tool_result"]
    assert "use the copy in tests/" in told
    (answer,) = _approvals(bob, dispatch_id)
    assert (answer["outcome"], answer["by"], answer["note"]) == ("denied", "person", "use the copy in tests/")


def _approvals(person: Person, dispatch_id: str) -> list[Document]:
    return [event for event in person.client.dispatch(dispatch_id)["events"] if event["kind"] == "approval"]


@pytest.mark.parametrize("ended_by", [*more("decline", "stop"), "kill"])
def test_a_run_that_ends_at_a_question_leaves_no_process(pair: Pair, ended_by: str) -> None:
    alice, bob = pair
    dispatch_id = dispatched(pair, bash("setsid sleep 300 >/dev/null 2>&1 & echo gone"), bash("id"))
    first = bob.approval_of(dispatch_id)
    bob.client.approve(dispatch_id, first["request_id"])
    second = bob.approval_of(dispatch_id)
    assert second["input"]["command"] == "id" and bob.program is not None
    running = descendants(bob.program.pid)
    assert any("sleep 300" in line for line in running.values())
    broker = bob.broker.program
    assert broker is not None
    broker.freeze()
    try:
        if ended_by == "decline":
            bob.client.deny(dispatch_id, second["request_id"], decline_dispatch=True)
        else:
            # Told, not waited for: a daemon may take its time to say goodbye to its broker, its runs may not.
            bob.program.process.send_signal(signal.SIGTERM if ended_by == "stop" else signal.SIGKILL)
        assert all_gone(list(running)), descendants(bob.program.pid)
        if ended_by == "stop":
            assert bob.up, "its runs end before it has said goodbye to the broker"
    finally:
        broker.thaw()
    if ended_by == "decline":
        assert alice.state_of(dispatch_id, "declined")["status"] == "declined"
        return
    bob.stop()
    bob.start()
    alice.state_of(dispatch_id, "pending")
    assert bob.client.approvals() == [], "what a dead run asked is nobody's to answer"
    bob.client.decline(dispatch_id)
