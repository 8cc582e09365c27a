"""What a run returned on a `review` edge: nothing of it leaves before its person sends it, and then it is all there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from peer.dispatches.lifecycle import State
from peer.dispatches.retention import Rules
from peer.node.notifications import notifications_for
from peer.protocol.content import FileRef
from peer.protocol.errors import Conflict, Invalid, NotFound
from peer.protocol.outcomes import PARTS, Part
from peer.steps import granting, receiving, releasing, running, sending, thinning
from peer.steps.effects import StopRun
from peer.store import dispatches, outbox, rows, trace, unreleased, views
from peer.store.receipts import gather
from peer.store.unreleased import RunResult
from peer.trust import receipts
from peer.trust.scopes import Scope
from tests.steps.people import Person, accept, connect, people, send

SECRET = "the-colour-of-the-door"
EVENT = json.dumps({"kind": "reasoning", "text": f"I saw {SECRET}"})
FILE = FileRef(f"{SECRET}.txt", 5, bytes(range(32)))
RESULT = RunResult(
    status="completed",
    reply=f"it is {SECRET}",
    reason=f"one file was not returned: {SECRET}",
    own_reason=f"one file was not returned: /home/bob/{SECRET}",
    usage={"turns": 2, "calls_allowed": 1, "calls_denied": 0, "files_changed": 1},
    sandbox='{"tier":"bubblewrap"}',
)
Pair = tuple[Person, Person]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with people(tmp_path, "alice", "bob") as (_, alice, bob):
        connect(alice, bob, Scope(tools=("Read", "Glob", "Grep"), approval="review"))
        yield alice, bob


def ran(pair: Pair, result: RunResult = RESULT, *, events: int = 3) -> str:
    """A dispatch whose run has ended, and whose result is held; all that may leave has reached its sender."""
    alice, bob = pair
    dispatch_id = send(alice, bob)
    alice.deliver(bob)
    row = accept(bob, dispatch_id)
    bob.step(lambda tx: running.start(tx, dispatch_id, row.attempt))
    for _ in range(events):
        bob.step(lambda tx: running.record(tx, dispatch_id, row.attempt, [EVENT], [EVENT], hold=True))
    bob.step(lambda tx: releasing.hold(tx, dispatch_id, row.attempt, result, [FILE]))
    bob.deliver(alice)
    return dispatch_id


def states(pair: Pair, dispatch_id: str) -> list[State]:
    return [person.row(dispatch_id).state for person in pair]


def statuses(person: Person, dispatch_id: str) -> list[str]:
    events = [json.loads(text) for _, _, text in trace.events(person.db, dispatch_id)]
    return [event["status"] for event in events if event["kind"] == "status"]


def knows(person: Person) -> bool:
    """Whether anything in a store has a word of what the run did."""
    return any(SECRET.encode() in repr(row).encode() for row in person.db.iterdump())


def held_bytes(person: Person, dispatch_id: str) -> int:
    """What the store counts of a dispatch's events and held result."""
    row = person.db.execute("SELECT trace_bytes FROM dispatches WHERE dispatch_id = ?", (dispatch_id,)).fetchone()
    return int(row[0])


def test_nothing_leaves_before_it_is_sent_and_then_all_of_it_does(pair: Pair) -> None:
    """Red with `hold` ignored by record(), and with finish() in place of hold()."""
    alice, bob = pair
    dispatch_id = ran(pair)
    assert states(pair, dispatch_id) == ["running", "held"] and StopRun(dispatch_id, "") in bob.effects
    assert statuses(alice, dispatch_id) == ["held"] and knows(bob) and not knows(alice)
    (item,) = dispatches.files(bob.db, dispatch_id, "returned")
    assert not dispatches.may_pull(bob.db, alice.device, item.statement, FILE.digest)
    assert outbox.next_for(bob.db, alice.device) is None

    told = list(notifications_for(bob.row(dispatch_id), [], since=1))
    assert [each.what for each in told] == ["held"] and list(
        notifications_for(alice.row(dispatch_id), [], since=1)
    ) == []
    held = views.dispatch_document(bob.db, bob.user, 0, dispatch_id)["held"]
    assert (held["status"], held["reply"], held["events"]) == ("completed", RESULT.reply, 3)
    assert held["reason"] == RESULT.reason and [file["name"] for file in held["files"]] == [FILE.name]

    row = bob.step(lambda tx: releasing.release(tx, dispatch_id))
    assert row.state == "completed" and row.message == RESULT.own_reason
    bob.deliver(alice)
    assert states(pair, dispatch_id) == ["completed", "completed"]
    document = views.dispatch_document(alice.db, alice.user, 0, dispatch_id)
    assert document["result"]["reply"] == RESULT.reply and document["result"]["counts"]["files_changed"] == 1
    assert [file["name"] for file in document["result"]["files"]] == [FILE.name]
    assert [event["kind"] for event in document["events"]] == ["status", *["reasoning"] * 3, "status"]
    (item,) = dispatches.files(bob.db, dispatch_id, "returned")
    assert dispatches.may_pull(bob.db, alice.device, item.statement, FILE.digest)
    for person in pair:
        proven = receipts.verify(gather(person.db, person.context.identity.device_set, dispatch_id))
        assert (proven.recipient.user_id, proven.events) == (bob.user, 5)
    assert views.dispatch_document(bob.db, bob.user, 0, dispatch_id)["held"] is None
    with pytest.raises(Conflict):
        bob.step(lambda tx: releasing.release(tx, dispatch_id))


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_left_out_is_not_sent(pair: Pair, part: Part) -> None:
    alice, bob = pair
    dispatch_id = ran(pair, RunResult(status="failed", reply=f"r {SECRET}", bare_reason="it failed"))
    bob.step(lambda tx: releasing.release(tx, dispatch_id, without=[part]))
    bob.deliver(alice)
    document = views.dispatch_document(alice.db, alice.user, 0, dispatch_id)
    sent: dict[Part, bool] = {
        "reply": bool(document["result"]["reply"]),
        "trace": any(event["kind"] == "reasoning" for event in document["events"]),
        "files": bool(document["result"]["files"]),
    }
    assert sent == {name: name not in (part, "trace") for name in PARTS}, "events repeat the others"
    assert part.replace("trace", "events") in document["events"][-1]["detail"], "it says so"
    assert [item.name for item in dispatches.files(bob.db, dispatch_id, "returned")] == [FILE.name], "it stays here"
    assert unreleased.events(bob.db, dispatch_id) == [] and unreleased.get(bob.db, dispatch_id) is None


def test_what_is_left_out_is_nowhere_else_in_what_is_sent(pair: Pair) -> None:
    """Red where the events go with a reply or files left out, where the reason names files that were not returned, and
    where what was counted is told all the same."""
    alice, bob = pair
    for without in (["files"], ["reply", "files"], ["trace", "files"]):
        result = msgspec.structs.replace(RESULT, reply="" if "reply" in without else "done", bare_reason="one")
        dispatch_id = ran(pair, result)
        bob.step(lambda tx: releasing.release(tx, dispatch_id, without=releasing.parts_of(without)))  # noqa: B023
        bob.deliver(alice)
        told = views.dispatch_document(alice.db, alice.user, 0, dispatch_id)["result"]
        assert not knows(alice) and told["reason"].endswith("says: “one”")
        assert told["counts"] == {} and told["usage"] == {"turns": 2}
    dispatch_id = ran(pair, msgspec.structs.replace(RESULT, bare_reason="one"))
    bob.step(lambda tx: releasing.release(tx, dispatch_id, without=["reply"]))
    bob.deliver(alice)
    told = views.dispatch_document(alice.db, alice.user, 0, dispatch_id)["result"]
    assert SECRET in told["reason"] and told["counts"] == {"files_changed": 1} and not told["reply"]


def decline(_: Person, bob: Person, dispatch_id: str) -> None:
    bob.step(lambda tx: receiving.decline(tx, dispatch_id, reason="no"))


def cancel_here(_: Person, bob: Person, dispatch_id: str) -> None:
    bob.step(lambda tx: receiving.cancel(tx, bob.row(dispatch_id), reason="no"))


def cancel_there(alice: Person, bob: Person, dispatch_id: str) -> None:
    alice.step(lambda tx: sending.cancel(tx, dispatch_id, reason="no"))
    alice.deliver(bob)


def revoke(alice: Person, bob: Person, _: str) -> None:
    bob.step(lambda tx: granting.revoke(tx, alice.user))


def block(alice: Person, bob: Person, _: str) -> None:
    bob.step(lambda tx: granting.block(tx, alice.user))


@pytest.mark.parametrize("ending", [decline, cancel_here, cancel_there, revoke, block], ids=lambda each: each.__name__)
def test_after_another_end_nothing_of_it_is_ever_sent(pair: Pair, ending) -> None:  # type: ignore[no-untyped-def]
    """Red without unreleased.drop() in end(), and without `held` among the states that a revocation ends."""
    alice, bob = pair
    dispatch_id = ran(pair)
    counted = held_bytes(bob, dispatch_id)
    ending(alice, bob, dispatch_id)
    bob.deliver(alice)
    assert not knows(alice) and bob.row(dispatch_id).state in ("declined", "cancelled")
    assert alice.row(dispatch_id).state == bob.row(dispatch_id).state
    assert unreleased.get(bob.db, dispatch_id) is None and unreleased.events(bob.db, dispatch_id) == []
    assert 0 < held_bytes(bob, dispatch_id) < counted
    with pytest.raises(Conflict):
        bob.step(lambda tx: releasing.release(tx, dispatch_id))


def test_what_an_interrupted_run_did_is_not_sent_with_the_next(pair: Pair) -> None:
    """Red without unreleased.drop() in interrupt_all()."""
    alice, bob = pair
    dispatch_id = send(alice, bob)
    alice.deliver(bob)
    for attempt in (1, 2):
        accept(bob, dispatch_id)
        bob.step(lambda tx: running.start(tx, dispatch_id, attempt))  # noqa: B023
        event = json.dumps({"kind": "reasoning", "text": f"attempt {attempt}"})
        bob.step(lambda tx: running.record(tx, dispatch_id, attempt, [event], [event], hold=True))  # noqa: B023
        if attempt == 1:
            bob.step(running.interrupt_all)
    bob.step(lambda tx: releasing.hold(tx, dispatch_id, 2, RESULT, []))
    assert bob.step(running.interrupt_all) == [], "a held result survives a restart"
    assert bob.row(dispatch_id).state == "held"
    bob.step(lambda tx: releasing.release(tx, dispatch_id))
    bob.deliver(alice)
    words = [event.get("text") for event in views.event_rows(alice.db, dispatch_id)]
    assert "attempt 2" in words and "attempt 1" not in words
    proven = receipts.verify(gather(alice.db, alice.context.identity.device_set, dispatch_id))
    assert proven.events == 3


def test_only_what_is_held_is_sent(pair: Pair) -> None:
    alice, bob = pair
    waiting = send(alice, bob)
    alice.deliver(bob)
    for dispatch_id, error in ((waiting, Conflict), ("0198c0de-1111-7222-8333-444455556666", NotFound)):
        with pytest.raises(error):
            bob.step(lambda tx: releasing.release(tx, dispatch_id))  # noqa: B023
    with pytest.raises(NotFound):
        alice.step(lambda tx: releasing.release(tx, waiting))
    with pytest.raises(Invalid):
        releasing.parts_of(["reply", "everything"])
    held = ran(pair)
    with pytest.raises(Conflict):  # an accept or a second end of the run
        accept(bob, held)
    with pytest.raises(Conflict):
        bob.step(lambda tx: releasing.hold(tx, held, 1, RESULT, []))
    before = bob.dump()
    with pytest.raises(Conflict):
        bob.step(lambda tx: running.record(tx, held, 1, [EVENT], [EVENT], hold=True))
    assert bob.dump() == before


def test_what_is_held_counts_and_is_not_thinned(pair: Pair) -> None:
    _, bob = pair
    few, many = ran(pair, events=1), ran(pair, events=40)
    assert held_bytes(bob, many) - held_bytes(bob, few) >= 39 * 2 * len(EVENT)
    long = ran(pair, msgspec.structs.replace(RESULT, reply="x" * 50_000), events=1)
    assert held_bytes(bob, long) - held_bytes(bob, few) >= 49_000
    everything = Rules(keep_ms=-1, keep_bytes=0)
    while bob.step(lambda tx: thinning.thin_ended(tx, everything)):
        pass
    assert bob.row(many).thinned == 0 and len(unreleased.events(bob.db, many)) == 40
    bob.step(lambda tx: releasing.release(tx, many))
    kept: rows.Dispatch = bob.row(many)
    assert kept.state == "completed" and held_bytes(bob, many) > 0


def test_a_failure_before_the_run_began_is_told_at_once(pair: Pair) -> None:
    """As for every edge: it says nothing but that this machine could not run it."""
    alice, bob = pair
    dispatch_id = send(alice, bob)
    alice.deliver(bob)
    accept(bob, dispatch_id)
    bob.step(lambda tx: running.finish(tx, dispatch_id, 1, "failed", reason="could not run it", code=422))
    bob.deliver(alice)
    assert states(pair, dispatch_id) == ["failed", "failed"]


@pytest.mark.parametrize("own", ["", "only for here"])
def test_a_held_run_is_over_here_and_says_why(pair: Pair, own: str) -> None:
    alice, bob = pair
    dispatch_id = send(alice, bob)
    alice.deliver(bob)
    accept(bob, dispatch_id)
    bob.step(lambda tx: running.start(tx, dispatch_id, 1))
    waiting = rows.Approval(dispatch_id, "c1", 1, "{}", 0, 1 << 50, "", "")
    bob.step(lambda tx: running.ask(tx, waiting))
    result = RunResult(status="failed", reason="it broke", own_reason=own, code=500, fix="mend it")
    bob.step(lambda tx: releasing.hold(tx, dispatch_id, 1, result, [FILE]))
    row = bob.row(dispatch_id)
    assert (row.code, row.message, row.fix) == (500, own or "it broke", "mend it")
    assert trace.open_approvals(bob.db) == []
    held = views.dispatch_document(bob.db, bob.user, 0, dispatch_id)["held"]
    assert [file["ready"] for file in held["files"]] == [True]


def test_both_read_what_was_sent(pair: Pair) -> None:
    alice, bob = pair
    assert releasing.parts_of(["files"]) == {"files"} and releasing.parts_of([]) == frozenset()
    for without in ([], ["files"]):
        dispatch_id = ran(pair)
        bob.step(lambda tx: releasing.release(tx, dispatch_id, without=releasing.parts_of(without)))  # noqa: B023
        bob.deliver(alice)
        for person in pair:
            last = views.event_rows(person.db, dispatch_id)[-1]
            assert last["status"] == "released" and ("without" in last["detail"]) is bool(without), last
