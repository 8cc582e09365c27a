"""A dispatch at its sender: what composing needs, what acknowledgements, decisions, events and results change."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from peer.dispatches.admission import CLOCK_SKEW_MS
from peer.protocol.acknowledgements import Acknowledgement
from peer.protocol.content import MAX_EXPIRES, Content
from peer.protocol.errors import Conflict, Forbidden, Invalid, NotFound
from peer.protocol.statements import Addressed, Decision, Events, FileRef, Result, Revocation
from peer.steps import granting, invitation_answers, receiving, running, sending
from peer.steps.effects import DeadlineSet, DispatchChanged, Effects, FetchFiles, PeopleChanged, Wake
from peer.store import contacts, dispatches, edges, trace
from tests.steps.people import READ_ONLY, Person, accept, connect, invite, people, send

FILE = FileRef("out.txt", 3, bytes(32))
START_OF_CHAIN = bytes(32)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Person, Person]]:
    with people(tmp_path, "alice", "bob") as (_, alice, bob):
        connect(alice, bob)
        alice.effects = Effects()
        yield alice, bob


def say(bob: Person, alice: Person, kind: type[Addressed], dispatch_id: str, **content: Any) -> Acknowledgement:
    """Bob's device signs any statement about a dispatch of Alice's, and brings it."""
    if kind is not Events:
        content.setdefault("dispatch_digest", alice.row(dispatch_id).digest)
    content.setdefault("attempt", 1)
    if kind is Decision:
        content.setdefault("read_version", 1)
    if kind is Result:
        content = {"status": "completed", "head": START_OF_CHAIN, "count": 0} | content
    alice.effects = Effects()
    signed = bob.context.sign_for(kind, alice.user, alice.device, dispatch_id=dispatch_id, **content)
    return alice.receive(bob, signed.raw)


def decided(bob: Person, alice: Person, dispatch_id: str, *decisions: str, **content: Any) -> None:
    for decision in decisions:
        assert say(bob, alice, Decision, dispatch_id, decision=decision, **content).code == 200


def acknowledged(alice: Person, bob: Person, dispatch_id: str, answer: Acknowledgement) -> None:
    (item,) = [item for item in alice.waiting(bob) if item.dispatch_id == dispatch_id]
    alice.effects = Effects()
    alice.step(lambda tx: sending.on_acknowledged(tx, item, answer))


def reason(alice: Person, dispatch_id: str) -> tuple[str, int, str, str]:
    row = alice.row(dispatch_id)
    return row.state, row.code, row.message, row.fix


# --- composing and taking back


def test_a_dispatch_goes_to_the_edges_device_and_refers_to_one_that_is_known(pair: tuple[Person, Person]) -> None:
    alice, bob = pair

    def compose(device: str = "", parent: str = "") -> str:
        draft = sending.Draft(bob.user, Content(task="go", parent=parent), 60, device=device)
        return alice.step(lambda tx: sending.compose(tx, draft)).row.dispatch_id

    before = alice.dump()
    with pytest.raises(Invalid, match="a different device"):
        compose(device=alice.device)
    with pytest.raises(NotFound):
        compose(parent=alice.context.new_id())
    assert alice.dump() == before
    first = compose(device=bob.device)
    assert alice.row(first).expires == alice.context.clock() + 60_000
    assert list(alice.effects) == [Wake(bob.device), DispatchChanged(first), DeadlineSet(alice.row(first).expires)]
    compose(parent=first)


def test_nobody_sends_to_themselves(pair: tuple[Person, Person]) -> None:
    """Seen to fail with the fix `dispatch invite ME`, which is refused in turn."""
    alice, _ = pair
    with pytest.raises(Invalid, match="cannot dispatch to yourself"):
        send(alice, alice)


def test_files_that_are_sent_may_be_fetched_at_once(pair: tuple[Person, Person]) -> None:
    alice, bob = pair
    dispatch_id = send(alice, bob, files=(FILE,))
    assert dispatches.may_pull(alice.db, bob.device, dispatch_id, FILE.digest)


def test_taking_back_says_why_and_drops_what_waits(pair: tuple[Person, Person]) -> None:
    alice, bob = pair
    for given, shown in (("no longer needed", "you cancelled it: “no longer needed”"), ("", "you cancelled it")):
        dispatch_id = send(alice, bob)
        alice.step(lambda tx: sending.cancel(tx, dispatch_id, reason=given))  # noqa: B023
        assert reason(alice, dispatch_id) == ("cancelled", 0, shown, "")
    assert [item.kind for item in alice.waiting(bob)] == ["cancel", "cancel"]


def test_each_side_acts_on_its_own_dispatches(pair: tuple[Person, Person]) -> None:
    """What was received is not there to be taken back, and what was sent is not there to be accepted."""
    alice, bob = pair
    dispatch_id = send(alice, bob)
    alice.deliver(bob)
    with pytest.raises(NotFound):
        bob.step(lambda tx: sending.cancel(tx, dispatch_id, reason=""))
    for decide in (
        lambda tx: receiving.accept(tx, dispatch_id, cwd=""),
        lambda tx: receiving.decline(tx, dispatch_id, reason=""),
    ):
        with pytest.raises(NotFound):
            alice.step(decide)
    for person in (alice, bob):
        with pytest.raises(NotFound):
            person.step(lambda tx: sending.cancel(tx, alice.context.new_id(), reason=""))
    with pytest.raises(NotFound):
        bob.step(lambda tx: receiving.accept(tx, alice.context.new_id(), cwd=""))


# --- acknowledgements


@pytest.mark.parametrize(
    ("code", "state", "shown"),
    [(200, "pending", 0), (202, "queued", 0), (403, "rejected", 403), (410, "expired", 410), (422, "rejected", 422)],
)
def test_what_the_other_machine_answers_to_a_dispatch(
    pair: tuple[Person, Person], code: int, state: str, shown: int
) -> None:
    alice, bob = pair
    dispatch_id = send(alice, bob)
    acknowledged(alice, bob, dispatch_id, Acknowledgement(code, "their words"))
    assert alice.waiting(bob) == []
    row = alice.row(dispatch_id)
    assert (row.state, row.code, "their words" in row.message) == (state, shown, bool(shown))
    assert PeopleChanged() not in alice.effects


def test_a_late_refusal_does_not_explain_a_dispatch_that_was_taken_back(pair: tuple[Person, Person]) -> None:
    alice, bob = pair
    dispatch_id = send(alice, bob)
    (item,) = alice.waiting(bob)
    alice.step(lambda tx: sending.cancel(tx, dispatch_id, reason="mine"))
    for code in (200, 202, 422):
        alice.step(lambda tx: sending.on_acknowledged(tx, item, Acknowledgement(code, "their words")))  # noqa: B023
        assert reason(alice, dispatch_id) == ("cancelled", 0, "you cancelled it: “mine”", "")


@pytest.mark.parametrize("code", [200, 409, 410])
def test_an_acknowledgement_of_another_statement_moves_no_dispatch(pair: tuple[Person, Person], code: int) -> None:
    alice, bob = pair
    dispatch_id = send(alice, bob)
    alice.deliver(bob)
    alice.step(lambda tx: sending.cancel(tx, dispatch_id, reason="mine"))
    acknowledged(alice, bob, dispatch_id, Acknowledgement(code, "their words"))
    assert reason(alice, dispatch_id) == ("cancelled", 0, "you cancelled it: “mine”", "")


@pytest.mark.parametrize(("code", "status"), [(200, "offered"), (403, "declined"), (410, "declined")])
def test_an_offer_that_is_refused_is_no_edge(tmp_path: Path, code: int, status: str) -> None:
    with people(tmp_path, "alice", "bob") as (_, alice, bob):
        token = invite(alice, bob)
        edge_id = bob.step(lambda tx: invitation_answers.accept(tx, token, READ_ONLY)).edge_id
        (item,) = bob.waiting(alice)
        bob.effects = Effects()
        bob.step(lambda tx: sending.on_acknowledged(tx, item, Acknowledgement(code)))
        assert edges.get(bob.db, edge_id).status == status  # type: ignore[union-attr]
        assert (PeopleChanged() in bob.effects) == (status == "declined")


def test_the_last_word_to_somebody_blocked_closes_the_door(pair: tuple[Person, Person]) -> None:
    alice, bob = pair
    bob.step(lambda tx: granting.block(tx, alice.user))
    (item,) = bob.waiting(alice)
    bob.effects = Effects()
    bob.step(lambda tx: sending.on_acknowledged(tx, item, Acknowledgement(200)))
    assert PeopleChanged() in bob.effects


# --- decisions


def test_what_a_decision_says_is_kept(pair: tuple[Person, Person]) -> None:
    alice, bob = pair
    dispatch_id = send(alice, bob)
    decided(bob, alice, dispatch_id, "accepted")
    row = alice.row(dispatch_id)
    assert (row.state, row.attempt) == ("accepted", 1) and row.decision
    decided(bob, alice, dispatch_id, "running")
    assert alice.row(dispatch_id).decision == row.decision


@pytest.mark.parametrize(("decision", "kept"), [("declined", True), ("expired", False)])
def test_a_refusal_by_a_person_or_by_the_clock_says_why(pair: tuple[Person, Person], decision: str, kept: bool) -> None:
    alice, bob = pair
    for words in ("not today", ""):
        dispatch_id = send(alice, bob)
        decided(bob, alice, dispatch_id, decision, reason=words, attempt=0)
        assert reason(alice, dispatch_id) == (decision, 0, f"{bob.user} says: “{words}”" if words else "", "")
        assert bool(alice.row(dispatch_id).decision) is kept
    other = send(alice, bob)
    decided(bob, alice, other, "accepted", reason="with pleasure")
    assert reason(alice, other) == ("accepted", 0, "", "")


@pytest.mark.parametrize("over", [0, 1])
def test_a_deadline_is_taken_as_far_off_as_a_dispatch_may_live(pair: tuple[Person, Person], over: int) -> None:
    alice, bob = pair
    dispatch_id = send(alice, bob)
    latest = alice.context.clock() + MAX_EXPIRES * 1000 + CLOCK_SKEW_MS
    decided(bob, alice, dispatch_id, "pending", expires=latest + over, attempt=0)
    assert alice.row(dispatch_id).expires == latest
    assert alice.effects.first_deadline() == latest


def test_a_decision_without_a_deadline_leaves_it(pair: tuple[Person, Person]) -> None:
    alice, bob = pair
    dispatch_id = send(alice, bob)
    expires = alice.row(dispatch_id).expires
    decided(bob, alice, dispatch_id, "pending", attempt=0)
    decided(bob, alice, dispatch_id, "accepted", expires=expires + 60_000)
    assert alice.row(dispatch_id).expires == expires


def test_news_that_crossed_the_end_changes_nothing(pair: tuple[Person, Person]) -> None:
    alice, bob = pair
    dispatch_id = send(alice, bob)
    decided(bob, alice, dispatch_id, "declined", reason="no", attempt=0)
    before = alice.row(dispatch_id)
    for decision in ("accepted", "pending", "expired", "declined"):
        decided(bob, alice, dispatch_id, decision, reason="later", expires=before.expires + 1)
        assert alice.row(dispatch_id) == before
    assert say(bob, alice, Result, dispatch_id, files=(FILE,), attempt=0, status="cancelled").code == 200
    assert alice.row(dispatch_id) == before and FetchFiles() not in alice.effects


# --- events


def batch(bob: Person, alice: Person, dispatch_id: str, **changes: Any) -> int:
    count, head = trace.head(alice.db, dispatch_id, changes.get("attempt", 1))
    content = {"sequence": count, "previous": head, "events": ('{"kind":"x"}',)} | changes
    return say(bob, alice, Events, dispatch_id, **content).code


def test_a_batch_continues_the_chain_in_number_and_in_digest(pair: tuple[Person, Person]) -> None:
    alice, bob = pair
    dispatch_id = send(alice, bob)
    decided(bob, alice, dispatch_id, "accepted")
    assert batch(bob, alice, dispatch_id) == 200 and alice.effects.changed() == (dispatch_id,)
    _, head = trace.head(alice.db, dispatch_id, 1)
    for sequence, previous in ((0, head), (2, head), (1, START_OF_CHAIN)):
        assert batch(bob, alice, dispatch_id, sequence=sequence, previous=previous) == 409
    assert batch(bob, alice, dispatch_id) == 200


@pytest.mark.parametrize("ended", ["declined", "completed", "failed", "cancelled"])
def test_nothing_is_added_to_what_has_ended(pair: tuple[Person, Person], ended: str) -> None:
    """By a decision without a result, and by a result in a state that would still take news."""
    alice, bob = pair
    dispatch_id = send(alice, bob)
    if ended == "declined":
        decided(bob, alice, dispatch_id, "declined", attempt=0)
    else:
        decided(bob, alice, dispatch_id, "accepted")
        assert batch(bob, alice, dispatch_id) == 200
        assert say(bob, alice, Result, dispatch_id, status=ended).code == 200
    kept = trace.events(alice.db, dispatch_id)
    assert batch(bob, alice, dispatch_id) == 409
    assert trace.events(alice.db, dispatch_id) == kept


def test_events_of_a_dispatch_that_was_taken_back_are_kept_until_its_result(pair: tuple[Person, Person]) -> None:
    alice, bob = pair
    dispatch_id = send(alice, bob)
    decided(bob, alice, dispatch_id, "accepted")
    alice.step(lambda tx: sending.cancel(tx, dispatch_id, reason=""))
    assert batch(bob, alice, dispatch_id) == 200


# --- results


def test_a_result_is_stored_with_its_reason_and_its_files(pair: tuple[Person, Person]) -> None:
    alice, bob = pair
    dispatch_id = send(alice, bob)
    decided(bob, alice, dispatch_id, "accepted")
    said = {"status": "failed", "code": 429, "reason": "out of budget"}
    alice.effects = Effects()
    assert say(bob, alice, Result, dispatch_id, files=(FILE,), **said).code == 200
    told = f"{bob.user}'s machine says: “out of budget”"
    assert reason(alice, dispatch_id) == ("failed", 429, told, "") and alice.row(dispatch_id).result
    assert [item.name for _, item in dispatches.awaited_files(alice.db)] == ["out.txt"]
    assert FetchFiles() in alice.effects and DispatchChanged(dispatch_id) in alice.effects
    other = send(alice, bob)
    decided(bob, alice, other, "accepted")
    alice.effects = Effects()
    assert say(bob, alice, Result, other).code == 200
    assert FetchFiles() not in alice.effects


def test_a_run_that_was_interrupted_has_no_result_any_more(pair: tuple[Person, Person]) -> None:
    """Neither a good one nor a bad one: the attempt that was accepted last counts."""
    alice, bob = pair
    dispatch_id = send(alice, bob)
    decided(bob, alice, dispatch_id, "accepted")
    decided(bob, alice, dispatch_id, "pending", expires=alice.row(dispatch_id).expires)
    decided(bob, alice, dispatch_id, "accepted", attempt=2)
    before = alice.row(dispatch_id)
    for status in ("completed", "failed"):
        assert say(bob, alice, Result, dispatch_id, status=status, attempt=1).code == 409
        assert alice.row(dispatch_id) == before
    assert say(bob, alice, Result, dispatch_id, status="failed", attempt=2).code == 200


def test_what_was_cancelled_here_keeps_the_reason_given_here(pair: tuple[Person, Person]) -> None:
    alice, bob = pair
    mine, theirs = send(alice, bob), send(alice, bob)
    for dispatch_id in (mine, theirs):
        decided(bob, alice, dispatch_id, "accepted")
    alice.step(lambda tx: sending.cancel(tx, mine, reason="not needed any more"))
    for dispatch_id, kept in (
        (mine, "you cancelled it: “not needed any more”"),
        (theirs, f"{bob.user} says: “no time”"),
    ):
        assert say(bob, alice, Result, dispatch_id, status="cancelled", code=499, reason="no time").code == 200
        assert reason(alice, dispatch_id)[::2] == ("cancelled", kept)
        assert alice.effects.changed() == (dispatch_id,)


@pytest.mark.parametrize("kind", [Decision, Events, Result])
def test_a_blocked_contact_says_nothing_more_of_a_dispatch(
    pair: tuple[Person, Person], kind: type[Decision | Events | Result]
) -> None:
    """The connection ends at a block too; a statement that is being read at that moment changes nothing."""
    alice, bob = pair
    dispatch_id = send(alice, bob)
    decided(bob, alice, dispatch_id, "accepted")
    alice.step(lambda tx: contacts.block(tx.db, bob.user, tx.now))
    before = alice.row(dispatch_id)
    content: dict[type, dict[str, object]] = {
        Decision: {"decision": "running"},
        Events: {"sequence": 0, "previous": START_OF_CHAIN, "events": ('{"kind":"x"}',)},
        Result: {},
    }
    assert say(bob, alice, kind, dispatch_id, **content[kind]).code == 403
    assert alice.row(dispatch_id) == before


def test_nothing_is_said_of_a_dispatch_that_nobody_sent(pair: tuple[Person, Person]) -> None:
    alice, bob = pair
    content = {"dispatch_id": alice.context.new_id(), "dispatch_digest": bytes(32), "attempt": 1, "read_version": 1}
    decision = bob.context.sign_for(Decision, alice.user, alice.device, decision="accepted", **content)
    assert alice.receive(bob, decision.raw).code == 404


@pytest.mark.parametrize(
    ("status", "code"), [("completed", 409), ("failed", 409), ("declined", 409), ("cancelled", 200)]
)
def test_a_run_that_nobody_accepted_ends_only_as_cancelled(pair: tuple[Person, Person], status: str, code: int) -> None:
    alice, bob = pair
    dispatch_id = send(alice, bob)
    assert say(bob, alice, Result, dispatch_id, status=status).code == code
    assert alice.row(dispatch_id).state == ("cancelled" if code == 200 else "queued")


def test_statements_about_a_dispatch_come_from_the_device_it_went_to(tmp_path: Path) -> None:
    with people(tmp_path, "alice", "bob", "mallory") as (_, alice, bob, mallory):
        connect(alice, bob)
        connect(alice, mallory)
        connect(bob, alice)
        sent, received = send(alice, bob), send(bob, alice)
        bob.deliver(alice)
        for kind, content in (
            (Decision, {"decision": "accepted"}),
            (Events, {"sequence": 0, "previous": START_OF_CHAIN, "events": ('{"kind":"x"}',)}),
            (Result, {"status": "cancelled"}),
        ):
            before = (alice.row(sent), alice.row(received))
            assert say(mallory, alice, kind, sent, **content).code == 404
            assert say(bob, alice, kind, received, **content).code == 404
            assert (alice.row(sent), alice.row(received)) == before


# --- the end of an edge


def test_what_goes_over_a_revoked_edge_is_given_up(pair: tuple[Person, Person]) -> None:
    alice, bob = pair
    waiting, running_there = send(alice, bob), send(alice, bob)
    decided(bob, alice, running_there, "accepted")
    edge_id = alice.row(waiting).edge_id
    signed = bob.context.sign_for(Revocation, alice.user, alice.device, edge_id=edge_id)
    assert alice.receive(bob, signed.raw).code == 200
    state, code, message, fix = reason(alice, waiting)
    assert (state, code) == ("rejected", 403) and bob.user in message and bob.user in fix
    # Its own result counts when it comes; but it may never come.
    assert alice.row(running_there).state == "cancelled"
    assert alice.waiting(bob) == []


# --- the recipient's side of an end


def test_declining_what_waits_is_a_decision_and_what_runs_a_result(pair: tuple[Person, Person]) -> None:
    alice, bob = pair
    waits, runs = send(alice, bob), send(alice, bob)
    alice.deliver(bob)
    accept(bob, runs)
    bob.deliver(alice)
    for dispatch_id, kinds in ((waits, ["decision"]), (runs, ["result"])):
        bob.step(lambda tx: receiving.decline(tx, dispatch_id, reason="no"))  # noqa: B023
        assert reason(bob, dispatch_id) == ("declined", 0, "no", "")
        assert [item.kind for item in bob.waiting(alice)] == kinds
        assert bob.row(dispatch_id).decision
        bob.deliver(alice)
        assert reason(alice, dispatch_id) == ("declined", 0, f"{bob.user} says: “no”", "")


def test_what_expires_says_so_on_both_sides(pair: tuple[Person, Person]) -> None:
    alice, bob = pair
    dispatch_id = send(alice, bob)
    alice.deliver(bob)
    for person, kinds in ((alice, []), (bob, ["decision"])):
        person.effects = Effects()
        person.step(lambda tx: receiving.expire(tx, person.row(dispatch_id)))  # noqa: B023
        assert reason(person, dispatch_id)[:2] == ("expired", 410)
        assert DispatchChanged(dispatch_id) in person.effects
        assert [item.kind for item in person.waiting(bob if person is alice else alice)] == kinds


@pytest.mark.parametrize(("own", "told"), [("", "the model refused"), ("secret path", "the model refused")])
def test_an_end_is_explained_to_its_own_person_first(pair: tuple[Person, Person], own: str, told: str) -> None:
    alice, bob = pair
    dispatch_id = send(alice, bob)
    alice.deliver(bob)
    accept(bob, dispatch_id)
    ending: dict[str, Any] = {"own_reason": own, "reason": told, "code": 429, "fix": "raise the budget"}
    bob.step(lambda tx: running.finish(tx, dispatch_id, 1, "failed", files=(FILE,), **ending))
    assert reason(bob, dispatch_id) == ("failed", 429, own or told, "raise the budget")
    (item,) = dispatches.files(bob.db, dispatch_id, "returned")
    assert dispatches.may_pull(bob.db, alice.device, item.statement, FILE.digest)
    bob.deliver(alice)
    assert reason(alice, dispatch_id)[:3] == ("failed", 429, f"{bob.user}'s machine says: “{told}”")


def test_only_the_attempt_that_runs_is_current(pair: tuple[Person, Person]) -> None:
    alice, bob = pair
    dispatch_id = send(alice, bob)
    alice.deliver(bob)
    accept(bob, dispatch_id)
    bob.step(running.interrupt_all)
    accept(bob, dispatch_id)
    before = bob.dump()
    with pytest.raises(Conflict, match="nothing pending"):
        bob.step(lambda tx: running.finish(tx, dispatch_id, 1, "failed"))
    assert bob.dump() == before
    bob.step(lambda tx: running.finish(tx, dispatch_id, 2, "failed"))
    assert bob.row(dispatch_id).state == "failed"


def test_a_cancelled_run_says_who_ended_it_in_bounded_words(pair: tuple[Person, Person]) -> None:
    alice, bob = pair
    taken_back, revoked = send(alice, bob), send(alice, bob)
    alice.deliver(bob)
    alice.step(lambda tx: sending.cancel(tx, taken_back, reason="x" * 1_999))
    alice.deliver(bob)
    assert reason(bob, taken_back)[:2] == ("cancelled", 0)
    bob.step(lambda tx: receiving.cancel(tx, bob.row(revoked), reason="y" * 2_001, code=403))
    assert reason(bob, revoked)[:2] == ("cancelled", 403)
    bob.deliver(alice)
    assert alice.row(taken_back).code == 0
    assert (alice.row(revoked).code, alice.row(revoked).message) == (403, f"{bob.user} says: “{'y' * 2_000}”")


def test_a_revocation_is_the_reason_of_what_it_ends(pair: tuple[Person, Person]) -> None:
    alice, bob = pair
    dispatch_id = send(alice, bob)
    alice.deliver(bob)
    bob.step(lambda tx: granting.revoke(tx, alice.user))
    assert reason(bob, dispatch_id)[:2] == ("cancelled", 403)


def test_the_first_result_stands(pair: tuple[Person, Person]) -> None:
    """Also in a state that would still take another."""
    alice, bob = pair
    dispatch_id = send(alice, bob)
    decided(bob, alice, dispatch_id, "accepted")
    assert say(bob, alice, Result, dispatch_id, status="cancelled", reason="first").code == 200
    before = alice.row(dispatch_id)
    assert say(bob, alice, Result, dispatch_id, status="completed", files=(FILE,)).code == 200
    assert alice.row(dispatch_id) == before and dispatches.awaited_files(alice.db) == []


def test_whoever_was_revoked_and_invited_again_waits_for_the_answer(pair: tuple[Person, Person]) -> None:
    alice, bob = pair
    bob.step(lambda tx: granting.revoke(tx, alice.user))
    bob.deliver(alice)
    invite(alice, bob)
    with pytest.raises(Forbidden, match="has not answered your invitation"):
        send(alice, bob)


def test_a_file_that_waits_to_be_fetched_is_kept_from_the_result_on(pair: tuple[Person, Person]) -> None:
    """Not from whatever is acknowledged later: its dispatch would never grow old."""
    alice, bob = pair
    dispatch_id = send(alice, bob)
    alice.deliver(bob)
    accept(bob, dispatch_id)
    bob.step(lambda tx: running.start(tx, dispatch_id, 1))
    bob.step(lambda tx: running.finish(tx, dispatch_id, 1, "completed"))
    last = bob.waiting(alice)[-1]
    bob.deliver(alice)
    closed = bob.row(dispatch_id).closed
    for kind, after in (("landing-report", closed), ("result", closed + 1)):
        item = dataclasses.replace(last, kind=kind)
        bob.context.clock.now = closed + 1  # type: ignore[attr-defined]
        bob.step(lambda tx: sending.on_acknowledged(tx, item, Acknowledgement(200)))  # noqa: B023
        assert bob.row(dispatch_id).closed == after


def test_nothing_is_added_to_a_dispatch_that_was_declined(pair: tuple[Person, Person]) -> None:
    alice, bob = pair
    dispatch_id = send(alice, bob)
    alice.deliver(bob)
    bob.step(lambda tx: receiving.decline(tx, dispatch_id, reason="no"))
    bob.deliver(alice)
    before = trace.events(alice.db, dispatch_id)
    late = say(
        bob, alice, Events, dispatch_id, attempt=0, sequence=0, previous=START_OF_CHAIN, events=('{"kind":"x"}',)
    )
    assert late.code == 409 and trace.events(alice.db, dispatch_id) == before
