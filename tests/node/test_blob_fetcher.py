"""Who is fetched from, and when again: several senders, some away, on a clock that only the test moves."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from peer.mesh import blobs as blob_protocol
from peer.mesh.host import MeshHost
from peer.node import delivery
from peer.node.delivery import FIRST_REST, BlobFetcher
from peer.protocol.errors import Forbidden, Unavailable
from peer.protocol.statements import FileRef
from peer.steps import receiving
from peer.steps.context import Context
from peer.steps.journal import Journal
from peer.store import dispatches
from peer.store.database import Store
from tests.steps.people import Clock, Person, connect, send

Fetch = Callable[..., Any]


class Recipient:
    """Somebody whom several people sent files; `asked` counts connections by device."""

    def __init__(self, folder: Path, *senders: str) -> None:
        clock = Clock()
        self.person = Person(folder, "bob", clock)
        self.senders = {}
        for name in senders:
            sender = Person(folder, name, clock)
            connect(sender, self.person)
            self.senders[name] = sender
        self.asked: Counter[str] = Counter()
        self.away: set[str] = set()

    def awaits(self, name: str, files: int) -> str:
        """Have a dispatch with files arrive."""
        sender = self.senders[name]
        refs = tuple(
            FileRef(f"{number}.txt", 5, hashlib.sha256(f"{name}{number}".encode()).digest()) for number in range(files)
        )
        dispatch_id = send(sender, self.person, files=refs)
        sender.deliver(self.person)
        return dispatch_id

    def puller(self) -> BlobFetcher:
        """A puller on the same store, whose connections fail for those who are away."""
        context = self.person.context
        opened = Context(context.state, context.identity, Store.open(context.state.store), context.blobs, context.clock)

        async def connected(device: str) -> None:
            self.asked[device] += 1
            await trio.lowlevel.checkpoint()
            if device in self.away:
                raise Unavailable("away", fix="try again")

        return BlobFetcher(Journal(opened, lambda _: None), cast(MeshHost, None), connected)


async def until(true: Callable[[], bool]) -> None:
    """Wait for what other tasks and threads bring about; the clock stands still meanwhile."""
    with trio.CancelScope() as scope:
        for _ in range(100_000):
            if true():
                return
            await trio.to_thread.run_sync(lambda: None)
        scope.cancel()
    raise AssertionError("it never came")


async def settled() -> None:
    """Give everything that could run the time to run, many times over."""
    for _ in range(200):
        await trio.to_thread.run_sync(lambda: None)


class InMemory:
    """Stands in for a part that has come: its commit does what a test has it do."""

    def __init__(self, commit: Callable[[], object] = lambda: None) -> None:
        self._commit = commit

    def commit(self, _destination: Path) -> None:
        self._commit()

    def close(self) -> None: ...


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bytes]]:
    """What was fetched, as (device, digest); every fetch succeeds."""
    fetched: list[tuple[str, bytes]] = []

    async def fetch_part(_host: object, device: str, *, digest: bytes, **_: object) -> InMemory:
        fetched.append((device, digest))
        return InMemory()

    monkeypatch.setattr(blob_protocol, "fetch_part", fetch_part)
    return fetched


async def test_a_sender_that_is_away_is_asked_now_and_then_not_in_a_circle(
    tmp_path: Path, mock_clock: MockClock, taken: list[tuple[str, bytes]]
) -> None:
    recipient = Recipient(tmp_path, "alice")
    alice = recipient.senders["alice"].device
    recipient.awaits("alice", files=8)
    recipient.away = {alice}
    puller = recipient.puller()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(puller.run)
        await until(lambda: bool(recipient.asked))
        await settled()
        first = recipient.asked[alice]
        assert first <= delivery.PULLS_PER_DEVICE
        mock_clock.jump(FIRST_REST - 1)
        await settled()
        assert recipient.asked[alice] == first
        mock_clock.jump(1)
        await until(lambda: recipient.asked[alice] > first)
        await settled()
        second = recipient.asked[alice]
        mock_clock.jump(FIRST_REST)  # the second rest is longer
        await settled()
        assert recipient.asked[alice] == second <= first + delivery.PULLS_PER_DEVICE
        puller.renew()  # in another network nothing of that counts
        await until(lambda: recipient.asked[alice] > second)
        recipient.away = set()
        puller.on_connected(alice)
        await until(lambda: len(taken) == 8)
        nursery.cancel_scope.cancel()


async def test_a_sender_that_stalls_holds_up_nobody_else(
    tmp_path: Path, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipient = Recipient(tmp_path, "alice", "mallory")
    alice, mallory = (recipient.senders[name].device for name in ("alice", "mallory"))
    recipient.awaits("mallory", files=20)
    recipient.awaits("alice", files=3)
    stalled: list[str] = []
    fetched: list[str] = []

    async def fetch_part(_host: object, device: str, **_: object) -> InMemory:
        if device == mallory:
            stalled.append(device)
            await trio.sleep_forever()
        fetched.append(device)
        return InMemory()

    monkeypatch.setattr(blob_protocol, "fetch_part", fetch_part)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recipient.puller().run)
        await until(lambda: len(fetched) == 3)
        assert set(fetched) == {alice}
        assert len(stalled) <= delivery.PULLS_PER_DEVICE
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("failure", [ZeroDivisionError("a defect"), OSError(28, "No space left on device")])
async def test_what_one_file_brings_to_light_does_not_end_the_node(
    tmp_path: Path, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    recipient = Recipient(tmp_path, "alice", "mallory")
    mallory = recipient.senders["mallory"].device
    recipient.awaits("mallory", files=1)
    recipient.awaits("alice", files=1)
    fetched: list[str] = []

    async def fetch_part(_host: object, device: str, **_: object) -> InMemory:
        if device == mallory:
            raise failure
        fetched.append(device)
        return InMemory()

    monkeypatch.setattr(blob_protocol, "fetch_part", fetch_part)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recipient.puller().run)
        await until(lambda: bool(fetched))
        await settled()
        assert recipient.asked[mallory] == 1
        nursery.cancel_scope.cancel()


async def test_files_come_while_the_disk_is_waited_for(
    tmp_path: Path, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where a file keeps its place until it is durable, and where nothing bounds those that the disk is behind
    with."""
    recipient = Recipient(tmp_path, "alice")
    recipient.awaits("alice", files=20)
    coming: list[bytes] = []
    came: list[bytes] = []
    on, stored = trio.Event(), threading.Event()

    async def fetch_part(_host: object, _device: str, *, digest: bytes, **_: object) -> InMemory:
        coming.append(digest)
        await on.wait()
        came.append(digest)
        return InMemory(stored.wait)

    monkeypatch.setattr(blob_protocol, "fetch_part", fetch_part)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recipient.puller().run)
        try:
            await until(lambda: bool(coming))
            await settled()
            assert len(coming) == delivery.PULLS_PER_DEVICE
            on.set()
            await until(lambda: len(came) == delivery.FETCHES_PER_DEVICE)
            await settled()
            assert len(coming) == len(came) == delivery.FETCHES_PER_DEVICE
        finally:
            stored.set()
        await until(lambda: len(came) == 20)
        nursery.cancel_scope.cancel()


async def test_the_last_piece_of_a_file_is_waited_for_while_the_next_file_comes(
    tmp_path: Path, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where a file has its place until it is whole. Between two files nothing came for two round trips."""
    recipient = Recipient(tmp_path, "alice")
    recipient.awaits("alice", files=20)
    coming: list[Callable[[], object]] = []
    whole = trio.Event()

    async def fetch_part(_host: object, _device: str, *, on_last_piece: Callable[[], object], **_: object) -> InMemory:
        coming.append(on_last_piece)
        await whole.wait()
        return InMemory()

    monkeypatch.setattr(blob_protocol, "fetch_part", fetch_part)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recipient.puller().run)
        await until(lambda: len(coming) == delivery.PULLS_PER_DEVICE)
        await settled()
        assert len(coming) == delivery.PULLS_PER_DEVICE
        coming[0]()
        coming[0]()  # as where a transfer goes on after its path broke off
        await until(lambda: len(coming) == delivery.PULLS_PER_DEVICE + 1)
        await settled()
        assert len(coming) == delivery.PULLS_PER_DEVICE + 1
        for on_last_piece in coming:
            on_last_piece()
        await until(lambda: len(coming) == delivery.FETCHES_PER_DEVICE)
        await settled()
        assert len(coming) == delivery.FETCHES_PER_DEVICE
        whole.set()
        await until(lambda: len(coming) == 20)
        nursery.cancel_scope.cancel()


async def test_what_is_held_of_a_sender_does_not_grow_with_its_files(
    tmp_path: Path, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, each awaited file was a task, and each one that failed left a lock behind."""
    recipient = Recipient(tmp_path, "mallory")
    mallory = recipient.senders["mallory"].device
    for _ in range(4):
        recipient.awaits("mallory", files=50)
    going, tasks = trio.Event(), 0
    tried: list[bytes] = []

    async def fetch_part(_host: object, _device: str, *, digest: bytes, **_: object) -> None:
        tried.append(digest)
        await going.wait()
        raise Unavailable("broken off", fix="try again")

    monkeypatch.setattr(blob_protocol, "fetch_part", fetch_part)
    fetcher = recipient.puller()
    async with trio.open_nursery() as nursery:
        tasks = trio.lowlevel.current_statistics().tasks_living
        nursery.start_soon(fetcher.run)
        await until(lambda: bool(tried))
        await settled()
        assert trio.lowlevel.current_statistics().tasks_living <= tasks + delivery.FETCHES_PER_DEVICE + 3
        going.set()
        await until(lambda: bool(fetcher._resting))
        for _ in range(20):
            mock_clock.jump(delivery.LONGEST_REST)
            await settled()
        assert len(tried) > 2 * delivery.PULLS_PER_DEVICE
        assert not fetcher._one_by_one and fetcher._resting.keys() <= {mallory} and fetcher._under_way <= {mallory}
        nursery.cancel_scope.cancel()


async def test_every_file_arrives_however_many_there_are(
    tmp_path: Path, mock_clock: MockClock, taken: list[tuple[str, bytes]]
) -> None:
    recipient = Recipient(tmp_path, "alice")
    count = 2 * delivery.PULLED_AT_ONCE // 50 + 1
    for _ in range(count):
        recipient.awaits("alice", files=50)
    puller = recipient.puller()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(puller.run)
        await until(lambda: len(taken) == 50 * count)
        nursery.cancel_scope.cancel()


async def test_what_came_whole_is_not_fetched_again_because_it_could_not_be_stored(
    tmp_path: Path, mock_clock: MockClock, taken: list[tuple[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the simulation: while a disk was full, the same file was fetched whole with each attempt."""
    recipient = Recipient(tmp_path, "alice")
    recipient.awaits("alice", files=1)
    puller = recipient.puller()
    arrived, failing = receiving.on_file_arrived, [True, True]

    def stored(tx: Any, item: Any) -> None:
        if failing:
            failing.pop()
            raise Unavailable("the disk is full", fix="free some space")
        arrived(tx, item)

    monkeypatch.setattr(receiving, "on_file_arrived", stored)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(puller.run)
        for left in (1, 0):
            await until(lambda: len(failing) == left)  # noqa: B023
            await settled()
            mock_clock.jump(4 * FIRST_REST)
        await until(lambda: not list(dispatches.awaited_files(recipient.person.db)))
        await settled()
        nursery.cancel_scope.cancel()
    assert len(taken) == 1
    assert not puller._whole


async def test_what_came_while_the_store_was_busy_is_stored_in_one_step(
    tmp_path: Path, mock_clock: MockClock, taken: list[tuple[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fetching goes on meanwhile, and a file that the step refuses keeps no other from being stored.

    Seen to fail with a step for each file.
    """
    recipient = Recipient(tmp_path, "alice")
    *good, bad = [recipient.awaits("alice", files=1) for _ in range(8)]
    puller = recipient.puller()
    arrived, together, note = receiving.on_file_arrived, [], puller._note_arrived

    def stored(tx: Any, item: Any) -> None:
        if item.dispatch_id == bad:
            raise Forbidden("not this one", fix="send it again")
        arrived(tx, item)

    async def noted(device: str, items: list[Any]) -> None:
        together.append(len(items))
        await note(device, items)

    monkeypatch.setattr(receiving, "on_file_arrived", stored)
    monkeypatch.setattr(puller, "_note_arrived", noted)
    limit = puller._journal.context.store._write_limit
    await limit.acquire()
    states = "SELECT dispatch_id, state FROM dispatches"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(puller.run)
        await until(lambda: len(taken) == 8)
        await settled()
        limit.release()
        await until(lambda: "arriving" not in dict(recipient.person.db.execute(states).fetchall()).values())
        nursery.cancel_scope.cancel()
    assert dict(recipient.person.db.execute(states).fetchall()) == {bad: "rejected", **dict.fromkeys(good, "pending")}
    assert max(together) >= 4, together
