"""A dispatch whose files are on the way: what brings it into the inbox, what ends it, and what leaves it alone."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from peer.protocol.statements import FileRef
from peer.steps import receiving, running, sending
from peer.steps.effects import DispatchChanged, Effects, FetchFiles
from peer.store import dispatches, rows
from tests.steps.people import Person, accept, connect, people, send

FILES = tuple(FileRef(name, 3, hashlib.sha256(name.encode()).digest()) for name in ("a.txt", "b.txt"))


@pytest.fixture
def arriving(tmp_path: Path) -> Iterator[tuple[Person, Person, str]]:
    with people(tmp_path, "alice", "bob") as (_, alice, bob):
        connect(alice, bob)
        dispatch_id = send(alice, bob, files=FILES)
        bob.effects = Effects()
        assert [answer.code for _, answer in alice.deliver(bob)] == [202]
        assert FetchFiles() in bob.effects
        bob.effects = Effects()
        yield alice, bob, dispatch_id


def awaited(person: Person) -> list[rows.File]:
    return [item for _, item in dispatches.awaited_files(person.db)]


def test_the_last_file_brings_it_into_the_inbox(arriving: tuple[Person, Person, str]) -> None:
    _, bob, dispatch_id = arriving
    for item, state in zip(awaited(bob), ("arriving", "pending"), strict=True):
        bob.effects = Effects()
        bob.step(lambda tx: receiving.on_file_arrived(tx, item))  # noqa: B023
        assert DispatchChanged(dispatch_id) in bob.effects
        assert bob.row(dispatch_id).state == state


def test_a_file_that_does_not_come_ends_it(arriving: tuple[Person, Person, str]) -> None:
    alice, bob, dispatch_id = arriving
    bob.step(lambda tx: receiving.on_file_refused(tx, awaited(bob)[0], "other bytes"))
    assert DispatchChanged(dispatch_id) in bob.effects
    assert awaited(bob) == []
    row = bob.row(dispatch_id)
    assert (row.state, row.code, row.message, row.fix) == (
        "rejected",
        422,
        "the file a.txt did not arrive: other bytes",
        "send it again",
    )
    bob.deliver(alice)
    theirs = alice.row(dispatch_id)
    assert (theirs.state, theirs.code) == ("rejected", 422)


@pytest.mark.parametrize("ended", [True, False])
def test_what_has_left_the_door_is_not_moved_by_its_files(arriving: tuple[Person, Person, str], ended: bool) -> None:
    """A fetch that ends late, or twice, finds the dispatch decided already."""
    alice, bob, dispatch_id = arriving
    first, second = awaited(bob)
    if ended:
        alice.step(lambda tx: sending.cancel(tx, dispatch_id, reason=""))
        alice.deliver(bob)
    else:
        for item in (first, second):
            bob.step(lambda tx: receiving.on_file_arrived(tx, item))  # noqa: B023
    state = bob.row(dispatch_id).state
    waiting = [item.raw for item in bob.waiting(alice)]
    for late in (
        lambda tx: receiving.on_file_refused(tx, first, "late"),
        lambda tx: receiving.on_file_arrived(tx, first),
        lambda tx: receiving.on_file_arrived(tx, second),
    ):
        bob.step(late)
        assert bob.row(dispatch_id).state == state
        assert [item.raw for item in bob.waiting(alice)] == waiting


def test_returned_files_move_no_state(tmp_path: Path) -> None:
    with people(tmp_path, "alice", "bob") as (_, alice, bob):
        connect(alice, bob)
        dispatch_id = send(alice, bob)
        alice.deliver(bob)
        accept(bob, dispatch_id)
        bob.step(lambda tx: running.finish(tx, dispatch_id, 1, "failed", files=FILES))
        alice.effects = Effects()
        bob.deliver(alice)
        assert FetchFiles() in alice.effects
        first, second = awaited(alice)
        alice.step(lambda tx: receiving.on_file_arrived(tx, first))
        alice.effects = Effects()
        alice.step(lambda tx: receiving.on_file_refused(tx, second, "gone"))
        assert DispatchChanged(dispatch_id) in alice.effects
        assert alice.row(dispatch_id).state == "failed"
        assert alice.waiting(bob) == [] and awaited(alice) == []


def test_files_of_a_dispatch_that_was_forgotten_are_nobodys(arriving: tuple[Person, Person, str]) -> None:
    _, bob, _ = arriving
    unknown = dataclasses.replace(awaited(bob)[0], dispatch_id="0192f0c1-7a3b-7c44-9d2e-5b6a7c8d9e0f")
    bob.step(lambda tx: receiving.on_file_refused(tx, unknown, "gone"))
    bob.step(lambda tx: receiving.on_file_arrived(tx, unknown))
