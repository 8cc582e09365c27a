"""What follows when the contacts in the store change."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar, cast

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from peer.node.people import LOOK_UP_SECONDS, People


async def test_a_device_that_is_admitted_no_longer_is_dropped_and_forgotten() -> None:
    done: list[tuple[str, str]] = []
    refreshed = trio.Event()

    class Admitted:
        devices = frozenset({"stays", "leaves"})
        keys: ClassVar[dict[str, bytes]] = {}
        readers: frozenset[object] = frozenset()
        typed: ClassVar[dict[str, tuple[str, ...]]] = {}

        async def refresh(self) -> None:
            self.devices = frozenset({"stays"})
            refreshed.set()

    def noted(what: str) -> Any:
        return lambda device: done.append((what, device))

    # Any: stand-ins for the whole mesh and store, of which only these members are used.
    host: Any = SimpleNamespace(drop=noted("drop"))
    relays: Any = SimpleNamespace(set_contacts=lambda _keys: None)
    lan: Any = SimpleNamespace(set_contacts=lambda _told, _known: None)
    courier: Any = SimpleNamespace(forget=noted("forget"), wake=noted("wake"))
    admission: Any = Admitted()
    nothing: Any = None
    people = People(admission, host, relays, lan, courier, nothing, nothing, lambda: None)
    people.changed(frozenset({"stays", "leaves"}))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(people.run)
        await refreshed.wait()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert done == [("drop", "leaves"), ("forget", "leaves"), ("wake", "stays")]
    assert not people._wake


async def test_a_device_that_connects_again_and_again_is_looked_up_once_at_a_time(mock_clock: MockClock) -> None:
    """Before, each connection was a task for six seconds and two questions to the broker. The last one is not lost."""
    asked: list[str] = []

    async def of(device: str) -> list[str]:
        asked.append(device)
        return []

    class Admitted:
        devices = frozenset({"one", "other"})
        keys: ClassVar[dict[str, bytes]] = {}
        readers: frozenset[object] = frozenset()
        typed: ClassVar[dict[str, tuple[str, ...]]] = {}

        async def refresh(self) -> None: ...

    nothing: Any = None
    admission: Any = Admitted()
    relays: Any = SimpleNamespace(set_contacts=lambda _keys: None)
    lan: Any = SimpleNamespace(set_contacts=lambda _told, _known: None)
    people = People(admission, nothing, relays, lan, nothing, nothing, cast(Any, SimpleNamespace(of=of)), lambda: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(people.run)
        for _ in range(50):
            people.on_connected("one")
            people.on_connected("other")
            await wait_all_tasks_blocked()
        assert sorted(asked) == ["one", "other"]

        async def pass_by() -> None:
            for wait in LOOK_UP_SECONDS[1:]:
                mock_clock.jump(wait)
                await wait_all_tasks_blocked()

        await pass_by()
        assert sorted(asked) == ["one"] * 4 + ["other"] * 4, "all of one connection, and the first of those meanwhile"
        await pass_by()
        assert sorted(asked) == ["one"] * 6 + ["other"] * 6
        people.on_connected("one")
        await wait_all_tasks_blocked()
        assert asked[12:] == ["one"]
        nursery.cancel_scope.cancel()
