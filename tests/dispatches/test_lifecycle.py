"""The tables of a dispatch's life: what they promise, walked exhaustively and at random, and shown in the docs."""

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.dispatches import lifecycle
from peer.dispatches.lifecycle import FINAL, FIRST, RECIPIENT, SENDER, TABLES, Event, Side, State
from peer.protocol.errors import Conflict, DispatchError, Gone

SIDES: tuple[Side, ...] = get_args(Side)
STATES: tuple[State, ...] = get_args(State)
EVENTS: tuple[Event, ...] = get_args(Event)
DOC = Path(__file__).parents[2] / "docs" / "lifecycle.md"


def walk(side: Side, *events: Event) -> State:
    state = FIRST[side]
    for event in events:
        state = lifecycle.next_state(side, state, event)
    return state


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("end", ["completed", "failed", "declined", "cancelled"])
def test_the_usual_life(side: Side, end: Event) -> None:
    assert walk(side, "verified") == "pending"
    assert walk(side, "verified", "accepted") == "accepted"
    assert walk(side, "verified", "accepted", "started") == "running"
    assert walk(side, "verified", "accepted", "started", end) == end


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("end", ["declined", "cancelled", "expired", "rejected"])
def test_the_side_exits_of_one_that_waits(side: Side, end: Event) -> None:
    assert walk(side, "verified", end) == end


@pytest.mark.parametrize("side", SIDES)
def test_an_interrupted_run_needs_a_new_accept(side: Side) -> None:
    assert walk(side, "verified", "accepted", "started", "interrupted") == "pending"
    assert walk(side, "verified", "accepted", "interrupted") == "pending"
    with pytest.raises(Conflict):
        walk(side, "verified", "accepted", "interrupted", "started")
    assert walk(side, "verified", "accepted", "interrupted", "accepted", "started", "completed") == "completed"


@pytest.mark.parametrize("end", ["completed", "failed", "declined", "cancelled"])
def test_a_held_result_is_sent_or_not_and_nothing_else(end: Event) -> None:
    held = walk("recipient", "verified", "accepted", "started", "held")
    assert held == "held" and held in lifecycle.RUN_OVER and held not in FINAL
    assert lifecycle.next_state("recipient", "held", end) == end
    assert set(RECIPIENT["held"]) == {"completed", "failed", "declined", "cancelled"}
    assert not any("held" in row for row in SENDER.values()), "its sender is not told by a state"


def test_a_recipient_leaves_no_final_state() -> None:
    for state in FINAL:
        assert RECIPIENT[state] == {}


def test_a_sender_learns_of_an_acceptance_that_crossed_its_deadline() -> None:
    assert walk("sender", "verified", "expired", "accepted", "started", "completed") == "completed"


def test_a_sender_learns_how_a_run_ended_that_crossed_its_cancellation() -> None:
    assert walk("sender", "verified", "cancelled", "accepted", "started", "completed") == "completed"
    assert walk("sender", "verified", "cancelled", "accepted", "started", "cancelled") == "cancelled"


@pytest.mark.parametrize("side", SIDES)
def test_the_tables_name_every_state_and_only_reachable_ones_lead_on(side: Side) -> None:
    table = TABLES[side]
    reached, frontier = {FIRST[side]}, [FIRST[side]]
    while frontier:
        for after in table[frontier.pop()].values():
            if after not in reached:
                reached.add(after)
                frontier.append(after)
    assert set(table) == reached
    assert set(STATES) - reached == ({"arriving", "held"} if side == "sender" else {"queued"})
    for state in reached - FINAL:
        assert set(table[state].values()) - {state}, f"{state} leads nowhere"


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("event", EVENTS)
def test_what_is_not_listed_is_refused_by_its_reason(side: Side, state: State, event: Event) -> None:
    if lifecycle.allows(side, state, event):
        assert lifecycle.next_state(side, state, event) == TABLES[side][state][event]
        return
    with pytest.raises((Conflict, Gone)) as refused:
        lifecycle.next_state(side, state, event)
    assert refused.value.message.startswith("nothing pending: ") and refused.value.fix
    assert refused.value.code == (410 if state == "expired" else 409)


@given(st.lists(st.sampled_from(EVENTS), max_size=30), st.lists(st.booleans(), min_size=30, max_size=30))
def test_the_sender_ends_as_the_recipient_did_whatever_crosses(events: list[Event], late: list[bool]) -> None:
    """The recipient acts; what it did is told in order. Meanwhile the sender may cancel or see its time pass."""
    theirs, mine = FIRST["recipient"], FIRST["sender"]
    for event, meanwhile in zip(events, late, strict=False):
        if meanwhile and mine not in FINAL:
            mine = lifecycle.decide("sender", mine, "cancelled")
        try:
            theirs = lifecycle.next_state("recipient", theirs, event)
        except DispatchError:
            continue
        mine = lifecycle.next_state("sender", mine, event)
    if theirs in ("completed", "failed", "declined"):
        assert mine == theirs
    elif theirs in FINAL:
        assert mine in (theirs, "cancelled")
    else:
        assert mine in (theirs, "cancelled", "queued")


@given(st.lists(st.sampled_from(EVENTS), max_size=30), st.integers(0, 30))
def test_the_sender_follows_a_recipient_after_its_own_deadline(events: list[Event], at: int) -> None:
    theirs, mine = FIRST["recipient"], FIRST["sender"]
    for step, event in enumerate(events):
        if step == at and lifecycle.allows("sender", mine, "expired") and mine not in FINAL:
            mine = lifecycle.decide("sender", mine, "expired")
        if not lifecycle.allows("recipient", theirs, event):
            continue
        theirs = lifecycle.next_state("recipient", theirs, event)
        mine = lifecycle.next_state("sender", mine, event)
    if theirs in FINAL or theirs in ("accepted", "running"):
        assert mine == theirs


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("state", sorted(FINAL))
@pytest.mark.parametrize("event", EVENTS)
def test_nobody_here_decides_what_has_ended(side: Side, state: State, event: Event) -> None:
    with pytest.raises((Conflict, Gone)) as refused:
        lifecycle.decide(side, state, event)
    assert refused.value.message.startswith("nothing pending: ")


def test_the_first_interruption_starts_the_time_anew_and_no_later_one() -> None:
    times = {"lifetime": 60_000, "deadline": 61_000}
    assert lifecycle.deadline_after_interruption(now=500_000, **times, earlier_interruptions=0) == 560_000
    assert lifecycle.deadline_after_interruption(now=900_000, **times, earlier_interruptions=1) == 61_000


def test_news_that_changes_nothing_is_listed_where_it_can_cross() -> None:
    """The diagrams leave these out, so that nothing else would notice one more or one less."""

    def unmoved(side: Side) -> set[tuple[State, Event]]:
        return {(state, event) for state, row in TABLES[side].items() for event, after in row.items() if after == state}

    crossing: set[Event] = {"verified", "accepted", "started", "interrupted", "cancelled", "expired", "rejected"}
    repeated: set[tuple[State, Event]] = {("pending", "verified"), ("running", "started")}
    assert unmoved("recipient") == set()
    assert unmoved("sender") == repeated | {("expired", "verified"), ("expired", "expired")} | {
        ("cancelled", event) for event in crossing
    }


@pytest.mark.parametrize(
    ("state", "event", "words"),
    [
        ("arriving", "accepted", "not all arrived yet"),
        ("pending", "started", "a dispatch that is pending cannot be started"),
        ("completed", "accepted", "already completed"),
        ("expired", "started", "expired before it was accepted"),
    ],
)
def test_a_refusal_says_what_the_dispatch_is(state: State, event: Event, words: str) -> None:
    with pytest.raises(DispatchError, match=words):
        lifecycle.next_state("recipient", state, event)


@pytest.mark.parametrize("side", SIDES)
def test_the_docs_show_the_tables(side: Side) -> None:
    diagram = lifecycle.mermaid(side)
    assert f"```mermaid\n{diagram}```\n" in DOC.read_text(), f"docs/lifecycle.md lacks:\n{diagram}"
    table = SENDER if side == "sender" else RECIPIENT
    for state, row in table.items():
        for event, after in row.items():
            assert (f"    {state} --> {after}: {event}\n" in diagram) == (state != after)
