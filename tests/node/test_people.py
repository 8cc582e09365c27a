"""What follows when the contacts in the store change."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import trio
import trio.testing

from peer.node.people import People


async def test_a_device_that_is_admitted_no_longer_is_dropped_and_forgotten() -> None:
    done: list[tuple[str, str]] = []
    refreshed = trio.Event()

    class Admitted:
        devices = frozenset({"stays", "leaves"})
        readers: frozenset[object] = frozenset()

        async def refresh(self) -> None:
            self.devices = frozenset({"stays"})
            refreshed.set()

    def noted(what: str) -> Any:
        return lambda device: done.append((what, device))

    # Any: stand-ins for the whole mesh and store, of which only these members are used.
    host: Any = SimpleNamespace(drop=noted("drop"))
    courier: Any = SimpleNamespace(forget=noted("forget"), wake=noted("wake"))
    admission: Any = Admitted()
    nothing: Any = None
    people = People(admission, host, courier, nothing, nothing, lambda: None)
    people.changed(frozenset({"stays", "leaves"}))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(people.run)
        await refreshed.wait()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert done == [("drop", "leaves"), ("forget", "leaves"), ("wake", "stays")]
    assert not people._wake
