"""Turns of strangers: one at a time, in order, and nobody is held up by one that does not come to an end."""

from __future__ import annotations

import trio
import trio.testing

from peer.mesh.guards.turns import PASSES, Turns


class Passes(trio.abc.Instrument):
    """How often the event loop has looked what can go on."""

    def __init__(self) -> None:
        self.number = 0

    def before_io_wait(self, _timeout: float) -> None:
        self.number += 1


async def test_of_all_that_wait_one_goes_on_in_a_pass() -> None:
    """Seen to fail where a turn is no turn: all go on in the same pass."""
    turns, passes = Turns(), Passes()
    order: list[tuple[int, int]] = []

    async def one(number: int) -> None:
        await turns.take()
        order.append((passes.number, number))
        turns.give_back()

    trio.lowlevel.add_instrument(passes)
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(one, number)
            await trio.testing.wait_all_tasks_blocked()
            passes.number += 1  # those that come while nobody waits are no part of the question
        order.clear()
        await turns.take()
        for number in range(20):
            nursery.start_soon(one, number)
        await trio.sleep(0)
        turns.give_back()
    trio.lowlevel.remove_instrument(passes)
    assert sorted(number for _, number in order) == list(range(20))
    assert len({at for at, _ in order}) == 20, order


async def test_a_turn_that_lasts_is_over_after_so_many_passes() -> None:
    """Seen to fail (it hangs) where the next one waits for the turn to be given back."""
    turns = Turns()
    went_on = trio.Event()

    async def other() -> None:
        await turns.take()
        went_on.set()

    async with trio.open_nursery() as nursery:
        await turns.take()
        nursery.start_soon(other)
        for _ in range(PASSES // 2):
            await trio.sleep(0)
        assert not went_on.is_set()
        await went_on.wait()
        turns.give_back()  # it has none any more, and takes nobody's


async def test_one_that_is_cancelled_while_it_waits_holds_up_nobody() -> None:
    turns = Turns()
    went_on = trio.Event()

    async def other() -> None:
        await turns.take()
        went_on.set()

    async with trio.open_nursery() as nursery:
        await turns.take()
        with trio.CancelScope() as scope:
            scope.cancel()
            await turns.take()
        nursery.start_soon(other)
        turns.give_back()
        await went_on.wait()
