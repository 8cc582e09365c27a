"""Turns of strangers: one at a time, in order, and nobody is held up by one that does not come to an end."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from peer.protocol.turns import PASSES, Place, Turns


class Loop:
    """The event loop: what is to be done in the next pass."""

    def __init__(self) -> None:
        self._next: list[Callable[[], object]] = []
        self.turns = Turns(self._next.append)
        self.went_on: list[object] = []

    def ask(self, who: object) -> None:
        self.turns.ask(who, lambda: self.went_on.append(who))

    def run(self) -> int:
        """One pass; return how many went on in it."""
        before = len(self.went_on)
        now, self._next[:] = list(self._next), []
        for each in now:
            each()
        return len(self.went_on) - before

    @property
    def idle(self) -> bool:
        return not self._next


def test_who_comes_alone_goes_on_at_once() -> None:
    loop = Loop()
    loop.ask("ana")
    assert loop.went_on == ["ana"]
    loop.turns.give_back("ana")
    loop.run()
    assert loop.idle, "nothing is done while nobody waits"
    loop.ask("ben")
    assert loop.went_on == ["ana", "ben"]


@given(st.lists(st.sampled_from(["give back", "leave", "stay"]), min_size=1, max_size=60))
def test_one_goes_on_in_a_pass_the_first_that_came(ends: list[str]) -> None:
    """Seen to fail where all that wait go on, where the last one does, and where a turn that stays is never over.

    Who needs no turn any more goes on at once: seen to fail (a reader that waited for ever) where it is only forgotten.
    """
    loop = Loop()
    loop.ask("first")
    for number in range(len(ends)):
        loop.ask(number)
    for number, end in enumerate(ends):
        if end == "leave":
            loop.turns.give_back(number)
    loop.turns.give_back("first")
    passes = 0
    while not loop.idle:
        assert loop.run() <= 1
        passes += 1
        if (latest := loop.went_on[-1]) != "first" and ends[int(str(latest))] == "give back":
            loop.turns.give_back(latest)
    left = [number for number, end in enumerate(ends) if end == "leave"]
    stayed = [number for number, end in enumerate(ends) if end != "leave"]
    assert loop.went_on == ["first", *left, *stayed]
    assert passes <= (len(stayed) + 1) * PASSES + 1
    assert not len(loop.turns)


def test_a_turn_that_is_over_takes_nobody_s_when_it_is_given_back() -> None:
    loop = Loop()
    loop.ask("ana")
    loop.ask("ben")
    for _ in range(PASSES):
        loop.run()
    assert loop.went_on == ["ana", "ben"]
    loop.ask("cleo")
    loop.turns.give_back("ana")
    loop.run()
    assert loop.went_on == ["ana", "ben"], "it is still ben's turn"


def test_an_end_takes_a_turn_the_one_that_was_waited_for() -> None:
    """Seen to fail where an end waits for nothing, and where it waits behind the turn that it makes needless."""
    loop = Loop()
    loop.ask("ana")
    waits, reads = Place(loop.turns), Place(loop.turns)
    waits.ask(lambda: loop.went_on.append("waits"))
    loop.ask("ben")
    waits.end(lambda: loop.went_on.append("waits is ended"))
    reads.end(lambda: loop.went_on.append("reads is ended"))
    assert loop.went_on == ["ana"]
    for who in ("ana", waits, "ben", reads):
        loop.turns.give_back(who)
        assert loop.run() <= 2
    assert loop.went_on == ["ana", "waits is ended", "waits", "ben", "reads is ended"]


def test_both_tasks_of_a_connection_go_on_in_its_turn() -> None:
    """Seen to fail where the second that asks takes the place of the first, which then waits for ever."""
    loop = Loop()
    loop.ask("ana")
    place = Place(loop.turns)
    place.ask(lambda: loop.went_on.append("writes"))
    place.ask(lambda: loop.went_on.append("reads"))
    loop.turns.give_back("ana")
    loop.run()
    assert loop.went_on == ["ana", "writes", "reads"]


def test_who_is_free_is_not_ended_by_what_waited_and_takes_no_turn() -> None:
    """Seen to fail where freeing a place lets its end go on: a device that had just proven its key was ended."""
    loop = Loop()
    loop.ask("ana")
    place = Place(loop.turns)
    place.ask(lambda: loop.went_on.append("goes on"))
    place.end(lambda: loop.went_on.append("ended"))
    place.free()
    assert loop.went_on == ["ana", "goes on"]
    place.end(lambda: loop.went_on.append("ended"))
    assert loop.went_on == ["ana", "goes on", "ended"], "who never waits for a turn is ended at once"
