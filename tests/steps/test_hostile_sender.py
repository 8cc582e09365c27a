"""Mallory may dispatch to Bob: what her modified client may do to his store with statements of her own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from peer.protocol import names
from peer.protocol.content import Content, FileRef
from peer.protocol.statements import Cancel, Dispatch
from peer.steps import inbound, receiving, sending
from peer.store import dispatches, lists, outbox, views
from tests.steps.people import Clock, Person, connect, people, send


@pytest.fixture
def three(tmp_path: Path) -> Iterator[tuple[Clock, Person, Person, Person]]:
    with people(tmp_path, "bob", "mallory", "alice") as (clock, bob, mallory, alice):
        connect(mallory, bob)
        connect(alice, bob)
        yield clock, bob, mallory, alice


def cancel(author: Person, bob: Person) -> int:
    """Cancel a dispatch that never was; return the answer's code."""
    unknown = names.uuid7(author.context.clock(), author.random(10))
    signed = author.context.sign_for(Cancel, bob.user, bob.device, dispatch_id=unknown)
    return bob.receive(author, signed.raw).code


def test_what_one_device_makes_us_remember_is_bounded(
    three: tuple[Clock, Person, Person, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, bob, mallory, alice = three
    monkeypatch.setattr(inbound, "MAX_REMEMBERED", outbox.remembered(bob.db, mallory.device) + 5)
    assert [cancel(mallory, bob) for _ in range(7)] == [200] * 5 + [503] * 2
    assert cancel(alice, bob) == 200  # it is Mallory's own bound
    dispatch_id = send(mallory, bob)
    (item,) = mallory.waiting(bob)
    assert bob.receive(mallory, item.raw).code == 503  # and passes: her courier brings it again
    clock.pass_seconds(inbound.KEPT_MS / 1000)
    bob.step(lambda tx: outbox.forget(tx.db, before=clock.now, most=100))
    assert outbox.remembered(bob.db, mallory.device) == 0
    assert bob.db.execute("SELECT count(*) FROM tombstones").fetchone()[0] == 0
    assert cancel(mallory, bob) == 200
    assert bob.receive(mallory, item.raw).code == 410
    assert mallory.row(dispatch_id).state == "queued"


def test_what_is_forgotten_is_not_taken_in_again(three: tuple[Clock, Person, Person, Person]) -> None:
    clock, bob, mallory, _ = three
    dispatch_id = send(mallory, bob, expires=86_400)
    (item,) = mallory.waiting(bob)
    assert bob.receive(mallory, item.raw).code == 200
    clock.pass_seconds(inbound.KEPT_MS / 1000 + 1)
    bob.step(lambda tx: outbox.forget(tx.db, before=clock.now - inbound.KEPT_MS, most=100))
    before = bob.dump()
    assert bob.receive(mallory, item.raw).code == 410
    assert {name: rows for name, rows in bob.dump().items() if name not in ("seen", "remembered")} == {
        name: rows for name, rows in before.items() if name not in ("seen", "remembered")
    }
    assert bob.row(dispatch_id).state == "pending"


def test_somebody_elses_dispatch_is_not_hers_to_touch(three: tuple[Clock, Person, Person, Person]) -> None:
    _, bob, mallory, alice = three
    dispatch_id = send(alice, bob)
    alice.deliver(bob)
    signed = mallory.context.sign_for(Cancel, bob.user, bob.device, dispatch_id=dispatch_id)
    assert bob.receive(mallory, signed.raw).code == 403
    # Nor may another of hers take its id, or use Alice's edge.
    row = bob.row(dispatch_id)
    own = mallory.context.sign_for(
        Dispatch,
        bob.user,
        bob.device,
        id=dispatch_id,
        edge_id=mallory.row(send(mallory, bob)).edge_id,
        expires=mallory.context.clock() + 3_600_000,
        content=Content(task="mine"),
    )
    assert bob.receive(mallory, own.raw).code == 409
    stolen = mallory.context.sign_for(
        Dispatch,
        bob.user,
        bob.device,
        edge_id=row.edge_id,
        expires=mallory.context.clock() + 3_600_000,
        content=Content(task="mine"),
    )
    assert bob.receive(mallory, stolen.raw).code == 403
    assert bob.row(dispatch_id) == row


def test_long_tasks_do_not_make_the_inbox_unreadable(three: tuple[Clock, Person, Person, Person]) -> None:
    clock, bob, mallory, _ = three
    task = "\x01" * 100_000
    for _ in range(3):
        dispatch_id = send(mallory, bob, task=task)
    mallory.deliver(bob)
    listed = lists.dispatch_list(bob.db, bob.user, clock.now, direction="received", status=None, limit=500, before=None)
    assert len(listed["dispatches"]) == 3
    assert all(
        row["task"] == task[:2_000] + "…" and "of 100,000 bytes" in row["task_cut"] for row in listed["dispatches"]
    )
    assert len(msgspec.json.encode(listed)) < 3 * 20_000
    whole = views.dispatch_document(bob.db, bob.user, clock.now, dispatch_id)
    assert whole["task"] == task and "task_cut" not in whole


def test_files_that_nobody_accepted_are_bounded_and_swept(
    three: tuple[Clock, Person, Person, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, bob, mallory, alice = three
    monkeypatch.setattr(receiving, "MAX_WAITING_BYTES", 2_500)
    file = FileRef("a.bin", 1_000, bytes(32))
    sent = [send(mallory, bob, files=(file,)) for _ in range(3)]
    assert [answer.code for _, answer in mallory.deliver(bob)] == [202, 202, 429]
    # What she takes back counts on: it was fetched all the same.
    mallory.step(lambda tx: sending.cancel(tx, sent[0], reason=""))
    send(mallory, bob, files=(file,))
    assert [answer.code for _, answer in mallory.deliver(bob)] == [200, 429]
    send(mallory, bob)
    send(alice, bob, files=(FileRef("b.bin", 1_000, bytes([1]) * 32),))
    assert [answer.code for _, answer in mallory.deliver(bob)] == [200]
    assert [answer.code for _, answer in alice.deliver(bob)] == [202]
    for _, item in dispatches.awaited_files(bob.db):
        bob.step(lambda tx: receiving.on_file_arrived(tx, item))  # noqa: B023
    assert dispatches.ready_digests(bob.db) == {bytes(32), bytes([1]) * 32}
    mallory.step(lambda tx: sending.cancel(tx, sent[1], reason=""))
    mallory.deliver(bob)
    assert dispatches.ready_digests(bob.db) == {bytes([1]) * 32}
    clock.pass_seconds(86_401)
    send(mallory, bob, files=(file,))
    assert [answer.code for _, answer in mallory.deliver(bob)] == [202]
