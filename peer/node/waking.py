"""What a node does when it is on another network, has slept or has a broker back: it asks anew, and at once.

How such a change is noticed: peer/machine/networks.py, peer/broker/sync.py. Each part says in a method of its own what
is of no use to it any more; none waits for another.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import structlog
import trio

from peer.broker.brokers import Brokers
from peer.machine.networks import NetworkWatch
from peer.mesh.courier import Courier
from peer.mesh.host import MeshHost
from peer.mesh.lan import Lan
from peer.mesh.paths import PathKeeper
from peer.mesh.port_mapping import PortMapper
from peer.mesh.relays import Relays
from peer.node.delivery import BlobFetcher

log = structlog.get_logger(__name__)

PROOF_SECONDS: Final = 2.0
"""For each connection to show that it is alive. One that carries something does, however slow it is."""
LEAST_SECONDS: Final = 5.0
"""Between two wakes. The last change is always followed by one."""
OFTEN: Final = 3
LONGEST_SECONDS: Final = 60.0
"""After so many wakes in a row, each at most so long after the one before, the time between them doubles up to that: an
interface comes and goes without end, and each wake looks up all contacts that are away."""


class Waking:
    """`devices()`: those that may connect. `waiting()`: those of them for which something waits, which come first."""

    def __init__(
        self,
        *,
        host: MeshHost,
        relays: Relays,
        paths: PathKeeper,
        ports: PortMapper,
        lan: Lan,
        courier: Courier,
        fetcher: BlobFetcher,
        brokers: Brokers,
        devices: Callable[[], Iterable[str]],
        waiting: Callable[[], Awaitable[list[str]]],
        watch: Callable[[Callable[[], None], Callable[[], None]], NetworkWatch] = NetworkWatch,
    ) -> None:
        self._host, self._relays, self._paths, self._ports = host, relays, paths, ports
        self._lan = lan
        self._courier, self._fetcher, self._brokers = courier, fetcher, brokers
        self._devices, self._waiting = devices, waiting
        self._watch = watch(self.wake, self.wake)
        self._due = trio.Event()
        self._everything = False
        """Whether connections are in doubt too, and not only what failed without the broker."""

    def wake(self) -> None:
        """Take nothing of before for granted: this machine is on another network, or slept."""
        self._everything = True
        self._due.set()

    def broker_returned(self) -> None:
        """Look for contacts and bring what waits: where they are can be asked again."""
        self._due.set()

    async def run(self) -> None:
        """Watch and wake until cancelled."""
        last, recent = -float("inf"), 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch.run)
            while True:
                await self._due.wait()
                recent = recent + 1 if trio.current_time() - last <= LONGEST_SECONDS else 1
                last = trio.current_time()
                everything, self._everything, self._due = self._everything, False, trio.Event()
                if everything:
                    self._doubt()
                await self.greet()
                log.info("node.woke", everything=everything)
                await trio.sleep(min(LEAST_SECONDS * 2 ** max(0, recent - OFTEN), LONGEST_SECONDS))

    def _doubt(self) -> None:
        self._host.renew(PROOF_SECONDS)
        self._relays.renew(PROOF_SECONDS)
        self._ports.network_changed()
        self._lan.network_changed()
        self._brokers.reconnect()
        self._paths.network_changed()

    async def greet(self) -> None:
        """Greet all contacts, send what waits, fetch what is awaited: now, whatever failed before."""
        devices = set(self._devices())
        first = [device for device in await self._waiting() if device in devices]
        # Greeted before the rest: a greeting under way is one of the things that failed before if it fails.
        for each in (first, devices.difference(first)):
            self._courier.greet(each)
            self._courier.renew(each)
        self._fetcher.renew()
