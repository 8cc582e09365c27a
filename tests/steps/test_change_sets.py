"""What is recorded of a run's changes: kept once, put in place, taken back, thrown away, and removed at last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from peer.dispatches import retention
from peer.dispatches.retention import Rules
from peer.node.notifications import notifications_for
from peer.protocol.errors import Conflict, Gone, NotFound, RateLimited
from peer.steps import change_sets as steps
from peer.steps import running, thinning
from peer.steps.effects import ChangesFreed, DispatchChanged
from peer.store import change_sets, history, lists, rows, views
from tests.steps.people import Clock, Person, accept, connect, people, send

Pair = tuple[Clock, Person, Person]
DIGEST = b"d" * 32


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with people(tmp_path, "alice", "bob") as (clock, alice, bob):
        connect(alice, bob)
        yield clock, alice, bob


def run(pair: Pair) -> str:
    """A dispatch of which Bob has accepted and begun the first attempt."""
    _, alice, bob = pair
    dispatch_id = send(alice, bob, "mend the kettle")
    alice.deliver(bob)
    row = accept(bob, dispatch_id)
    bob.step(lambda tx: running.start(tx, dispatch_id, row.attempt))
    return dispatch_id


def change_set(dispatch_id: str, *, attempt: int = 1, decidable: int = 3, size: int = 1_000) -> rows.ChangeSetRow:
    state: rows.ChangeSetState = "waiting" if decidable else "closed"
    return rows.ChangeSetRow(dispatch_id, attempt, DIGEST, 5, decidable, size, decidable, state, 1)


def keep(bob: Person, item: rows.ChangeSetRow, *, land: frozenset[int] = frozenset()) -> rows.Landing | None:
    folder = steps.folder_of(bob.context.state, item.dispatch_id, item.attempt)
    return bob.step(lambda tx: steps.keep(tx, item, lambda: folder.mkdir(parents=True), land=land))


def stored(bob: Person, dispatch_id: str, attempt: int = 1) -> rows.ChangeSetRow:
    found = change_sets.get(bob.db, dispatch_id, attempt)
    assert found is not None
    return found


def land(bob: Person, item: rows.ChangeSetRow, entries: set[int], *, size: int = 1_500) -> rows.Landing:
    landing = bob.step(lambda tx: steps.begin(tx, item, entries))
    bob.step(lambda tx: steps.finish(tx, landing, decidable={0, 1, 2}, size=size))
    return landing


def summary(bob: Person, dispatch_id: str) -> list[tuple[str, str, int, int]]:
    shown = views.dispatch_document(bob.db, bob.user, bob.context.clock(), dispatch_id)["changes"]
    return [(row["state"], row["landed"], row["in_place"], row["waits"]) for row in shown]


def held(bob: Person, dispatch_id: str) -> int:
    return bob.row(dispatch_id).kept_bytes


def test_a_change_set_is_kept_once_and_counts_as_kept(pair: Pair) -> None:
    bob = pair[2]
    dispatch_id = run(pair)
    assert summary(bob, dispatch_id) == []
    assert keep(bob, change_set(dispatch_id)) is None
    assert DispatchChanged(dispatch_id) in bob.effects
    assert summary(bob, dispatch_id) == [("waiting", "waiting", 0, 3)]
    assert held(bob, dispatch_id) == 1_000
    again = change_set(dispatch_id, size=9)

    def never() -> None:
        raise AssertionError("moved a second time")

    assert bob.step(lambda tx: steps.keep(tx, again, never, land={0})) is None
    assert held(bob, dispatch_id) == 1_000


def test_what_is_for_another_dispatch_is_not_kept(pair: Pair) -> None:
    with pytest.raises(NotFound):
        keep(pair[2], change_set("019a0000-0000-7000-8000-000000000000"))


def test_entries_land_once_and_the_rest_waits(pair: Pair) -> None:
    bob = pair[2]
    dispatch_id = run(pair)
    item = change_set(dispatch_id)
    keep(bob, item)
    land(bob, item, {0, 2})
    assert summary(bob, dispatch_id) == [("waiting", "part", 2, 1)]
    assert held(bob, dispatch_id) == 1_500
    with pytest.raises(Conflict, match="in place already") as refused:
        bob.step(lambda tx: steps.begin(tx, item, {1, 2}))
    assert refused.value.fix == f"see `dispatch changes {dispatch_id}`"
    land(bob, item, {1})
    assert summary(bob, dispatch_id) == [("closed", "all", 3, 0)]
    with pytest.raises(Conflict, match="waiting any more"):
        bob.step(lambda tx: steps.begin(tx, item, {1}))


def test_the_end_of_a_run_begins_a_landing_in_the_same_step(pair: Pair) -> None:
    bob = pair[2]
    dispatch_id = run(pair)
    landing = keep(bob, change_set(dispatch_id), land=frozenset({0, 1}))
    assert landing is not None and landing.numbers == {0, 1} and landing.state == "begun"
    assert change_sets.unfinished(bob.db) == [landing]
    assert summary(bob, dispatch_id) == [("waiting", "waiting", 0, 3)]
    bob.step(lambda tx: steps.give_up(tx, landing))
    assert change_sets.unfinished(bob.db) == []
    assert change_sets.landings(bob.db, dispatch_id, 1) == []


def test_an_unasked_landing_is_begun_again_once(pair: Pair) -> None:
    bob = pair[2]
    dispatch_id = run(pair)
    item = change_set(dispatch_id)
    landing = keep(bob, item, land=frozenset({0, 2}))
    assert landing is not None and landing.unasked
    again = bob.step(lambda tx: steps.begin_again(tx, item, landing))
    assert again.numbers == {0, 2} and not again.unasked
    assert change_sets.unfinished(bob.db) == [again]


def test_one_landing_at_a_time(pair: Pair) -> None:
    bob = pair[2]
    dispatch_id = run(pair)
    item = change_set(dispatch_id)
    keep(bob, item, land=frozenset({0}))
    for work in (
        lambda tx: steps.begin(tx, item, {1}),
        lambda tx: steps.begin_undo(tx, item),
        lambda tx: steps.discard(tx, item, size=1),
    ):
        with pytest.raises(Conflict, match="now"):
            bob.step(work)


def test_other_changes_than_those_seen_do_not_land(pair: Pair) -> None:
    bob = pair[2]
    dispatch_id = run(pair)
    item = change_set(dispatch_id)
    keep(bob, item)
    other = rows.ChangeSetRow(dispatch_id, 1, b"x" * 32, 5, 3, 1_000, 3, "waiting", 1)
    with pytest.raises(Conflict, match="changed since you saw them"):
        bob.step(lambda tx: steps.begin(tx, other, {1}))


def test_the_last_landing_is_taken_back_and_what_stays_stays(pair: Pair) -> None:
    bob = pair[2]
    dispatch_id = run(pair)
    item = change_set(dispatch_id)
    keep(bob, item)
    with pytest.raises(Conflict, match="no change of this run is in place"):
        bob.step(lambda tx: steps.begin_undo(tx, item))
    land(bob, item, {0})
    land(bob, item, {1, 2})
    undoing = bob.step(lambda tx: steps.begin_undo(tx, item))
    assert undoing.numbers == {1, 2} and [each.state for each in change_sets.unfinished(bob.db)] == ["undoing"]
    bob.step(lambda tx: steps.finish_undo(tx, undoing, stay={2}, decidable={0, 1, 2}, size=900))
    assert summary(bob, dispatch_id) == [("waiting", "part", 2, 1)]
    assert held(bob, dispatch_id) == 900
    again = bob.step(lambda tx: steps.begin_undo(tx, item))
    assert again.numbers == {2}
    bob.step(lambda tx: steps.finish_undo(tx, again, stay=(), decidable={0, 1, 2}, size=900))
    last = bob.step(lambda tx: steps.begin_undo(tx, item))
    assert last.numbers == {0}
    bob.step(lambda tx: steps.finish_undo(tx, last, stay=(), decidable={0, 1, 2}, size=900))
    assert summary(bob, dispatch_id) == [("waiting", "waiting", 0, 3)]


def test_what_is_thrown_away_goes_unless_something_of_it_is_in_place(pair: Pair) -> None:
    bob = pair[2]
    first, second = run(pair), run(pair)
    for dispatch_id in (first, second):
        keep(bob, change_set(dispatch_id))
    land(bob, stored(bob, second), {0})
    for dispatch_id in (first, second):
        bob.step(lambda tx: steps.discard(tx, stored(bob, dispatch_id), size=700))  # noqa: B023
    assert summary(bob, first) == [("removed", "none", 0, 0)]
    assert summary(bob, second) == [("closed", "part", 1, 0)]
    assert (held(bob, first), held(bob, second)) == (0, 700)
    assert ChangesFreed() in bob.effects
    with pytest.raises(Conflict, match="waiting any more"):
        bob.step(lambda tx: steps.discard(tx, stored(bob, second), size=1))


def test_contents_that_no_row_needs_are_set_aside_and_no_others(pair: Pair) -> None:
    bob = pair[2]
    first, second = run(pair), run(pair)
    bob.step(lambda tx: steps.sweep(tx, lambda folder: pytest.fail(str(folder))))  # no folder yet
    for dispatch_id in (first, second):
        keep(bob, change_set(dispatch_id))
    bob.step(lambda tx: steps.discard(tx, stored(bob, first), size=1))
    changes = bob.context.state.changes
    for more in (changes / second / "2", changes / second / ".1-abcd", changes / "of-nothing", changes / ".trash"):
        more.mkdir()
    found: list[Path] = []
    bob.step(lambda tx: steps.sweep(tx, found.append))
    assert set(found) == {
        changes / first / "1", changes / second / "2", changes / second / ".1-abcd", changes / "of-nothing"
    }  # fmt: skip


def test_changes_that_wait_keep_a_dispatch_and_others_go_with_it(pair: Pair) -> None:
    bob = pair[2]
    everything = Rules(keep_ms=0, keep_bytes=0)
    waits, closed = run(pair), run(pair)
    for dispatch_id in (waits, closed):
        keep(bob, change_set(dispatch_id))
        bob.step(lambda tx: running.finish(tx, dispatch_id, 1, "completed", reply="boiled"))  # noqa: B023
    land(bob, stored(bob, closed), {0, 1, 2})
    bob.deliver(pair[1])
    bob.effects.merge(type(bob.effects)())
    while bob.step(lambda tx: thinning.thin_ended(tx, everything)):
        pass
    assert bob.row(waits).thinned == 0 and stored(bob, waits).state == "waiting"
    assert bob.row(closed).thinned > 0 and stored(bob, closed).state == "removed"
    assert held(bob, closed) == 0 and ChangesFreed() in bob.effects


def test_changes_that_wait_fill_the_room_of_a_contact(pair: Pair) -> None:
    """Nothing new is taken then, since what waits for a person is never removed to make room."""
    _, alice, bob = pair
    dispatch_id, waiting = run(pair), send(alice, bob)
    alice.deliver(bob)
    keep(bob, change_set(dispatch_id, size=retention.CONTACT_BYTES))
    bob.step(lambda tx: running.finish(tx, dispatch_id, 1, "completed", reply="boiled"))
    bob.deliver(alice)

    def check() -> None:
        bob.step(lambda tx: thinning.check_room(tx, alice.user, "received", 1, fix="decide about the changes"))

    with pytest.raises(RateLimited):
        check()
    with pytest.raises(RateLimited, match="take up 2,048 MB") as full:  # seen to run without the look in accept()
        accept(bob, waiting)
    assert "`dispatch inbox`" in full.value.fix and bob.row(waiting).state == "pending"
    bob.step(lambda tx: steps.discard(tx, stored(bob, dispatch_id), size=0))
    check()
    assert accept(bob, waiting).state == "accepted"


def test_a_list_and_a_notification_say_that_changes_wait(pair: Pair) -> None:
    _, alice, bob = pair
    dispatch_id = run(pair)
    keep(bob, change_set(dispatch_id))

    def listed() -> object:
        rows_ = lists.dispatch_list(
            bob.db, bob.user, bob.context.clock(), direction="received", status=None, limit=5, before=None
        )["dispatches"]
        return next(row for row in rows_ if row["dispatch_id"] == dispatch_id).get("changes_waiting")

    def waits() -> list[str]:
        return [row["dispatch_id"] for row in lists.waiting_list(bob.db, bob.user, now(), limit=5)["dispatches"]]

    def now() -> int:
        return bob.context.clock()

    def noticed() -> list[str]:
        sets = change_sets.of_dispatch(bob.db, dispatch_id)
        return [each.what for each in notifications_for(bob.row(dispatch_id), [], sets, since=1)]

    pending = send(alice, bob)
    alice.deliver(bob)
    assert listed() == 3 and noticed() == ["changed"]
    assert waits() == [pending, dispatch_id], "what is undecided comes first"
    found = history.search(bob.db, bob.user, now(), query=pending[:23].upper(), limit=5)["dispatches"]
    assert [row["dispatch_id"] for row in found] == [pending], "by the beginning of its id"
    land(bob, stored(bob, dispatch_id), {0, 1, 2})
    assert listed() is None and noticed() == []
    assert waits() == [pending]


def test_the_change_set_that_is_meant(pair: Pair) -> None:
    def one(attempt: int, state: rows.ChangeSetState) -> rows.ChangeSetRow:
        waits = 1 if state == "waiting" else 0
        return rows.ChangeSetRow("d", attempt, DIGEST, 1, 1, 1, waits, state, 1)

    every = [one(1, "waiting"), one(2, "closed"), one(3, "removed")]
    assert steps.latest(every, "d", None).attempt == 1
    assert steps.latest(every[1:], "d", None).attempt == 2
    assert steps.latest(every, "d", 2).attempt == 2
    with pytest.raises(Gone):
        steps.latest(every, "d", 3)
    for known, attempt in ((every, 4), ([], None)):
        with pytest.raises(NotFound):
            steps.latest(known, "d", attempt)


def test_each_decision_is_told_to_whoever_looks_on(pair: Pair) -> None:
    bob = pair[2]
    dispatch_id = run(pair)

    def told() -> bool:
        found = DispatchChanged(dispatch_id) in bob.effects
        bob.effects = type(bob.effects)()
        return found

    told()
    keep(bob, change_set(dispatch_id))
    assert told()
    landing = bob.step(lambda tx: steps.begin(tx, stored(bob, dispatch_id), {0}))
    told()
    bob.step(lambda tx: steps.give_up(tx, landing))
    assert told()
    landing = bob.step(lambda tx: steps.begin(tx, stored(bob, dispatch_id), {0}))
    told()
    bob.step(lambda tx: steps.finish(tx, landing, decidable={0, 1, 2}, size=1))
    assert told()
    bob.step(lambda tx: steps.discard(tx, stored(bob, dispatch_id), size=1))
    assert told()
