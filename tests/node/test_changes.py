"""Events of live views: woken by the next change, and gone with the last one who waits."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from peer.node.changes import ChangeSignal


async def test_whoever_waits_is_woken_and_nothing_is_kept_for_those_who_left() -> None:
    """Before, a view of a dispatch that never changed again left an event behind for the life of the node."""
    signal = ChangeSignal()
    woken: list[str] = []

    async def view(name: str, dispatch_id: str) -> None:
        await signal.of(dispatch_id).wait()
        woken.append(name)

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(view, "leaves", f"{number}")
        await wait_all_tasks_blocked()
        assert len(signal._events) == 100
        nursery.cancel_scope.cancel()
    assert not signal._events
    async with trio.open_nursery() as nursery:
        nursery.start_soon(view, "first", "one")
        nursery.start_soon(view, "second", "one")
        await wait_all_tasks_blocked()
        signal.notify(["one", "another"])
    assert sorted(woken) == ["first", "second"] and not signal._events
