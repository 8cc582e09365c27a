"""In place of multicast: who is on the same local network is seen there some time, and can be dialled there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import trio

from peer.mesh.lan import Host, LanLimits, Way
from peer.protocol.errors import NO_FIX, Unavailable
from tests.simulation.paths.lines import End
from tests.simulation.paths.reach import Reach

T = TypeVar("T")
BEACONS = (5.0, 20.0)
"""Seconds between two looks at who is there, at least and at most."""


class SimulatedLan:
    """The methods of peer.mesh.lan.Lan that a node uses."""

    def __init__(self, reach: Reach, name: str) -> None:
        self._reach, self._name = reach, name
        self._known: frozenset[str] = frozenset()
        self._seen: dict[str, str] = {}
        """Device → the site on which it was seen."""
        self._host: Host | None = None

    def set_contacts(self, told: Iterable[tuple[str, bytes]], known: Mapping[str, bytes]) -> None:
        self._known = frozenset(known)

    def set_on(self, on: bool) -> None:
        """It is on."""

    def network_changed(self) -> None:
        """It looks all the time."""

    @asynccontextmanager
    async def running(self, host: Host) -> AsyncIterator[None]:
        self._host = host
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look, host)
            self._reach.near_hosts[self._name] = self
            self._reach.changed(self._name)
            try:
                yield
            finally:
                if self._reach.near_hosts.get(self._name) is self:
                    del self._reach.near_hosts[self._name]
                nursery.cancel_scope.cancel()

    async def _look(self, host: Host) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(self._reach.world.random.uniform(*BEACONS))
                self._look_now(host, nursery)
                if self._reach.still:
                    near = [self._reach.devices[device] for device in self._known]
                    await self._reach.disturbed(self._name, *near)

    def _look_now(self, host: Host, nursery: trio.Nursery) -> None:
        for device in sorted(self._known):
            other = self._reach.devices[device]
            if self._reach.near(self._name, other) and other in self._reach.near_hosts:
                self._seen[device] = self._reach.sites[self._name]
                nursery.start_soon(self._meet, host, device)

    async def _meet(self, host: Host, device: str) -> None:
        if self._reach.swarms[self._name].own.to_base58() > device:
            await trio.sleep(LanLimits().after_them)
        await host.meet(device)

    def ways(self, device: str) -> list[Way]:
        site = self._reach.sites.get(self._name)
        if self._seen.get(device) != site or not site:
            self._seen.pop(device, None)
            return []
        return [Way(cast(Any, site), self._reach.address[self._reach.devices[device]], 1, b"")]

    async def dial(self, device: str, way: Way, upgrade: Callable[[Any], Awaitable[T]]) -> T:
        return await upgrade(await self._connect(self._reach.devices[device]))

    async def _connect(self, other: str) -> End:
        reach, name = self._reach, self._name
        reach.dials += 1
        await trio.sleep(0.01)
        if not reach.near(name, other):
            await reach.until(lambda: reach.near(name, other))
        theirs = reach.near_hosts.get(other)
        if theirs is None or theirs._host is None:
            raise Unavailable("nobody is there", fix=NO_FIX)
        line = reach.line(name, other, "near", lambda: reach.near(name, other))
        nursery = reach.swarms[other].nursery
        assert nursery is not None
        reach.start_at(
            other, nursery, theirs._host.serve, cast(Any, line.ends[1]), reach.device_of(name), "192.168.1.2"
        )
        return line.ends[0]
