"""Real hosts on real loopback TCP, an outbox in memory, and waiting for conditions instead of sleeping."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any

import trio

from peer.mesh.courier import Parcel
from peer.mesh.host import MeshHost, MeshLimits
from peer.protocol.acknowledgements import Acknowledgement

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


async def until(condition: Callable[[], bool], *, within: float = 30.0) -> None:
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
    """An outbox as the courier wants it, with the order of what happened."""

    def __init__(self) -> None:
        self.parcels: dict[str, list[Parcel]] = {}
        self.answers: dict[str, Acknowledgement] = {}
        self.failures: list[tuple[str, Acknowledgement]] = []

    def put(self, peer_id: str, key: str, raw: bytes, *, ordering: str | None = None, priority: bool = False) -> None:
        self.parcels.setdefault(peer_id, []).append(Parcel(key, ordering, priority, raw))

    async def next_for(self, peer_id: str, exclude_keys: Collection[str]) -> Parcel | None:
        await trio.lowlevel.checkpoint()
        waiting = sorted(self.parcels.get(peer_id, []), key=lambda parcel: not parcel.priority)
        for parcel in waiting:
            if parcel.key not in exclude_keys and parcel.ordering_key not in exclude_keys:
                return parcel
        return None

    async def answered(self, key: str, answer: Acknowledgement) -> None:
        await trio.lowlevel.checkpoint()
        self.answers[key] = answer
        for queue in self.parcels.values():
            queue[:] = [parcel for parcel in queue if parcel.key != key]

    async def failed(self, key: str, answer: Acknowledgement) -> None:
        await trio.lowlevel.checkpoint()
        self.failures.append((key, answer))

    async def settled(self, *keys: str, within: float = 30.0) -> None:
        await until(lambda: all(key in self.answers for key in keys), within=within)
