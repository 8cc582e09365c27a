"""What the sender learns of a run's changes: told when something of them was decided, and believed of nobody else.

Each guard at the sender, and each condition of telling, was removed once and a test here failed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from peer.protocol import statements as s
from peer.protocol.signing import open_as, sign_by_device
from peer.protocol.statements import LandingReport
from peer.steps import change_sets as steps
from peer.steps import granting, hellos, inbound, receiving, releasing, running
from peer.steps.effects import DispatchChanged, Effects
from peer.steps.landing_reports import tell_landing
from peer.store import change_sets, contacts, landing_reports, lists, views
from peer.store.receipts import gather
from peer.store.unreleased import RunResult
from peer.trust import receipts, scopes
from peer.trust.receipts import Altered
from tests.conftest import few
from tests.protocol.examples import MALLORY, an_id
from tests.steps.people import READ_ONLY, Clock, Person, accept, connect, people, send
from tests.steps.test_change_sets import change_set, keep, land, stored

Pair = tuple[Clock, Person, Person]
KIND = LandingReport.type_name


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with people(tmp_path, "alice", "bob") as (clock, alice, bob):
        connect(alice, bob)
        greet(alice, bob)
        yield clock, alice, bob


def greet(alice: Person, bob: Person) -> None:
    """Have Bob's device learn what Alice's understands."""
    raw = alice.step(hellos.make)
    bob.step(lambda tx: hellos.take(tx, alice.device, raw))


def begin(alice: Person, bob: Person) -> str:
    dispatch_id = send(alice, bob, "mend the kettle")
    alice.deliver(bob)
    row = accept(bob, dispatch_id)
    bob.step(lambda tx: running.start(tx, dispatch_id, row.attempt))
    return dispatch_id


def finish(bob: Person, dispatch_id: str, *, scope: str = "") -> None:
    attempt = bob.row(dispatch_id).attempt
    bob.step(lambda tx: running.finish(tx, dispatch_id, attempt, "completed", reply="boiled", scope=scope))


def ran(alice: Person, bob: Person, *, decidable: int = 3) -> str:
    """A dispatch whose run has ended with changes that wait; the sender knows so much."""
    dispatch_id = begin(alice, bob)
    finish(bob, dispatch_id)
    keep(bob, change_set(dispatch_id, decidable=decidable))
    bob.deliver(alice)
    return dispatch_id


def undo(bob: Person, dispatch_id: str, *, stay: set[int] = frozenset()) -> None:  # type: ignore[assignment]
    landing = bob.step(lambda tx: steps.begin_undo(tx, stored(bob, dispatch_id)))
    bob.step(lambda tx: steps.finish_undo(tx, landing, stay=stay, decidable={0, 1, 2}, size=1))


def discard(bob: Person, dispatch_id: str) -> None:
    bob.step(lambda tx: steps.discard(tx, stored(bob, dispatch_id), size=1))


def queued(person: Person) -> list[LandingReport]:
    """The reports that wait to be sent."""
    raws = person.db.execute("SELECT raw FROM outbox WHERE kind = ? ORDER BY n", (KIND,)).fetchall()
    return [open_as(LandingReport, bytes(raw))[0] for (raw,) in raws]


def known(alice: Person, dispatch_id: str) -> tuple[str, int | None, int | None] | None:
    """What Alice's person is shown, the same in the list, in the whole document and in the receipt."""
    now = alice.context.clock()
    whole = views.dispatch_document(alice.db, alice.user, now, dispatch_id)
    listed = lists.dispatch_list(alice.db, alice.user, now, direction="sent", status=None, limit=50, before=None)[
        "dispatches"
    ]
    brief = views.dispatch_brief(alice.db, alice.user, now, dispatch_id)
    row = next(row for row in listed if row["dispatch_id"] == dispatch_id)
    assert row.get("landing") == brief.get("landing") == whole["landing"]
    told = whole["landing"]
    assert whole["landed"] == (told and told["landed"])
    return told and (told["landed"], told["in_place"], told["in_all"])


def proven(person: Person, dispatch_id: str) -> LandingReport | None:
    receipt = gather(person.db, person.context.identity.device_set, dispatch_id)
    assert receipts.decode(receipts.encode(receipt)) == receipt
    return receipts.verify(receipt).landing


# --- telling


def test_whatever_is_decided_reaches_the_sender_and_both_receipts(pair: Pair) -> None:
    _, alice, bob = pair
    dispatch_id = ran(alice, bob)
    seen = [known(alice, dispatch_id)]
    for decide in (
        lambda: land(bob, stored(bob, dispatch_id), {0}),
        lambda: land(bob, stored(bob, dispatch_id), {1, 2}),
        lambda: undo(bob, dispatch_id, stay={2}),
        lambda: undo(bob, dispatch_id),
        lambda: undo(bob, dispatch_id),
        lambda: discard(bob, dispatch_id),
    ):
        alice.effects = Effects()
        decide()
        assert [answer.code for kind, answer in bob.deliver(alice) if kind == KIND] == [200]
        assert DispatchChanged(dispatch_id) in alice.effects
        seen.append(known(alice, dispatch_id))
        ours, theirs = proven(alice, dispatch_id), proven(bob, dispatch_id)
        assert ours == theirs and ours is not None and ours.landed == seen[-1][0]  # type: ignore[index]
    assert seen == [
        ("waiting", 0, 3),
        ("part", 1, 3),
        ("all", 3, 3),
        ("part", 2, 3),
        ("part", 1, 3),
        ("waiting", 0, 3),
        ("none", 0, 3),
    ]


def test_it_is_queued_in_the_step_that_records_the_decision_and_says_the_digest(pair: Pair) -> None:
    _, alice, bob = pair
    dispatch_id = ran(alice, bob)
    landing = bob.step(lambda tx: steps.begin(tx, stored(bob, dispatch_id), {0}))
    assert queued(bob) == []
    bob.step(lambda tx: steps.finish(tx, landing, decidable={0, 1, 2}, size=1))
    (report,) = queued(bob)
    row = bob.row(dispatch_id)
    assert (report.dispatch_id, report.dispatch_digest, report.attempt) == (dispatch_id, row.digest, 1)
    assert report.change_set == stored(bob, dispatch_id).digest
    (item,) = bob.waiting(alice)
    assert (item.kind, item.edge_id, item.dispatch_id, item.ordering) == (KIND, row.edge_id, dispatch_id, dispatch_id)


def test_a_landing_that_the_end_of_the_run_begins_is_told_when_it_is_over(pair: Pair) -> None:
    _, alice, bob = pair
    for finished, said in ((True, ("part", 2, 3)), (False, ("waiting", 0, 3))):
        dispatch_id = begin(alice, bob)
        finish(bob, dispatch_id)
        landing = keep(bob, change_set(dispatch_id), land=frozenset({0, 1}))
        assert landing is not None and queued(bob) == []
        if finished:
            bob.step(lambda tx: steps.finish(tx, landing, decidable={0, 1, 2}, size=1))  # noqa: B023
        else:
            bob.step(lambda tx: steps.give_up(tx, landing))  # noqa: B023
        bob.deliver(alice)
        assert known(alice, dispatch_id) == said


def test_at_most_one_report_of_a_dispatch_waits_and_what_says_the_same_is_not_sent(pair: Pair) -> None:
    _, alice, bob = pair
    first, second = ran(alice, bob), ran(alice, bob)
    for _ in range(5):
        land(bob, stored(bob, first), {0})
        undo(bob, first)
    land(bob, stored(bob, second), {0})
    assert {(each.dispatch_id, each.landed) for each in queued(bob)} == {(first, "waiting"), (second, "part")}
    assert len(queued(bob)) == 2
    bob.deliver(alice)
    for _ in range(2):
        bob.step(lambda tx: tell_landing(tx, bob.row(first)))
    assert queued(bob) == []
    assert (known(alice, first), known(alice, second)) == (("waiting", 0, 3), ("part", 1, 3))


def test_the_counter_grows_whatever_the_clock_does(pair: Pair) -> None:
    clock, alice, bob = pair
    dispatch_id = ran(alice, bob)
    counters = []
    for back in (0, 86_400, 0):
        clock.pass_seconds(-back)
        land(bob, stored(bob, dispatch_id), {0})
        counters.append(queued(bob)[0].counter)
        undo(bob, dispatch_id)
        counters.append(queued(bob)[0].counter)
    assert counters == sorted(set(counters)) and counters[0] >= clock.now
    bob.deliver(alice)
    assert known(alice, dispatch_id) == ("waiting", 0, 3)


def test_of_a_redacted_edge_the_word_alone_is_told(pair: Pair, tmp_path: Path) -> None:
    """Also if it was redacted only when the run was accepted, or only is so now."""
    _, alice, bob = pair
    full, redacted = (
        scopes.encode_summary(scopes.summary(structs.replace(READ_ONLY, results=results)))
        for results in get_args(scopes.Results)
    )
    for edge, scope, said in (
        ("full", full, ("part", 1, 3)),
        ("full", "", ("part", 1, 3)),
        ("full", redacted, ("part", None, None)),
        ("redacted", full, ("part", None, None)),
        ("redacted", redacted, ("part", None, None)),
    ):
        now: Any = edge
        bob.step(lambda tx: granting.edit(tx, alice.user, structs.replace(READ_ONLY, results=now)))  # noqa: B023
        dispatch_id = begin(alice, bob)
        finish(bob, dispatch_id, scope=scope)
        keep(bob, change_set(dispatch_id))
        land(bob, stored(bob, dispatch_id), {0})
        (report,) = queued(bob)
        assert (report.change_set == b"") == (said[1] is None)
        bob.deliver(alice)
        assert known(alice, dispatch_id) == said
        assert proven(alice, dispatch_id) == report


def test_of_a_review_edge_nothing_is_told_before_its_person_sends_the_result(pair: Pair) -> None:
    """Nor ever, if they send nothing of it; also where the edge was edited in between, no number."""
    _, alice, bob = pair
    review = structs.replace(READ_ONLY, approval="review")
    for sends, later, said in (
        (True, review, ("part", 1, 3)),
        (False, review, None),
        (False, READ_ONLY, ("part", None, None)),
    ):
        bob.step(lambda tx: granting.edit(tx, alice.user, review))
        dispatch_id = begin(alice, bob)
        ended = RunResult(status="completed", reply="boiled", scope=scopes.encode_report(review))
        bob.step(lambda tx: releasing.hold(tx, dispatch_id, 1, ended, []))  # noqa: B023
        keep(bob, change_set(dispatch_id))
        land(bob, stored(bob, dispatch_id), {0})
        assert queued(bob) == []
        bob.step(lambda tx: granting.edit(tx, alice.user, later))  # noqa: B023
        if sends:
            bob.step(lambda tx: releasing.release(tx, dispatch_id, without=releasing.parts_of(["files"])))  # noqa: B023
        else:
            bob.step(lambda tx: receiving.decline(tx, dispatch_id, reason="not this"))  # noqa: B023
        kinds = [kind for kind, _ in bob.deliver(alice)]
        assert kinds[-1] == (KIND if said else "result")
        land(bob, stored(bob, dispatch_id), {1})
        undo(bob, dispatch_id)
        bob.deliver(alice)
        assert known(alice, dispatch_id) == said


def test_nothing_is_told_before_the_end_is(pair: Pair) -> None:
    """Of a run that was interrupted the sender hears when it has ended for good, and of the run that ended alone."""
    _, alice, bob = pair
    dispatch_id = begin(alice, bob)
    bob.step(running.interrupt_all)
    keep(bob, change_set(dispatch_id))
    land(bob, stored(bob, dispatch_id), {0})
    assert queued(bob) == []
    bob.step(lambda tx: receiving.cancel(tx, bob.row(dispatch_id), reason="not now"))
    bob.deliver(alice)
    assert known(alice, dispatch_id) == ("part", None, None)

    again = begin(alice, bob)
    bob.step(running.interrupt_all)
    keep(bob, change_set(again))
    row = accept(bob, again)
    bob.step(lambda tx: running.start(tx, again, row.attempt))
    finish(bob, again)
    land(bob, stored(bob, again), {0})
    assert queued(bob) == []
    assert views.dispatch_document(bob.db, bob.user, bob.context.clock(), again)["landed"] == "none", "of the last run"
    keep(bob, change_set(again, attempt=2))
    bob.deliver(alice)
    assert known(alice, again) == ("waiting", 0, 3)


def test_a_run_that_was_declined_keeps_its_changes_after_its_end(pair: Pair) -> None:
    _, alice, bob = pair
    dispatch_id = begin(alice, bob)
    bob.step(lambda tx: receiving.decline(tx, dispatch_id, reason="not now"))
    assert queued(bob) == []
    keep(bob, change_set(dispatch_id))
    bob.deliver(alice)
    assert known(alice, dispatch_id) == ("waiting", None, None)


def test_nothing_is_told_over_a_revoked_edge_or_to_a_blocked_user(pair: Pair) -> None:
    _, alice, bob = pair
    dispatch_id = ran(alice, bob)
    bob.step(lambda tx: contacts.block(tx.db, alice.user, tx.now))
    land(bob, stored(bob, dispatch_id), {0})
    assert queued(bob) == []
    bob.step(lambda tx: granting.unblock(tx, alice.user))
    land(bob, stored(bob, dispatch_id), {1})
    assert len(queued(bob)) == 1
    bob.step(lambda tx: granting.revoke(tx, alice.user))
    land(bob, stored(bob, dispatch_id), {2})
    assert queued(bob) == []
    bob.deliver(alice)
    assert known(alice, dispatch_id) == ("waiting", 0, 3)


def test_a_device_that_does_not_read_the_type_is_not_sent_it(pair: Pair) -> None:
    _, alice, bob = pair
    own, _ = open_as(s.Hello, alice.step(hellos.make))
    older = {name: version for name, version in own.versions.items() if name != KIND}
    for number, versions in ((1, older), (2, own.versions)):
        hello = dataclasses.replace(own, counter=own.counter + number, versions=versions)
        raw = sign_by_device(hello, alice.context.identity.seed).raw
        bob.step(lambda tx: hellos.take(tx, alice.device, raw))  # noqa: B023
        dispatch_id = ran(alice, bob)
        land(bob, stored(bob, dispatch_id), {0})
        bob.deliver(alice)
        assert known(alice, dispatch_id) == (None if versions is older else ("part", 1, 3))
        assert (proven(bob, dispatch_id) is None) == (versions is older)


def test_neither_is_one_without_a_hello_or_one_that_is_nobodys(tmp_path: Path) -> None:
    with people(tmp_path, "alice", "bob") as (_, alice, bob):
        connect(alice, bob)
        dispatch_id = ran(alice, bob)
        land(bob, stored(bob, dispatch_id), {0})
        assert queued(bob) == []
        greet(alice, bob)
        bob.step(lambda tx: contacts.drop_device(tx.db, alice.device))
        land(bob, stored(bob, dispatch_id), {1})
        assert queued(bob) == []


def test_an_older_sender_refuses_it_and_nothing_is_blocked(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    _, alice, bob = pair
    dispatch_id = ran(alice, bob)
    land(bob, stored(bob, dispatch_id), {0})
    raw = bob.waiting(alice)[0].raw
    later = begin(alice, bob)
    before = landing_reports.get(alice.db, dispatch_id)
    with monkeypatch.context() as patch:
        patch.delitem(s.VERSIONS, KIND)
        patch.delitem(inbound.HANDLERS, LandingReport)
        answers = dict(bob.deliver(alice))
        assert answers.pop(KIND).code == 415 and {answer.code for answer in answers.values()} == {200}
    assert alice.row(later).state == "running" and bob.waiting(alice) == []
    assert landing_reports.get(alice.db, dispatch_id) == before
    assert alice.receive(bob, raw).code == 200, "once it is updated"
    assert known(alice, dispatch_id) == ("part", 1, 3)


# --- believing


def report_of(bob: Person, about: str, /, **changes: Any) -> bytes:
    """A report that Bob's device signed anew, with a higher counter, other values, and an id of its own."""
    last = landing_reports.get(bob.db, about)
    assert last is not None
    report, _ = open_as(LandingReport, last.raw)
    given = {"id": bob.context.new_id(), "counter": report.counter + 1, **changes}
    return sign_by_device(dataclasses.replace(report, **given), bob.context.identity.seed).raw


def refused(alice: Person, bob: Person, raw: bytes, code: int) -> None:
    """It is answered with this code for good, and nothing else is different afterwards."""
    before = alice.dump()
    answer = alice.receive(bob, raw)
    assert (answer.code, answer.final) == (code, True), answer
    after = alice.dump()
    for table in ("seen", "remembered"):
        del before[table], after[table]
    assert after == before


def test_the_newest_wins_and_older_ones_change_nothing(pair: Pair) -> None:
    _, alice, bob = pair
    dispatch_id = ran(alice, bob)
    raws = []
    for number in range(3):
        land(bob, stored(bob, dispatch_id), {number})
        raws.append(bob.waiting(alice)[0].raw)
    assert alice.receive(bob, raws[1]).code == 200
    assert known(alice, dispatch_id) == ("part", 2, 3)
    refused(alice, bob, raws[0], 200)
    refused(alice, bob, raws[1], 200)
    assert alice.receive(bob, raws[2]).code == 200
    same = open_as(LandingReport, raws[2])[0].counter
    refused(alice, bob, report_of(bob, dispatch_id, counter=same, landed="part", in_place=1), 200)
    for raw in (*raws, report_of(bob, dispatch_id, counter=0, landed="none", in_place=0)):
        refused(alice, bob, raw, 200)
    assert known(alice, dispatch_id) == ("all", 3, 3)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"dispatch_id": an_id(99)}, 404),
        ({"dispatch_digest": bytes(32)}, 409),
        ({"attempt": 2}, 409),
        ({"attempt": 0}, 409),
        ({"landed": "all"}, 422),
        ({"in_place": 9}, 422),
        ({"in_place": 3}, 422),
        ({"change_set": b""}, 422),
        ({"audience_device": MALLORY.device}, 403),
    ],
)
def test_what_does_not_fit_the_run_is_refused(pair: Pair, changes: dict[str, Any], code: int) -> None:
    _, alice, bob = pair
    dispatch_id = ran(alice, bob)
    land(bob, stored(bob, dispatch_id), {0})
    bob.deliver(alice)
    refused(alice, bob, report_of(bob, dispatch_id, **changes), code)
    assert known(alice, dispatch_id) == ("part", 1, 3)
    assert alice.receive(bob, report_of(bob, dispatch_id)).code == 200, "what fits is taken"


def test_before_the_result_nothing_is_believed(pair: Pair) -> None:
    _, alice, bob = pair
    told = ran(alice, bob)
    dispatch_id = begin(alice, bob)
    bob.deliver(alice)
    early = report_of(bob, told, dispatch_id=dispatch_id, dispatch_digest=bob.row(dispatch_id).digest)
    refused(alice, bob, early, 409)
    assert known(alice, dispatch_id) is None
    finish(bob, dispatch_id)
    bob.deliver(alice)
    late = report_of(bob, told, dispatch_id=dispatch_id, dispatch_digest=bob.row(dispatch_id).digest)
    assert alice.receive(bob, late).code == 200


def test_a_received_dispatch_has_no_report_from_outside(pair: Pair) -> None:
    _, alice, bob = pair
    dispatch_id = ran(alice, bob)
    raw = landing_reports.get(bob.db, dispatch_id)
    assert raw is not None
    own, _ = open_as(LandingReport, raw.raw)
    forged = dataclasses.replace(
        own,
        id=alice.context.new_id(),
        counter=own.counter + 1,
        issuer_user=alice.user,
        issuer_device=alice.device,
        audience_user=bob.user,
        audience_device=bob.device,
    )
    refused(bob, alice, sign_by_device(forged, alice.context.identity.seed).raw, 404)


def test_another_device_than_the_recipients_is_refused(tmp_path: Path) -> None:
    """A contact of the sender's, but not who was asked; also where it claims to be the recipient's."""
    with people(tmp_path, "alice", "bob", "carol") as (_, alice, bob, carol):
        connect(alice, bob)
        connect(alice, carol)
        greet(alice, bob)
        dispatch_id = ran(alice, bob)
        raw = landing_reports.get(bob.db, dispatch_id)
        assert raw is not None
        report, _ = open_as(LandingReport, raw.raw)
        hers = {"id": an_id(7), "counter": report.counter + 1, "landed": "none", "issuer_device": carol.device}
        for user, code in ((carol.user, 404), (bob.user, 403)):
            forged = dataclasses.replace(report, issuer_user=user, **hers)
            refused(alice, carol, sign_by_device(forged, carol.context.identity.seed).raw, code)
        refused(alice, carol, report_of(bob, dispatch_id, landed="none", in_place=0), 403)
        assert known(alice, dispatch_id) == ("waiting", 0, 3)


def test_another_device_of_the_recipients_is_refused(pair: Pair) -> None:
    """The dispatch was for one device: another one of the same user knows nothing of its runs."""
    _, alice, bob = pair
    dispatch_id = ran(alice, bob)
    alice.db.execute(
        "INSERT INTO contact_devices (device, user_id, sealing_key, name) "
        "SELECT ?, user_id, sealing_key, name FROM contact_devices WHERE device = ?",
        (MALLORY.device, bob.device),
    )
    raw = landing_reports.get(bob.db, dispatch_id)
    assert raw is not None
    own, _ = open_as(LandingReport, raw.raw)
    forged = dataclasses.replace(own, id=an_id(7), counter=own.counter + 1, issuer_device=MALLORY.device)
    signed = MALLORY.sign(forged)
    assert alice.step(lambda tx: inbound.take(tx, MALLORY.device, signed.raw)).code == 404
    kept = landing_reports.get(alice.db, dispatch_id)
    assert kept is not None and kept.raw == raw.raw


def test_a_device_that_went_over_to_another_user_reports_nothing_any_more(pair: Pair) -> None:
    """What it signs as that user's would fit no receipt: the sender's own would not verify any more."""
    _, alice, bob = pair
    dispatch_id = ran(alice, bob)
    alice.db.execute(
        "INSERT INTO contacts (user_id, root, device_set, epoch, verified, created) "
        "SELECT 'eve@example.org', root, device_set, epoch, verified, created FROM contacts"
    )
    alice.db.execute("UPDATE contact_devices SET user_id = 'eve@example.org' WHERE device = ?", (bob.device,))
    refused(alice, bob, report_of(bob, dispatch_id, issuer_user="eve@example.org", landed="none"), 404)
    assert proven(alice, dispatch_id) is not None


def test_a_blocked_user_reports_nothing(pair: Pair) -> None:
    _, alice, bob = pair
    dispatch_id = ran(alice, bob)
    raw = report_of(bob, dispatch_id)
    alice.step(lambda tx: contacts.block(tx.db, bob.user, tx.now))
    refused(alice, bob, raw, 403)


# --- receipts


def test_a_receipt_without_a_report_is_as_it_always_was(pair: Pair) -> None:
    _, alice, bob = pair
    dispatch_id = begin(alice, bob)
    finish(bob, dispatch_id)
    bob.deliver(alice)
    raw = receipts.encode(gather(alice.db, alice.context.identity.device_set, dispatch_id))
    assert raw.startswith(receipts.MAGIC) and b"landing-report" not in raw
    assert receipts.verify(receipts.decode(raw)).landing is None


def test_every_byte_of_the_report_counts_and_others_do_not_fit(pair: Pair) -> None:
    _, alice, bob = pair
    first, second = ran(alice, bob), ran(alice, bob)
    whole, other = (gather(alice.db, alice.context.identity.device_set, each) for each in (first, second))
    assert receipts.verify(whole).statements == 6
    raw = receipts.encode(whole)
    assert raw.startswith(receipts.MAGIC_WITH_LANDING)
    at = raw.index(whole.landing)
    for offset in range(-3, len(whole.landing), 3):
        flipped = bytearray(raw)
        flipped[at + offset] ^= 1
        with pytest.raises(Altered, match="landing report"):
            receipts.verify(receipts.decode(bytes(flipped)))
    for report, said in (
        (other.landing, "about another dispatch"),
        (report_of(bob, first, dispatch_digest=bytes(32)), "about another dispatch"),
        (report_of(bob, first, attempt=2), "about another run"),
        (report_of(bob, first, landed="all"), "contradicts itself"),
        (report_of(bob, first, audience_device=MALLORY.device), "not addressed to the device"),
        (whole.result, "not what was signed"),
    ):
        with pytest.raises(Altered, match=f"landing report .*{said}"):
            receipts.verify(dataclasses.replace(whole, landing=report))
    own, _ = open_as(LandingReport, whole.landing)
    hers = dataclasses.replace(own, issuer_user=alice.user, issuer_device=alice.device)
    with pytest.raises(Altered, match="not signed by the same device as the result"):
        receipts.verify(dataclasses.replace(whole, landing=sign_by_device(hers, alice.context.identity.seed).raw))
    empty = raw[: at - 3] + b"\x40"
    with pytest.raises(Altered, match="landing report is missing"):
        receipts.decode(empty)
    with pytest.raises(Altered, match="landing report is missing"):
        receipts.decode(raw[: at - 3])


# --- any order


@few(15)
@given(st.lists(st.sampled_from(["apply", "undo", "discard", "deliver", "replay"]), max_size=12), st.randoms())
def test_in_whatever_order_it_comes_the_sender_ends_with_what_is(
    tmp_path_factory: pytest.TempPathFactory, acts: list[str], random: Any
) -> None:
    """Reports may be lost on the way to be sent again, and arrive in any order and more than once."""
    with people(tmp_path_factory.mktemp("order"), "alice", "bob") as (_, alice, bob):
        connect(alice, bob)
        greet(alice, bob)
        dispatch_id = ran(alice, bob)
        seen: list[bytes] = []
        for act in [*acts, "deliver"]:
            item = stored(bob, dispatch_id)
            in_place = change_sets.landed(bob.db, dispatch_id, 1)
            if act == "apply" and item.state == "waiting" and (rest := sorted({0, 1, 2} - in_place)):
                land(bob, item, {random.choice(rest)})
            elif act == "undo" and in_place:
                undo(bob, dispatch_id)
            elif act == "discard" and item.state == "waiting":
                discard(bob, dispatch_id)
            elif act == "deliver":
                seen += [each.raw for each in bob.waiting(alice)]
                bob.deliver(alice)
            elif act == "replay" and seen:
                alice.receive(bob, random.choice(seen))
        row = views.change_set_rows(bob.db, dispatch_id)[0]
        assert known(alice, dispatch_id) == (row["landed"], row["in_place"], row["in_all"])
        report = proven(alice, dispatch_id)
        assert report == proven(bob, dispatch_id) and report is not None and report.landed == row["landed"]
