"""For a long time with many people: nobody asks again and again what has not changed.

Most of a day is keepalives over connections that stand as they stood. Of a connection that is modelled it is known that
they would be answered, so none is sent until something changes for either end; then they begin at a moment at which
they might have been. The same goes for pings to relays, beacons on local networks, the broker's long polls, looks
whether an announcement still holds, and attempts at a relay or broker that cannot be reached: the next one comes when
it can be again. Attempts at a better path end a while after the last change for either end or for a broker, and begin
again with the next one. Brokers ask to be told the same again once in six hours, not once in one, and as often a node
looks for deadlines of which it knows nothing. Short plays leave nothing out (play.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import trio
from libp2p.peer.id import ID

from peer.broker import sync
from peer.broker.sync import BrokerSync
from peer.mesh.guards.yamux import SafeYamux
from peer.mesh.guards.yamux_limits import YamuxLimits
from peer.mesh.paths import WAITS, PathKeeper
from peer.mesh.relays import control
from peer.mesh.relays.control import RelayControl
from peer.mesh.relays.relays import RelayLimits
from peer.node.deadlines import LONGEST_WAIT_SECONDS
from peer.protocol.errors import DispatchError
from tests.simulation.paths.reach import Reach

ATTEMPTS_AFTER = 600.0
"""Seconds after a change in which attempts at a better path go on: a contact announces a new address within 180 s, and
an attempt follows within five minutes."""


class StillYamux(SafeYamux):
    """Sends no ping whose answer is known. `names`: whom a change may have made it doubtful."""

    def __init__(self, reach: Reach, names: tuple[str, ...], secured: Any, remote: str, limits: YamuxLimits) -> None:
        super().__init__(secured, ID.from_base58(remote), limits=limits)
        self._reach, self._names = reach, names
        self._reads_before = 0
        """What had come when something changed last."""

    async def _sleep_until(self, deadline: float) -> None:
        if not self._ping_answered or self._proof is not None or self._reads == self._reads_before:
            await super()._sleep_until(deadline)
            return
        with trio.CancelScope() as self._nap:
            await self._reach.disturbed(*self._names)
        self._reads_before = self._reads
        heard = trio.current_time() - self._reach.world.random.uniform(0.0, self.limits.ping_every)
        self._last_received = max(self._last_received, heard)


@contextmanager
def installed(reach: Reach) -> Iterator[None]:
    """Have every node that is made meanwhile leave these out, if `reach.still`."""

    async def keep_alive(self: RelayControl, connection: Any) -> None:
        while await self._answers(connection, control.DEAD_AFTER):
            await reach.disturbed(reach.who.get(), self.origin)
            await trio.sleep(reach.world.random.uniform(0.0, control.PING_EVERY))

    async def run(self: RelayControl, *on_up: Any) -> DispatchError:
        """Try a relay again once it can be reached, within the longest wait for the next attempt."""
        name, relay = reach.who.get(), reach.relays[self.origin]
        while not (relay.up and reach.at_relay(name, self.origin)):
            await reach.disturbed(name, self.origin)
            await trio.sleep(reach.world.random.uniform(0.0, RelayLimits().longest_retry))
        return await connect(self, *on_up)

    async def until_outdated(self: BrokerSync, work: Any) -> None:
        """The same with a broker, within the wait that ends when it answers."""
        name, broker = reach.who.get(), reach.brokers[self.url]
        while not broker.for_(name):
            await reach.disturbed(name, self.url)
            await trio.sleep(reach.world.random.uniform(0.0, sync.LONGEST_AWAY))
        await work_at(self, work)

    async def until_due(self: PathKeeper, device: str, attempt: int) -> None:
        """Leave out attempts at a better path that would fail as the last ones did."""
        names = (reach.who.get(), reach.devices[device], *reach.brokers)
        if attempt >= len(WAITS) and trio.current_time() > reach.changed_at(*names) + ATTEMPTS_AFTER:
            with trio.CancelScope() as unchanged, reach.watched(unchanged.cancel, *names):
                await self._wakes[device].wait()
                return
            with trio.move_on_after(reach.world.random.uniform(0.0, WAITS[-1])):
                await self._wakes[device].wait()
            return
        await wait_for(self, device, attempt)

    connect, work_at, wait_for = RelayControl.run, BrokerSync._until_outdated, PathKeeper._until_due
    with ExitStack() as stack:
        if reach.still:
            stack.enter_context(mock.patch.object(RelayControl, "_keep_alive", keep_alive))
            stack.enter_context(mock.patch.object(RelayControl, "run", run))
            stack.enter_context(mock.patch.object(BrokerSync, "_until_outdated", until_outdated))
            stack.enter_context(mock.patch("peer.broker.announcing.LOOK_SECONDS", float("inf")))
            stack.enter_context(mock.patch("peer.node.deadlines.LONGEST_WAIT_SECONDS", 6 * LONGEST_WAIT_SECONDS))
            stack.enter_context(mock.patch.object(PathKeeper, "_until_due", until_due))
        yield
