"""What is reported of a run while it goes on: how events are put into statements, and how much of them is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from peer.dispatches import reports
from peer.protocol.statements import Events, open_as
from peer.steps import running
from peer.steps.effects import DispatchChanged, Effects
from peer.store import rows, trace
from tests.steps.people import Person, accept, connect, people, send

LARGEST, BATCH, MOST = 100, 200, 3


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
        ([40, 40, 40, 40, 40], [3, 2]),
        ([80, 80, 40, 80, 80, 41], [3, 2, 1]),
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
    fits, shortened = event(LARGEST), event(LARGEST + 1)
    record(bob, dispatch_id, fits, shortened)
    (first,), (second,) = batches(bob, dispatch_id)
    assert first == fits
    assert msgspec.json.decode(second) == {**msgspec.json.decode(shortened), "shortened_from": len(shortened)}
    assert [text for _, _, text in trace.events(bob.db, dispatch_id)] == [fits, shortened]


def test_members_of_a_thousand_characters_stay_in_a_shortened_event(pair: tuple[Person, Person, str]) -> None:
    _, bob, dispatch_id = pair
    record(bob, dispatch_id, msgspec.json.encode({"kind": "x", "kept": "k" * 1_000, "left": "l" * 1_001}).decode())
    ((text,),) = batches(bob, dispatch_id)
    assert msgspec.json.decode(text).keys() == {"kind", "kept", "shortened_from"}


def test_a_trace_is_reported_up_to_its_bound(pair: tuple[Person, Person, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest stays here, where the person who runs it sees it."""
    alice, bob, dispatch_id = pair
    record(bob, dispatch_id, event(50))
    one = bob.row(dispatch_id).trace_bytes
    monkeypatch.setattr(reports, "MAX_REPORTED_BYTES", 2 * one)
    record(bob, dispatch_id, event(50))
    assert bob.row(dispatch_id).trace_bytes == 2 * one
    bob.effects = Effects()
    record(bob, dispatch_id, event(40))
    assert DispatchChanged(dispatch_id) in bob.effects
    assert bob.row(dispatch_id).trace_bytes == 2 * one and len(batches(bob, dispatch_id)) == 2
    assert len(trace.events(bob.db, dispatch_id)) == 3
    bob.deliver(alice)
    assert len(trace.events(alice.db, dispatch_id)) == 2


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
