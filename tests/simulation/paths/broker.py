"""In place of a broker: where each device said that it is. What Brokers does of it with one, in few words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import trio

from peer.broker.announcing import LOOK_SECONDS
from peer.broker.sync import LONGEST_AWAY
from peer.mesh.peer_record import Announcement
from peer.protocol.errors import NO_FIX, DispatchError, Unavailable
from tests.simulation.paths.reach import Reach


class SimulatedBroker:
    """One node's sync. `reachable_at()`: what it announces."""

    def __init__(
        self,
        reach: Reach,
        name: str,
        records: dict[str, tuple[str, Announcement]],
        reachable_at: Callable[[], list[str]],
    ) -> None:
        """`records`: device → (user, what it announced), of all."""
        self._reach, self._name, self._records, self._reachable_at = reach, name, records, reachable_at
        self._look = trio.Event()
        self._on_return: list[Callable[[], None]] = []
        self._on_presence: list[Callable[[Mapping[str, Announcement]], Awaitable[None]]] = []

    def announce(self) -> None:
        self._look.set()

    look = reconnect = announce

    def on_return(self, listener: Callable[[], None]) -> None:
        self._on_return.append(listener)

    def on_presence(self, listener: Callable[[Mapping[str, Announcement]], Awaitable[None]]) -> None:
        self._on_presence.append(listener)

    async def presence_of(self, user: str) -> dict[str, Announcement]:
        await self._answer()
        found = {device: announced for device, (whose, announced) in self._records.items() if whose == user}
        with suppress(DispatchError):  # a full disk
            for listener in self._on_presence:
                await listener(found)
        return found

    async def _answer(self) -> None:
        await trio.sleep(10 ** self._reach.world.random.uniform(-2, 0))
        if not self._reach.broker_for(self._name):
            raise Unavailable("the broker does not answer", fix=NO_FIX)

    async def run(self, device: str, user: str) -> None:
        """Announce, and again when there is something new, until cancelled."""
        away = False
        while True:
            self._look = trio.Event()
            try:
                await self._answer()
            except Unavailable:
                away = True
                await self._reach.until(lambda: self._reach.broker_for(self._name))
                await trio.sleep(self._reach.world.random.uniform(0.0, LONGEST_AWAY))
                continue
            before = self._records.get(device)
            seq = 1 if before is None else before[1].seq + 1
            self._records[device] = (user, Announcement(device, seq, tuple(self._reachable_at())))
            if away:
                away = False
                for listener in self._on_return:
                    listener()
            with trio.move_on_after(LOOK_SECONDS):
                await self._look.wait()
