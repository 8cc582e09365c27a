"""Better paths: looks for a direct one to each device that is reached through a relay, and leaves the relay for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import structlog
import trio

from peer.mesh.host import MeshHost
from peer.protocol.errors import DispatchError

log = structlog.get_logger(__name__)

WAITS = (1.0, 5.0, 20.0, 60.0, 300.0)
"""Seconds before each attempt at a device; from the last on the wait stays the same."""
PUNCH_EVERY = 12
"""Once all waits are over, one attempt in so many also tries to get through NATs (punching): once an hour."""
LINGER = 1.0
"""Seconds that a relayed connection is kept beside a direct one, for what is on its way."""


SPARE = 60.0
"""Seconds that a connection to a device with a newer one is left unused before it is ended: once, and up to twice."""


class PathKeeper:
    """`addresses(device)` returns the multiaddrs to try; `waits`, `linger` and `spare` as WAITS, LINGER and SPARE."""

    def __init__(
        self,
        host: MeshHost,
        addresses: Callable[[str], Awaitable[list[str]]],
        *,
        waits: Sequence[float] = WAITS,
        linger: float = LINGER,
        spare: float = SPARE,
    ) -> None:
        self._waits, self._linger, self._spare = waits, linger, spare
        self._host = host
        self._addresses = addresses
        self._news = trio.Event()
        self._connected = trio.Event()
        """There may be a connection beside another one."""
        self._wakes: dict[str, trio.Event] = {}
        """Device that is reached through a relay → a reason not to wait any longer."""
        host.on_connected(self._on_connected)

    def network_changed(self) -> None:
        """Look for direct paths again soon: this machine has other addresses than before."""
        for wake in self._wakes.values():
            wake.set()

    async def run(self) -> None:
        """Look until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._close_spares)
            while True:
                self._news = trio.Event()
                for device in self._host.relayed() - self._wakes.keys():
                    self._wakes[device] = trio.Event()
                    nursery.start_soon(self._improve, device)
                await self._news.wait()

    def _on_connected(self, device: str) -> None:
        if (wake := self._wakes.get(device)) is not None:
            wake.set()
        self._news.set()
        self._connected.set()

    async def _close_spares(self) -> None:
        while True:
            await self._connected.wait()
            self._connected = trio.Event()
            left = True
            while left:
                await trio.sleep(self._spare)
                left = self._host.ways.close_spares()

    async def _improve(self, device: str) -> None:
        """Attempt until there is a direct path, or no relayed one any more."""
        attempt = 0
        while device in self._host.relayed():
            wake = self._wakes[device]
            await self._until_due(device, attempt)
            attempt = 0 if wake.is_set() else attempt + 1
            self._wakes[device] = trio.Event()  # what comes during the attempt counts after it
            if self._host.path(device) == "relay":
                await self._attempt(device, attempt)
            if self._host.path(device) == "direct":
                await trio.sleep(self._linger)
                self._host.ways.leave_relay(device)
        del self._wakes[device]

    async def _until_due(self, device: str, attempt: int) -> None:
        """Wait before an attempt at a device, or until something speaks for it."""
        with trio.move_on_after(self._waits[min(attempt, len(self._waits) - 1)]):
            await self._wakes[device].wait()

    async def _attempt(self, device: str, attempt: int) -> None:
        try:
            await self._host.ways.connect_directly(device, await self._addresses(device))
        except DispatchError as error:
            log.debug("path.none_better", code=error.code)
        else:
            return
        # Where it failed it fails again, as a rule, until the network is another one.
        if self._host.puncher is not None and (attempt <= len(self._waits) or attempt % PUNCH_EVERY == 0):
            try:
                await self._host.puncher.punch(device)
            except DispatchError as error:
                log.debug("path.not_punched", code=error.code)
