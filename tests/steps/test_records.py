"""What is reported of a run while it goes on: how events are put into statements, and how much of them is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from peer.dispatches import reports
from peer.dispatches.shortening import shortened
from peer.protocol.signing import open_as
from peer.protocol.statements import Events
from peer.steps import running
from peer.steps.effects import DispatchChanged, Effects
from peer.store import receipts, rows, trace
from tests.steps.people import Person, accept, connect, people, send

LARGEST, BATCH, MOST = 1_000, 2_000, 3


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Person, Person, str]]:
    """Alice and Bob, who runs what she sent; small bounds."""
    monkeypatch.setattr(running, "MAX_EVENT_BYTES", LARGEST)
    monkeypatch.setattr(running, "MAX_BATCH_BYTES", BATCH)
    monkeypatch.setattr(running, "MAX_EVENTS", MOST)
    with people(tmp_path, "alice", "bob") as (_, alice, bob):
        connect(alice, bob)
        dispatch_id = send(alice, bob)
        alice.deliver(bob)
        accept(bob, dispatch_id)
        bob.deliver(alice)
        yield alice, bob, dispatch_id


def event(size: int) -> str:
    """An event of this many bytes of UTF-8."""
    bare = len(msgspec.json.encode({"kind": "x", "t": ""}))
    text = msgspec.json.encode({"kind": "x", "t": "ü" * ((size - bare) // 2) + "." * ((size - bare) % 2)}).decode()
    assert len(text.encode()) == size
    return text


def record(bob: Person, dispatch_id: str, *texts: str) -> None:
    bob.step(lambda tx: running.record(tx, dispatch_id, 1, texts, texts))


def batches(person: Person, dispatch_id: str) -> list[tuple[str, ...]]:
    return [open_as(Events, raw)[0].events for raw in trace.batches(person.db, dispatch_id, 1)]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([LARGEST] * 3, [2, 1]),
        ([400, 400, 400, 400, 400], [3, 2]),
        ([800, 800, 400, 800, 800, 401], [3, 2, 1]),
        ([], []),
    ],
)
def test_a_batch_is_filled_to_its_bounds(
    pair: tuple[Person, Person, str], sizes: list[int], expected: list[int]
) -> None:
    _, bob, dispatch_id = pair
    record(bob, dispatch_id, *map(event, sizes))
    made = batches(bob, dispatch_id)
    assert [len(batch) for batch in made] == expected
    assert [text for batch in made for text in batch] == list(map(event, sizes))


def test_an_event_is_shortened_past_its_bound_and_not_at_it(pair: tuple[Person, Person, str]) -> None:
    _, bob, dispatch_id = pair
    fits, long = event(LARGEST), event(LARGEST + 1)
    record(bob, dispatch_id, fits, long)
    first, second = [text for batch in batches(bob, dispatch_id) for text in batch]
    assert first == fits
    assert second == shortened(long, LARGEST) != long
    assert [text for _, _, text in trace.events(bob.db, dispatch_id)] == [fits, long]


def output(letter: str, size: int) -> str:
    return msgspec.json.encode({"kind": "tool_result", "output": "head" + letter * size + "tail"}).decode()


def test_a_trace_that_grew_keeps_the_ends_of_long_texts_and_says_so(
    pair: tuple[Person, Person, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it is full, says that too, and ends; on both sides, and the chain and the result hold. Before, the rest
    was dropped without a word for the sender, and nothing bounded what stands here."""
    monkeypatch.setattr(running, "MAX_EVENT_BYTES", 200_000)
    monkeypatch.setattr(running, "MAX_BATCH_BYTES", 600_000)
    monkeypatch.setattr(reports, "WHOLE_BYTES", 1_000_000)
    monkeypatch.setattr(reports, "MAX_REPORTED_BYTES", 1_250_000)
    monkeypatch.setattr(reports, "MAX_TRACE_BYTES", 1_400_000)
    alice, bob, dispatch_id = pair
    for number in range(95):
        record(bob, dispatch_id, output("abcdefghij"[number % 10], 199_000))
    for person in (bob, alice):
        if person is alice:
            assert {answer.code for _, answer in bob.deliver(alice)} == {200}
        kept = [msgspec.json.decode(text) for _, _, text in trace.events(person.db, dispatch_id)]
        texts = [each["output"] for each in kept if each["kind"] == "tool_result"]
        notices = [position for position, each in enumerate(kept) if each["kind"] == "status"]
        assert [each["detail"][:22] for each in kept if each["kind"] == "status"] == [
            "this trace is long: fr",
            "this trace is full: it",
        ]
        assert notices == [3, len(kept) - 1]
        assert all(text.startswith("head") and text.endswith("tail") for text in texts)
        assert [len(text) for text in texts[:3]] == [199_008] * 3
        assert texts[3:] and all(len(text) < 2_000 and "characters left out" in text for text in texts[3:])
        assert person.row(dispatch_id).trace_bytes < 1_400_000
    bob.step(lambda tx: running.finish(tx, dispatch_id, 1, "failed"))
    assert [answer.code for _, answer in bob.deliver(alice)] == [200]
    assert alice.row(dispatch_id).state == "failed"
    assert len(receipts.gather(alice.db, alice.context.identity.device_set, dispatch_id).events) == len(
        batches(bob, dispatch_id)
    )


def test_nothing_is_recorded_past_the_bound(pair: tuple[Person, Person, str], monkeypatch: pytest.MonkeyPatch) -> None:
    alice, bob, dispatch_id = pair
    record(bob, dispatch_id, event(500))
    one = bob.row(dispatch_id).trace_bytes
    monkeypatch.setattr(reports, "MAX_REPORTED_BYTES", one + 1)
    record(bob, dispatch_id, event(500))
    full = bob.row(dispatch_id).trace_bytes
    bob.effects = Effects()
    record(bob, dispatch_id, event(400))
    assert DispatchChanged(dispatch_id) in bob.effects
    assert bob.row(dispatch_id).trace_bytes == full and len(batches(bob, dispatch_id)) == 2
    assert len(trace.events(bob.db, dispatch_id)) == 3  # the last of them is the notice
    bob.deliver(alice)
    assert len(trace.events(alice.db, dispatch_id)) == 3


def store_bytes(person: Person) -> int:
    person.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return person.context.state.store.stat().st_size


@pytest.mark.parametrize(
    ("size", "count"),
    [
        pytest.param(12, 256, id="tiny events"),
        pytest.param(12, 1, id="tiny batches"),
        pytest.param(9_000, 8, id="large"),
    ],
)
def test_what_a_trace_takes_on_disk_is_what_is_counted(
    pair: tuple[Person, Person, str], monkeypatch: pytest.MonkeyPatch, size: int, count: int
) -> None:
    """A modified client that reports as much as is taken. Seen to fail where the events' own bytes alone are counted:
    8 MB of tiny events took 80."""
    alice, bob, dispatch_id = pair
    most = 600_000
    monkeypatch.setattr(reports, "MAX_TRACE_BYTES", most)
    text = '{"kind":"x"}' if size == 12 else msgspec.json.encode({"kind": "x", "t": "y" * size}).decode()
    before, taken, code = store_bytes(alice), 0, 200
    while code == 200:
        number, head = trace.head(alice.db, dispatch_id, 1)
        signed = bob.context.sign_for(
            Events,
            alice.user,
            alice.device,
            dispatch_id=dispatch_id,
            attempt=1,
            sequence=number,
            previous=head,
            events=(text,) * count,
        )
        code = alice.receive(bob, signed.raw).code
        taken += code == 200
    assert code == 413 and taken > 2
    assert store_bytes(alice) - before < 1.15 * most


def test_an_interruption_closes_what_waited_and_is_seen_in_the_trace(pair: tuple[Person, Person, str]) -> None:
    _, bob, dispatch_id = pair
    now = bob.context.clock()
    bob.step(lambda tx: running.ask(tx, rows.Approval(dispatch_id, "c1", 1, "{}", now, now + 1, "", "")))
    assert bob.step(running.interrupt_all) == [dispatch_id]
    assert trace.open_approvals(bob.db) == []
    assert [msgspec.json.decode(text)["status"] for _, _, text in trace.events(bob.db, dispatch_id)] == ["interrupted"]
    # Another run of it may ask about a call of the same id, and is then asked about anew.
    accept(bob, dispatch_id)
    bob.effects = Effects()
    bob.step(lambda tx: running.ask(tx, rows.Approval(dispatch_id, "c1", 2, "{}", now, now + 1, "", "")))
    assert [item.attempt for item in trace.open_approvals(bob.db)] == [2]
    assert DispatchChanged(dispatch_id) in bob.effects
