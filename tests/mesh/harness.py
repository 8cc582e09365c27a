"""Real hosts on real loopback TCP, an outbox in memory, and waiting for conditions instead of sleeping."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any

import trio

from peer.mesh.courier import Fetched
from peer.mesh.host import MeshHost, MeshLimits
from peer.protocol.acknowledgements import Acknowledgement
from tests.conftest import HANG
from tests.mesh.outbox_model import Queued, choose, others_wait

LOOPBACK = "/ip4/127.0.0.1/tcp/0"


def make_host(
    *, admits: Callable[[str], bool] = lambda _: True, limits: MeshLimits | None = None, seed: bytes | None = None
) -> MeshHost:
    return MeshHost(seed or os.urandom(32), listen=[LOOPBACK], admits=admits, limits=limits)


@asynccontextmanager
async def two_hosts(**kwargs: Any) -> AsyncIterator[tuple[MeshHost, MeshHost]]:
    """Two hosts, the first connected to the second."""
    first, second = make_host(**kwargs), make_host(**kwargs)
    async with first.running(), second.running():
        await first.connect(second.peer_id, second.addresses())
        yield first, second


async def until(condition: Callable[[], bool], *, within: float = HANG) -> None:
    """Wait for a condition that no event announces."""
    with trio.fail_after(within):
        while not condition():
            await trio.sleep(0.005)


def count_tasks() -> int:
    """Tasks alive in this trio run."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    waiting, found = [root], 0
    while waiting:
        task = waiting.pop()
        found += 1
        waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found


class MemoryOutbox:
    """An outbox as the courier wants it, with the order of what happened. Keys are whatever the test calls them."""

    def __init__(self) -> None:
        self.queues: dict[str, list[tuple[str, Queued]]] = {}
        self.acknowledgements: dict[str, Acknowledgement] = {}
        self.retries: list[tuple[str, Acknowledgement]] = []
        self._numbers = itertools.count(1)

    def put(self, peer_id: str, key: str, raw: bytes, *, ordering: str = "", priority: int = 1) -> None:
        queued = Queued(next(self._numbers), priority, ordering, raw)
        self.queues.setdefault(peer_id, []).append((key, queued))

    async def next_for(
        self, peer_id: str, *, excluded_keys: Collection[str], excluded_orderings: Collection[str]
    ) -> Fetched:
        await trio.lowlevel.checkpoint()
        queue = self.queues.get(peer_id, [])
        numbers = {str(queued.n) for key, queued in queue if key in excluded_keys}
        found = choose([queued for _, queued in queue], numbers, excluded_orderings)
        keys = {queued.n: key for key, queued in queue}
        item = None if found is None else dataclasses.replace(found.item, key=keys[found.n])
        return Fetched(item, others_wait([queued for _, queued in queue], numbers, found))

    async def acknowledged(self, key: str, acknowledgement: Acknowledgement) -> None:
        await trio.lowlevel.checkpoint()
        self.acknowledgements[key] = acknowledgement
        for queue in self.queues.values():
            queue[:] = [(each, queued) for each, queued in queue if each != key]

    async def deferred(self, key: str, acknowledgement: Acknowledgement) -> None:
        await trio.lowlevel.checkpoint()
        self.retries.append((key, acknowledgement))

    async def settled(self, *keys: str, within: float = HANG) -> None:
        await until(lambda: all(key in self.acknowledgements for key in keys), within=within)
