"""Bytes of files go with the last row that needs them, on both sides, and each row says what is there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from peer.protocol.statements import FileRef
from peer.steps import freeing, granting, receiving, running, sending
from peer.steps.effects import BlobsFreed, Effects
from peer.store import dispatches, views
from peer.store.rows import FileState
from tests.steps.people import Clock, Person, accept, connect, people, send

Pair = tuple[Clock, Person, Person]

CONTENT = b"the same bytes"
FILE = FileRef("a.txt", len(CONTENT), hashlib.sha256(CONTENT).digest())


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with people(tmp_path, "alice", "bob") as (clock, alice, bob):
        connect(alice, bob)
        yield clock, alice, bob


def put(person: Person, ref: FileRef = FILE, content: bytes = CONTENT) -> None:
    person.context.blobs.destination(ref.digest).write_bytes(content)


def here(person: Person) -> list[str]:
    return sorted(path.name for path in person.context.blobs.folder.rglob("*") if path.is_file())


def arrive(person: Person) -> None:
    for _, item in dispatches.awaited_files(person.db):
        put(person)
        person.step(lambda tx: receiving.on_file_arrived(tx, item))  # noqa: B023


def tidy(person: Person) -> bool:
    """Do what the node does after the effects of the steps; return whether a step asked for it."""
    asked = BlobsFreed() in person.effects
    person.effects = Effects()
    while asked and person.step(freeing.remove_freed):
        pass
    return asked


def dispatched(pair: Pair) -> str:
    """A dispatch with a file, in Bob's inbox."""
    _, alice, bob = pair
    put(alice)
    dispatch_id = send(alice, bob, files=(FILE,))
    alice.deliver(bob)
    arrive(bob)
    bob.deliver(alice)
    return dispatch_id


def declined(pair: Pair, dispatch_id: str) -> None:
    pair[2].step(lambda tx: receiving.decline(tx, dispatch_id, reason="no"))


def cancelled(pair: Pair, dispatch_id: str) -> None:
    pair[1].step(lambda tx: sending.cancel(tx, dispatch_id, reason="never mind"))


def cancelled_there(pair: Pair, dispatch_id: str) -> None:
    bob = pair[2]
    bob.step(lambda tx: receiving.cancel(tx, bob.row(dispatch_id), reason="no"))


def expired(pair: Pair, dispatch_id: str) -> None:
    for person in pair[1:]:
        person.step(lambda tx: receiving.expire(tx, person.row(dispatch_id)))  # noqa: B023


def declined_while_it_ran(pair: Pair, dispatch_id: str) -> None:
    accept(pair[2], dispatch_id)
    declined(pair, dispatch_id)


def revoked_while_it_waited(pair: Pair, dispatch_id: str) -> None:
    _, alice, bob = pair
    bob.step(lambda tx: granting.revoke(tx, alice.user))


ENDS = [declined, cancelled, cancelled_there, expired, declined_while_it_ran, revoked_while_it_waited]


@pytest.mark.parametrize("end", ENDS)
def test_an_end_without_a_reply_frees_the_attachments_on_both_sides(
    pair: Pair, end: Callable[[Pair, str], None]
) -> None:
    """Seen to fail (each) without `let_go_attachments`: until a restart both sides kept them, and rows said `ready`."""
    _, alice, bob = pair
    dispatch_id = dispatched(pair)
    assert here(alice) == here(bob) == [FILE.digest.hex()]
    end(pair, dispatch_id)
    for giver, taker in ((alice, bob), (bob, alice)):
        giver.deliver(taker)
    for person in (alice, bob):
        assert tidy(person)
        assert here(person) == []
        document = views.dispatch_document(person.db, person.user, person.context.clock(), dispatch_id)
        assert [(file["ready"], file["withheld"], file["removed"]) for file in document["files"]] == [
            (False, False, True)
        ]


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_the_attachments_of_a_run_that_ended_stay(pair: Pair, status: str) -> None:
    _, alice, bob = pair
    dispatch_id = dispatched(pair)
    accept(bob, dispatch_id)
    bob.step(lambda tx: running.start(tx, dispatch_id, 1))
    bob.step(lambda tx: running.finish(tx, dispatch_id, 1, status))  # type: ignore[arg-type]  # one of the two
    bob.deliver(alice)
    for person in (alice, bob):
        tidy(person)
        assert here(person) == [FILE.digest.hex()]


def test_bytes_that_another_row_needs_stay_until_it_goes_too(pair: Pair) -> None:
    """Seen to fail where a row's blob goes with the row."""
    _, _, bob = pair
    first, second = dispatched(pair), dispatched(pair)
    declined(pair, first)
    tidy(bob)
    assert here(bob) == [FILE.digest.hex()]
    declined(pair, second)
    tidy(bob)
    assert here(bob) == []


def test_bytes_that_are_awaited_again_stay(pair: Pair) -> None:
    """A fetch puts them in their place before its row says so."""
    _, alice, bob = pair
    first = dispatched(pair)
    send(alice, bob, files=(FILE,))
    alice.deliver(bob)
    put(bob)
    declined(pair, first)
    tidy(bob)
    assert here(bob) == [FILE.digest.hex()]


def test_a_file_that_comes_after_the_end_goes_again(pair: Pair) -> None:
    """The fetch was under way when its dispatch ended. Seen to fail where any file that comes is marked ready."""
    _, alice, bob = pair
    put(alice)
    dispatch_id = send(alice, bob, files=(FILE,))
    alice.deliver(bob)
    [(_, item)] = dispatches.awaited_files(bob.db)
    part = bob.context.blobs.part(FILE.digest, alice.device)
    bob.context.blobs.destination(FILE.digest)
    part.write_bytes(b"half")
    cancelled(pair, dispatch_id)
    alice.deliver(bob)
    assert tidy(bob)
    assert here(bob) == []  # its partial file too
    put(bob)
    bob.step(lambda tx: receiving.on_file_arrived(tx, item))
    assert tidy(bob)
    assert here(bob) == []
    [file] = dispatches.files(bob.db, dispatch_id, "attachment")
    assert file.state is FileState.GIVEN_UP


def test_what_was_let_go_survives_a_crash(pair: Pair) -> None:
    """The list of what to remove is in the store, so a step whose effects were never carried out loses nothing."""
    _, _, bob = pair
    declined(pair, dispatched(pair))
    bob.effects = Effects()
    while bob.step(freeing.remove_freed):
        pass
    assert here(bob) == []
    assert bob.db.execute("SELECT count(*) FROM freed_blobs").fetchone()[0] == 0


def test_many_are_removed_in_several_transactions(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freeing, "AT_ONCE", 2)
    _, _, bob = pair
    for number in range(5):
        digest = hashlib.sha256(bytes([number])).digest()
        put(bob, FileRef("x", 1, digest), b"x")
        bob.db.execute("INSERT INTO freed_blobs VALUES (?)", (digest,))
    assert [bob.step(freeing.remove_freed) for _ in range(3)] == [True, True, False]
    assert here(bob) == []
