"""What follows when the contacts in the store change."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from peer.mesh.peer_record import Announcement
from peer.node.people import LOOK_UP_SECONDS, AddressBook, People
from peer.protocol.errors import DispatchError, Unavailable
from peer.steps import invitation_answers
from peer.store import contacts
from peer.trust import grants
from tests.steps.people import invite
from tests.steps.people import people as strangers


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


class Looked:
    """A People of which the look-ups alone are real. `known`: whether a broker knows where a device is."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.told: list[object] = []
        self.known: bool | DispatchError = True

        class Admitted:
            devices = frozenset({"one", "other"})
            keys: ClassVar[dict[str, bytes]] = {}
            readers: frozenset[object] = frozenset()
            typed: ClassVar[dict[str, tuple[str, ...]]] = {}

            async def refresh(self) -> None: ...

        nothing: Any = None
        admission: Any = Admitted()
        relays: Any = SimpleNamespace(set_contacts=self.told.append)
        lan: Any = SimpleNamespace(set_contacts=lambda _told, _known: None)
        addresses: Any = SimpleNamespace(learn=self._learn)
        self.people = People(admission, nothing, relays, lan, nothing, nothing, addresses, lambda: None)

    async def _learn(self, device: str) -> bool:
        self.asked.append(device)
        if isinstance(self.known, DispatchError):
            raise self.known
        return self.known


async def test_a_device_that_connects_again_and_again_is_looked_up_once_at_a_time(mock_clock: MockClock) -> None:
    """Before, each connection was a task for six seconds and three questions to the broker. The last is not lost."""
    looked = Looked()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(looked.people.run)
        for _ in range(50):
            looked.people.on_connected("one")
            looked.people.on_connected("other")
            await wait_all_tasks_blocked()
        assert looked.asked == []

        async def wait() -> list[str]:
            before = len(looked.asked)
            mock_clock.jump(LOOK_UP_SECONDS[0])
            await wait_all_tasks_blocked()
            return sorted(looked.asked[before:])

        assert await wait() == ["one", "other"]
        assert await wait() == ["one", "other"], "for those that connected meanwhile"
        assert await wait() == []
        looked.people.on_connected("one")
        await wait_all_tasks_blocked()
        assert await wait() == ["one"]
        assert looked.told == [{}], "of each contact a key and tags are made: not whenever one connects"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("known", [False, Unavailable("busy", fix="")], ids=["nothing", "an error"])
async def test_a_device_of_which_nothing_was_said_is_looked_up_once_more(
    mock_clock: MockClock, known: bool | DispatchError
) -> None:
    looked = Looked()
    looked.known = known
    async with trio.open_nursery() as nursery:
        nursery.start_soon(looked.people.run)
        looked.people.on_connected("one")
        await wait_all_tasks_blocked()
        for seconds in (*LOOK_UP_SECONDS, 100.0):
            mock_clock.jump(seconds)
            await wait_all_tasks_blocked()
        assert looked.asked == ["one", "one"]
        nursery.cancel_scope.cancel()


async def test_an_older_announcement_hides_no_newer_one(tmp_path: Path) -> None:
    """A broker may hold back what another one has: seen to fail where the last answer replaced what was known."""
    with strangers(tmp_path, "alice", "bob") as (_, alice, bob):
        token = invite(alice, bob)
        scope = grants.grant(grants.ScopeInput(tools="Read"), installed=(), now=bob.context.clock())
        bob.step(lambda tx: invitation_answers.accept(tx, token, scope))

        async def run(work: Any) -> Any:
            return work(bob.db)

        says = {alice.device: Announcement(alice.device, 7, ("/ip4/192.0.2.7/tcp/1",))}

        async def ask(_user: str) -> dict[str, Announcement]:
            await book.remember(says)
            return says

        context: Any = SimpleNamespace(store=SimpleNamespace(read=run, write=run), clock=lambda: 5)
        book = AddressBook(context, ask)
        assert await book.learn(alice.device)
        assert await book.of(alice.device) == ["/ip4/192.0.2.7/tcp/1"]
        says = {alice.device: Announcement(alice.device, 6, ("/ip4/192.0.2.6/tcp/1",))}
        assert await book.of(alice.device) == ["/ip4/192.0.2.7/tcp/1", "/ip4/192.0.2.6/tcp/1"]
        known = contacts.device(bob.db, alice.device)
        assert known is not None and known.addresses == '["/ip4/192.0.2.7/tcp/1"]'
        says = {alice.device: Announcement(alice.device, 8, ("/ip4/192.0.2.8/tcp/1",))}
        assert (await book.of(alice.device))[0] == "/ip4/192.0.2.8/tcp/1"
        assert await book.of(alice.device) == ["/ip4/192.0.2.8/tcp/1"]
        says = {}
        assert not await book.learn(alice.device)
        assert await book.learn("nobody's device"), "there is nobody to ask about"
