"""Ended dispatches lose their events and files when they are old or too much; what is kept of a contact is bounded."""

from __future__ import annotations

import hashlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from peer.dispatches import retention as bounds
from peer.dispatches.retention import Rules
from peer.protocol.content import Content
from peer.protocol.documents import Direction
from peer.protocol.errors import RateLimited, Unavailable
from peer.protocol.statements import Dispatch, Events, FileRef, Result
from peer.steps import freeing, inbound, receiving, running, sending, thinning
from peer.steps.effects import BlobsFreed, DispatchChanged, Effects, ThinningDue
from peer.store import dispatches, outbox, retention, rows, trace, views
from peer.store.receipts import gather
from peer.store.rows import FileState
from peer.trust import receipts
from tests.conftest import HANG, more
from tests.steps.people import Clock, Person, accept, connect, people, send

Pair = tuple[Clock, Person, Person]
ALWAYS = Rules(keep_ms=0, keep_bytes=1 << 40)
"""Whatever has ended is old."""
NOTHING_FITS = Rules(keep_ms=1 << 50, keep_bytes=0)
SENT, BACK = b"sent along", b"returned"


def ref(name: str, content: bytes) -> FileRef:
    return FileRef(name, len(content), hashlib.sha256(content).digest())


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with people(tmp_path, "alice", "bob") as (clock, alice, bob):
        connect(alice, bob)
        yield clock, alice, bob
        for person in (alice, bob):
            assert_counted(person)


def assert_counted(person: Person) -> None:
    """What triggers have counted is what is there."""
    per_dispatch = {
        row[0]: row[1]
        for row in person.db.execute(
            "SELECT dispatch_id, "
            "(SELECT coalesce(sum(size), 0) FROM files f WHERE f.dispatch_id = d.dispatch_id AND ready >= 0) + "
            "(SELECT coalesce(sum(length(call)), 0) FROM approvals a WHERE a.dispatch_id = d.dispatch_id) "
            "FROM dispatches d"
        )
    }
    found = person.db.execute("SELECT dispatch_id, kept_bytes FROM dispatches").fetchall()
    assert {row[0]: row[1] for row in found} == per_dispatch
    summed: dict[tuple[str, str, int], int] = {}
    for row in person.db.execute("SELECT * FROM dispatches"):
        assert (row["closed"] > 0) == (
            row["state"] in ("completed", "failed", "declined", "cancelled", "expired", "rejected")
        )
        key = (row["peer"], row["direction"], int(row["closed"] > 0))
        summed[key] = summed.get(key, 0) + row["trace_bytes"] + row["kept_bytes"]
    counted = {
        (row["peer"], row["direction"], row["ended"]): row["bytes"] for row in person.db.execute("SELECT * FROM held")
    }
    assert {key: size for key, size in counted.items() if size} == {key: size for key, size in summed.items() if size}


def put(person: Person, content: bytes) -> None:
    person.context.blobs.destination(hashlib.sha256(content).digest()).write_bytes(content)


def arrive(person: Person, content: bytes) -> None:
    for _, item in dispatches.awaited_files(person.db):
        put(person, content)
        person.step(lambda tx: receiving.on_file_arrived(tx, item))  # noqa: B023


def event(dispatch_id: str, bob: Person, text: str = '{"kind":"reasoning","text":"hm"}') -> None:
    attempt = bob.row(dispatch_id).attempt
    bob.step(lambda tx: running.record(tx, dispatch_id, attempt, [text], [text]))


def accepted(pair: Pair, *, sent: bytes = SENT) -> str:
    """A dispatch with a file that Bob has accepted, and Alice knows it."""
    _, alice, bob = pair
    put(alice, sent)
    dispatch_id = send(alice, bob, "mend the kettle", files=(ref("in.txt", sent),))
    alice.deliver(bob)
    arrive(bob, sent)
    row = accept(bob, dispatch_id)
    bob.step(lambda tx: running.start(tx, dispatch_id, row.attempt))
    now = bob.context.clock()
    call = rows.Approval(dispatch_id, "c1", row.attempt, '{"tool":"Read"}', now, now + 1, "", "")
    bob.step(lambda tx: running.ask(tx, call))
    for _ in range(3):
        event(dispatch_id, bob)
    bob.deliver(alice)
    return dispatch_id


def finished(pair: Pair, *, sent: bytes = SENT, back: bytes = BACK) -> str:
    """The same, completed with a returned file that Alice has fetched."""
    _, alice, bob = pair
    dispatch_id = accepted(pair, sent=sent)
    files = [ref("out.txt", back)] if back else []
    if back:
        put(bob, back)
    bob.step(lambda tx: running.finish(tx, dispatch_id, 1, "completed", reply="boiled", files=files))
    bob.deliver(alice)
    arrive(alice, back)
    return dispatch_id


def thinned(person: Person, rules: Rules) -> list[str]:
    """Do what the node does; return what was thinned."""
    before = {row[0] for row in person.db.execute("SELECT dispatch_id FROM dispatches WHERE thinned = 0")}
    while person.step(lambda tx: thinning.thin_ended(tx, rules)):
        pass
    while person.step(freeing.remove_freed):
        pass
    after = {row[0] for row in person.db.execute("SELECT dispatch_id FROM dispatches WHERE thinned = 0")}
    return sorted(before - after)


def here(person: Person) -> set[bytes]:
    return {path.read_bytes() for path in person.context.blobs.folder.rglob("*") if path.is_file()}


def kept(person: Person, dispatch_id: str) -> list[int]:
    return [
        person.db.execute(f"SELECT count(*) FROM {table} WHERE dispatch_id = ?", (dispatch_id,)).fetchone()[0]
        for table in ("trace", "event_batches", "approvals")
    ]


def test_what_is_left_of_a_thinned_dispatch(pair: Pair) -> None:
    """On both sides: all that was signed but the events, the names of its files, and a receipt that says what it lacks.
    Seen to fail with each DELETE, and each UPDATE, of store/retention.thin left out."""
    clock, alice, bob = pair
    dispatch_id = finished(pair)
    for person in (alice, bob):
        clock.pass_seconds(86_400 * 2)
        receipt = gather(person.db, person.context.identity.device_set, dispatch_id)
        assert receipts.verify(receipt).complete and len(receipt.events) == 3
        before = person.row(dispatch_id)
        assert here(person) == {SENT, BACK} and before.trace_bytes > 0
        person.effects = Effects()
        assert thinned(person, ALWAYS) == [dispatch_id]
        assert BlobsFreed() in person.effects and DispatchChanged(dispatch_id) in person.effects
        assert here(person) == set() and kept(person, dispatch_id) == [0, 0, 0]
        after = person.row(dispatch_id)
        assert after == replace(before, trace_bytes=0, kept_bytes=0, thinned=clock.now)
        document = views.dispatch_document(person.db, person.user, clock.now, dispatch_id)
        assert [(file["name"], file["removed"]) for file in document["files"]] == [("in.txt", True)]
        assert [(file["name"], file["removed"]) for file in document["result"]["files"]] == [("out.txt", True)]
        assert (document["events"], document["result"]["reply"]) == ([], "boiled")
        assert document["result"]["missing_batches"] == document["result"]["events"] == 3
        assert document["removed"]["at"][:10] in document["removed"]["message"]
        assert [row["dispatch_id"] for row in history_of(person, "kettle")] == [dispatch_id]
        left = gather(person.db, person.context.identity.device_set, dispatch_id)
        assert left == replace(receipt, events=())
        proven = receipts.verify(receipts.decode(receipts.encode(left)))
        assert (proven.complete, proven.missing, proven.events, proven.statements) == (False, 3, 0, 5)
        assert thinned(person, ALWAYS) == []


def history_of(person: Person, words: str) -> list[dict[str, str]]:
    found = person.db.execute(
        "SELECT dispatch_id FROM searchable JOIN history ON history.rowid = n WHERE history MATCH ?", (words,)
    )
    return [dict(row) for row in found]


def test_before_it_is_thinned_nothing_is_said_of_it(pair: Pair) -> None:
    clock, alice, _ = pair
    dispatch_id = finished(pair)
    document = views.dispatch_document(alice.db, alice.user, clock.now, dispatch_id)
    assert document["removed"] is None and document["result"]["missing_batches"] == 0


# --- what stays


def queued(pair: Pair) -> str:
    put(pair[1], SENT)
    return send(pair[1], pair[2], files=(ref("in.txt", SENT),))


def arriving(pair: Pair) -> str:
    dispatch_id = queued(pair)
    pair[1].deliver(pair[2])
    return dispatch_id


def pending(pair: Pair) -> str:
    dispatch_id = arriving(pair)
    arrive(pair[2], SENT)
    pair[2].deliver(pair[1])
    return dispatch_id


def result_not_delivered(pair: Pair) -> str:
    dispatch_id = accepted(pair)
    pair[2].step(lambda tx: running.finish(tx, dispatch_id, 1, "completed"))
    return dispatch_id


def interrupted(pair: Pair) -> str:
    dispatch_id = accepted(pair)
    pair[2].step(running.interrupt_all)
    pair[2].deliver(pair[1])
    return dispatch_id


def declined_and_not_delivered(pair: Pair) -> str:
    dispatch_id = accepted(pair)
    pair[2].step(lambda tx: receiving.decline(tx, dispatch_id, reason="no"))
    return dispatch_id


WAITING = [queued, arriving, pending, accepted, interrupted, result_not_delivered, declined_and_not_delivered]


@pytest.mark.parametrize("how", WAITING)
def test_what_runs_or_waits_stays_whole(pair: Pair, how: Callable[[Pair], str]) -> None:
    """Whatever the rules. Seen to fail (each where its case is about it) without `closed > 0` and without the look at
    the outbox in store/retention.ended."""
    clock, alice, bob = pair
    how(pair)
    clock.pass_seconds(86_400 * 400)
    for person in (alice, bob):
        person.step(freeing.remove_freed)
        before = person.dump()
        for rules in (ALWAYS, NOTHING_FITS, Rules(0, 0)):
            assert thinned(person, rules) == []
        assert person.dump() == before


def test_what_has_files_to_come_stays_until_they_are_here(pair: Pair) -> None:
    """Seen to fail without the look at awaited files."""
    clock, alice, bob = pair
    dispatch_id = accepted(pair)
    put(bob, BACK)
    bob.step(lambda tx: running.finish(tx, dispatch_id, 1, "completed", files=[ref("out.txt", BACK)]))
    bob.deliver(alice)
    clock.pass_seconds(86_400)
    assert thinned(alice, ALWAYS) == []
    alice.effects = Effects()
    arrive(alice, BACK)
    assert ThinningDue() in alice.effects
    assert thinned(alice, ALWAYS) == [dispatch_id]


def test_what_has_a_folder_of_its_run_stays(pair: Pair) -> None:
    """The agent's process may still be in it. Seen to fail without the look at it."""
    clock, _, bob = pair
    dispatch_id = finished(pair)
    folder = bob.context.state.runs / dispatch_id / "1"
    folder.mkdir(parents=True)
    clock.pass_seconds(86_400)
    assert thinned(bob, ALWAYS) == []
    folder.rmdir()
    folder.parent.rmdir()
    assert thinned(bob, ALWAYS) == [dispatch_id]


def test_bytes_that_another_dispatch_needs_stay(pair: Pair) -> None:
    clock, alice, bob = pair
    finished(pair)
    clock.pass_seconds(86_400)
    waiting = pending(pair)
    for person in (alice, bob):
        assert len(thinned(person, ALWAYS)) == 1
        assert here(person) == {SENT}
        assert [file.state for file in dispatches.files(person.db, waiting, "attachment")] == [FileState.READY]


def test_files_that_a_sender_may_still_fetch_stay_a_day_after_the_result_came(pair: Pair) -> None:
    """Seen to fail with the day counted from the end: Alice was away until then."""
    clock, alice, bob = pair
    dispatch_id = accepted(pair)
    put(bob, BACK)
    bob.step(lambda tx: running.finish(tx, dispatch_id, 1, "completed", files=[ref("out.txt", BACK)]))
    clock.pass_seconds(86_400 * 30)
    bob.effects = Effects()
    bob.deliver(alice)
    assert bob.row(dispatch_id).closed == clock.now and ThinningDue() in bob.effects
    clock.pass_seconds(86_399)
    assert thinned(bob, NOTHING_FITS) == []
    clock.pass_seconds(1)
    assert thinned(bob, NOTHING_FITS) == [dispatch_id]


def test_the_oldest_go_until_the_rest_fits(pair: Pair) -> None:
    clock, alice, _ = pair
    ids = []
    for _ in range(4):
        ids.append(finished(pair))
        clock.pass_seconds(60)
    one = alice.row(ids[0])
    size = one.trace_bytes + one.kept_bytes
    assert retention.held_of_ended(alice.db) == 4 * size
    assert thinned(alice, Rules(1 << 50, 2 * size)) == ids[:2]
    assert thinned(alice, Rules(1 << 50, 2 * size - 1)) == ids[2:3]
    assert thinned(alice, Rules(int(1.5 * 60_000), 1 << 40)) == []
    clock.pass_seconds(60)
    assert thinned(alice, Rules(2 * 60_000, 1 << 40)) == ids[3:]


def test_a_report_that_comes_later_makes_nothing_younger(pair: Pair) -> None:
    """Seen to fail with the age counted from `updated`: a recipient could keep a dispatch from ever growing old."""
    clock, alice, bob = pair
    dispatch_id = accepted(pair)
    alice.step(lambda tx: sending.cancel(tx, dispatch_id, reason=""))
    ended = clock.now
    bob.db.execute("DELETE FROM outbox")
    alice.deliver(bob)
    clock.pass_seconds(3_600)
    bob.step(lambda tx: receiving.queue_decision(tx, bob.row(dispatch_id), "running"))
    bob.deliver(alice)
    row = alice.row(dispatch_id)
    assert (row.state, row.updated, row.closed) == ("cancelled", clock.now, ended)


def test_a_bounded_number_a_transaction(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, alice, _ = pair
    ids = []
    for _ in range(5):
        ids.append(finished(pair))
        clock.pass_seconds(60)
    monkeypatch.setattr(thinning, "AT_ONCE", 2)

    def left() -> int:
        return int(alice.db.execute("SELECT count(*) FROM dispatches WHERE thinned = 0").fetchone()[0])

    assert alice.step(lambda tx: thinning.thin_ended(tx, ALWAYS)) and left() == 3
    monkeypatch.setattr(thinning, "BYTES_AT_ONCE", 1)
    assert alice.step(lambda tx: thinning.thin_ended(tx, ALWAYS)) and left() == 2
    assert alice.step(lambda tx: thinning.thin_ended(tx, ALWAYS)) and left() == 1
    assert thinned(alice, ALWAYS) == ids[4:]


@pytest.mark.parametrize("share", [*more(0.02, 0.3), 0.6, *more(0.9, 0.99)])
def test_a_kill_in_the_middle_loses_nothing_and_the_next_start_goes_on(
    pair: Pair, tmp_path: Path, share: float
) -> None:
    """Every dispatch is whole or thinned, never half, and in the end all are. Seen to fail with each statement in a
    transaction of its own."""
    _, alice, _ = pair
    ids = []
    for number in range(4):
        dispatch_id = finished(pair, sent=bytes([number]) * 50, back=b"%d back" % number)
        trace.add_events(alice.db, dispatch_id, 1, ['{"kind":"x"}'] * 200)
        ids.append(dispatch_id)
    home = alice.context.state.path
    alice.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copytree(home, tmp_path / "whole")
    ticks = int(thin_elsewhere(tmp_path / "whole", 0).stdout)
    assert thin_elsewhere(home, max(1, int(ticks * share))).returncode == -signal.SIGKILL
    assert_counted(alice)
    for dispatch_id in ids:
        row = alice.row(dispatch_id)
        files = {
            file.state for role in ("attachment", "returned") for file in dispatches.files(alice.db, dispatch_id, role)
        }
        if row.thinned:
            assert (kept(alice, dispatch_id), row.trace_bytes, files) == ([0, 0, 0], 0, {FileState.REMOVED})
        else:
            assert (kept(alice, dispatch_id)[:2], files) == ([203, 3], {FileState.READY})
            needed = {
                file.digest
                for role in ("attachment", "returned")
                for file in dispatches.files(alice.db, dispatch_id, role)
            }
            assert all(alice.context.blobs.path(digest).is_file() for digest in needed)
    assert thin_elsewhere(home, 0).returncode == 0
    assert all(alice.row(dispatch_id).thinned and kept(alice, dispatch_id) == [0, 0, 0] for dispatch_id in ids)
    assert here(alice) == set()
    assert alice.db.execute("SELECT count(*) FROM freed_blobs").fetchone()[0] == 0


def thin_elsewhere(home: Path, ticks: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.steps.thinning_program", str(home), str(ticks)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=HANG, check=False
    )


# --- what is kept of one contact


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> int:
    """A bound for a contact, and the room that one dispatch may need."""
    most, room = 20_000, 6_000
    monkeypatch.setattr(bounds, "CONTACT_BYTES", most)
    monkeypatch.setattr(bounds, "CONTACT_THINNED_TO", most - room)
    monkeypatch.setattr(bounds, "OF_A_CONTACT", Rules(1 << 50, most - room))
    return most


NEVER = Rules(1 << 50, 1 << 50)


def test_what_is_kept_of_one_contact_is_bounded(pair: Pair, small: int) -> None:
    """A new dispatch is refused while nothing of the others can go, and what has ended makes room. Seen to fail without
    check_room in receiving, without it in sending, and with what waits for an acknowledgement counted as over."""
    _, alice, bob = pair
    content = [bytes([n]) * 5_500 for n in range(6)]
    waiting = [pending_with(pair, part) for part in content[:3]]
    answer = bob.receive(alice, signed_anew(alice, bob, content[3]))
    assert (answer.code, answer.final) == (429, True)
    assert "already take up" in answer.message and answer.fix
    assert answer.message.startswith(f"unfinished dispatches from {alice.user}")
    with pytest.raises(RateLimited, match=f"unfinished dispatches to {bob.user}") as refused:
        send(alice, bob, files=(ref("x", content[3]),))
    assert refused.value.code == 429 and refused.value.fix
    accept(bob, waiting[0])
    bob.step(lambda tx: running.finish(tx, waiting[0], 1, "failed"))
    late = signed_anew(alice, bob, content[4])
    assert bob.receive(alice, late).code == 429, "its result is still on its way"
    bob.deliver(alice)
    for person in (alice, bob):
        with pytest.raises(Unavailable):
            person.step(lambda tx: thinning.check_room(tx, other(pair, person).user, way(person), 5_001, fix=""))  # noqa: B023
    soon = signed_anew(alice, bob, content[5])
    told = bob.receive(alice, soon)
    assert (told.code, told.final) == (503, False)
    for person in (alice, bob):
        assert thinned(person, NEVER) == [waiting[0]]
    assert bob.receive(alice, soon).code == 202
    assert send(alice, bob, files=(ref("x", content[3]),))


def test_a_recipient_reports_no_more_than_there_is_room_for(pair: Pair, small: int) -> None:
    """Of dispatches that are not over. The result is taken all the same, without its files, and it says so. Seen to
    fail without check_room in on_events and without the one in on_result."""
    clock, alice, bob = pair
    first, second = accepted(pair), accepted(pair)
    big = '{"kind":"reasoning","text":"%s"}' % ("x" * 2_000)
    while retention.held(alice.db, bob.user, "sent") + 5_000 <= small:
        event(first, bob, big)
        bob.deliver(alice)
    before = alice.row(second)
    event(second, bob, big)
    assert [answer.code for _, answer in bob.deliver(alice)] == [429]
    assert alice.row(second) == before
    put(bob, BACK * 500)
    bob.step(lambda tx: running.finish(tx, second, 1, "completed", files=[ref("out.txt", BACK * 500)], reply="ok"))
    assert [answer.code for _, answer in bob.deliver(alice)] == [200]
    document = views.dispatch_document(alice.db, alice.user, clock.now, second)
    assert (document["status"], document["result"]["reply"]) == ("completed", "ok")
    assert [file["withheld"] for file in document["result"]["files"]] == [True]
    assert dispatches.awaited_files(alice.db) == []
    assert (
        document["events"][-1]["status"] == "files_left_out" and "already take up" in document["events"][-1]["detail"]
    )
    # Some of its events are no use in a receipt: it is the one without any.
    proven = receipts.verify(gather(alice.db, alice.context.identity.device_set, second))
    assert (proven.complete, proven.missing) == (False, 4)
    # What has ended makes room for what goes on.
    event(first, bob, big)
    assert [answer.code for _, answer in bob.deliver(alice)] == [503]
    assert thinned(alice, NEVER) == [second]
    assert [answer.code for _, answer in bob.deliver(alice)] == [200]


# --- what a peer may say of a thinned dispatch


def test_a_dispatch_that_is_brought_again(pair: Pair) -> None:
    """It is known by its row when its statement is forgotten, too."""
    clock, alice, bob = pair
    put(alice, SENT)
    dispatch_id = send(alice, bob, expires=86_400)
    (item,) = alice.waiting(bob)
    alice.deliver(bob)
    accept(bob, dispatch_id)
    event(dispatch_id, bob)
    bob.step(lambda tx: running.finish(tx, dispatch_id, 1, "failed"))
    bob.deliver(alice)
    assert thinned(bob, NOTHING_FITS) == [dispatch_id]
    before = bob.row(dispatch_id)
    assert bob.receive(alice, item.raw).code == 200
    bob.step(lambda tx: outbox.forget(tx.db, before=clock.now + 1, most=100))
    assert bob.receive(alice, item.raw).code == 409
    clock.pass_seconds(inbound.KEPT_MS / 1000)
    bob.step(lambda tx: outbox.forget(tx.db, before=clock.now, most=100))
    assert bob.receive(alice, item.raw).code == 410
    assert bob.row(dispatch_id) == before and kept(bob, dispatch_id) == [0, 0, 0]


def test_files_of_a_thinned_dispatch_are_served_to_nobody(pair: Pair) -> None:
    clock, alice, bob = pair
    dispatch_id = finished(pair)
    clock.pass_seconds(86_400)
    [returned] = dispatches.files(bob.db, dispatch_id, "returned")
    [attached] = dispatches.files(alice.db, dispatch_id, "attachment")
    assert dispatches.may_pull(bob.db, alice.device, returned.statement, returned.digest)
    assert dispatches.may_pull(alice.db, bob.device, attached.statement, attached.digest)
    for person in (alice, bob):
        thinned(person, ALWAYS)
    assert not dispatches.may_pull(bob.db, alice.device, returned.statement, returned.digest)
    assert not dispatches.may_pull(alice.db, bob.device, attached.statement, attached.digest)


def events_of(bob: Person, alice: Person, dispatch_id: str, sequence: int, previous: bytes) -> int:
    signed = bob.context.sign_for(
        Events,
        alice.user,
        alice.device,
        dispatch_id=dispatch_id,
        attempt=1,
        sequence=sequence,
        previous=previous,
        events=('{"kind":"reasoning","text":"later"}',),
    )
    return bob_says(bob, alice, signed.raw)


def bob_says(bob: Person, alice: Person, raw: bytes) -> int:
    return alice.receive(bob, raw).code


def test_events_that_come_for_a_thinned_dispatch_are_refused(pair: Pair) -> None:
    """Neither what follows the chain nor a new first batch is stored. Seen to fail without the look at `thinned` in
    on_events: a second chain began, and filled what was just emptied."""
    _, alice, bob = pair
    dispatch_id = accepted(pair)
    alice.step(lambda tx: sending.cancel(tx, dispatch_id, reason="never mind"))
    alice.deliver(bob)
    bob.db.execute("DELETE FROM outbox")
    count, head = trace.head(alice.db, dispatch_id, 1)
    assert count == 3
    assert events_of(bob, alice, dispatch_id, count, head) == 200, "late, as they may be"
    count, head = trace.head(alice.db, dispatch_id, 1)
    assert thinned(alice, NOTHING_FITS) == [dispatch_id]
    assert events_of(bob, alice, dispatch_id, count, head) == 409
    assert events_of(bob, alice, dispatch_id, 0, bytes(32)) == 409
    assert kept(alice, dispatch_id) == [0, 0, 0] and alice.row(dispatch_id).trace_bytes == 0


def test_a_result_that_comes_for_a_thinned_dispatch_is_news(pair: Pair) -> None:
    """It is what happened, so it is taken, its files too; and goes again in its turn."""
    clock, alice, bob = pair
    dispatch_id = accepted(pair)
    count, head = trace.head(bob.db, dispatch_id, 1)
    alice.step(lambda tx: sending.cancel(tx, dispatch_id, reason="never mind"))
    alice.deliver(bob)
    bob.db.execute("DELETE FROM outbox")
    assert thinned(alice, NOTHING_FITS) == [dispatch_id]
    signed = bob.context.sign_for(
        Result,
        alice.user,
        alice.device,
        dispatch_id=dispatch_id,
        dispatch_digest=alice.row(dispatch_id).digest,
        attempt=1,
        status="completed",
        head=head,
        count=count,
        files=(ref("out.txt", BACK),),
        reply="it was done already",
    )
    assert bob_says(bob, alice, signed.raw) == 200
    arrive(alice, BACK)
    assert (alice.row(dispatch_id).state, here(alice)) == ("completed", {BACK})
    proven = receipts.verify(gather(alice.db, alice.context.identity.device_set, dispatch_id))
    assert (proven.missing, proven.result.reply) == (count, "it was done already")
    first = alice.row(dispatch_id).thinned
    clock.pass_seconds(60)
    thinned(alice, NOTHING_FITS)
    assert here(alice) == set() and alice.row(dispatch_id).thinned > first


def test_a_sender_that_never_takes_a_result_fills_its_own_bound_alone(pair: Pair, small: int) -> None:
    """What waits for it is not removed, so nothing new of its is taken in."""
    _, alice, bob = pair
    for dispatch_id in [pending_with(pair, bytes([n]) * 5_000) for n in range(3)]:
        accept(bob, dispatch_id)
        bob.step(lambda tx: running.finish(tx, dispatch_id, 1, "failed"))  # noqa: B023
    assert thinned(bob, NOTHING_FITS) == []
    assert bob.receive(alice, signed_anew(alice, bob, bytes([9]) * 5_001)).code == 429


def other(pair: Pair, person: Person) -> Person:
    return pair[2] if person is pair[1] else pair[1]


def way(person: Person) -> Direction:
    return "sent" if person.name == "alice" else "received"


def pending_with(pair: Pair, content: bytes) -> str:
    _, alice, bob = pair
    put(alice, content)
    dispatch_id = send(alice, bob, files=(ref("in.txt", content),))
    alice.deliver(bob)
    arrive(bob, content)
    bob.deliver(alice)
    return dispatch_id


def signed_anew(alice: Person, bob: Person, content: bytes) -> bytes:
    """A dispatch that a modified client signs past its own bounds."""
    edge_id = alice.db.execute("SELECT edge_id FROM edges").fetchone()[0]
    return alice.context.sign_for(
        Dispatch,
        bob.user,
        bob.device,
        edge_id=edge_id,
        expires=alice.context.clock() + 3_600_000,
        content=Content(task="more", files=(ref("in.txt", content),)),
    ).raw


def test_a_clock_that_is_set_forward_makes_nothing_old(pair: Pair) -> None:
    """What is removed does not come back. Seen to fail while age was reckoned by the wall clock alone."""
    clock, _, bob = pair
    dispatch_id = finished(pair)
    ended = clock.now
    bob.context = replace(bob.context, steady=lambda: ended)
    clock.pass_seconds(400 * 86_400)
    rules = Rules(365 * 86_400_000, 1 << 30)
    assert thinned(bob, rules) == []
    bob.context = replace(bob.context, steady=clock)
    assert thinned(bob, rules) == [dispatch_id]
