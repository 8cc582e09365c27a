"""Which devices may connect, who reads our presence, where contacts' devices are. The host's own guards: peer/mesh."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import structlog
import trio

from peer.broker.sync import BrokerSync
from peer.mesh.courier import Courier
from peer.mesh.host import MeshHost
from peer.protocol.errors import DispatchError
from peer.steps.context import Context
from peer.store import contacts

log = structlog.get_logger(__name__)

LEARN_SECONDS = (0.0, 6.0)
"""After a device connected, when its addresses are asked for: it may announce itself a moment after it called."""


class Admission:
    """The devices that may connect, as the store had them when it was last read."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.devices: frozenset[str] = frozenset()
        self.readers: frozenset[tuple[str, bytes]] = frozenset()
        """Who can open our presence: (device, X25519 key)."""

    def admits(self, device: str) -> bool:
        """Return whether a device may connect."""
        return device in self.devices

    async def refresh(self) -> None:
        """Read the store."""
        devices, owed = await self._context.store.read(
            lambda db: (contacts.devices(db), contacts.blocked_with_outbox(db))
        )
        # A blocked device may be connected to for as long as it has not heard that it is; nothing of its is taken in.
        self.devices = frozenset([*(device.device for device in devices), *owed])
        self.readers = frozenset((device.device, device.sealing_key) for device in devices)


class AddressBook:
    """Where a device was last seen, and where its presence at the broker says it is."""

    def __init__(self, context: Context, ask: Callable[[str], Awaitable[dict[str, list[str]]]]) -> None:
        self._context = context
        self._ask = ask

    async def of(self, device: str) -> list[str]:
        """Return multiaddrs to try: those the broker has now, then the ones remembered."""
        known = await self._context.store.read(lambda db: contacts.device(db, device))
        if known is None:
            return []
        remembered: list[str] = json.loads(known.addresses)
        announced: list[str] = []
        try:
            found = await self._ask(known.user_id)
            announced = found.get(device, [])
        except DispatchError as error:
            log.debug("presence.not_asked", code=error.code)
        if announced and announced != remembered:
            now = self._context.clock()
            await self._context.store.write(lambda db: contacts.remember_addresses(db, device, announced, now))
        return list(dict.fromkeys([*announced, *remembered]))


class People:
    """Brings the host, the courier and our presence into line with the contacts in the store, whenever they change."""

    def __init__(
        self,
        admission: Admission,
        host: MeshHost,
        courier: Courier,
        broker: BrokerSync,
        addresses: AddressBook,
        announce: Callable[[], None],
    ) -> None:
        """`announce` is called when what views show of people may have changed."""
        self._admission = admission
        self._host = host
        self._courier = courier
        self._broker = broker
        self._addresses = addresses
        self._announce = announce
        self._wake: set[str] = set()
        self._connected: set[str] = set()
        self._news = trio.Event()

    def changed(self, wake: frozenset[str]) -> None:
        """Contacts, edges or blocks changed; `wake`: devices to serve once they are admitted."""
        self._wake |= wake
        self._news.set()

    def on_connected(self, device: str) -> None:
        """A device connected."""
        self._connected.add(device)
        self._news.set()
        self._announce()

    async def connect(self, device: str) -> None:
        """Connect to a device, if that is not so. Raises Unavailable."""
        if not self._host.connected(device):
            await self._host.connect(device, await self._addresses.of(device))

    async def run(self) -> None:
        """Follow the changes; what came before this began is followed first."""
        async with trio.open_nursery() as nursery:
            while True:
                # Taken before the store is read, so that no change falls between.
                self._news, connected = trio.Event(), self._connected
                self._connected = set()
                for device in connected:
                    nursery.start_soon(self._learn_addresses, device)
                await self._follow()
                await self._news.wait()

    async def _follow(self) -> None:
        wake = frozenset(self._wake)
        before, readers = self._admission.devices, self._admission.readers
        await self._admission.refresh()
        for device in before - self._admission.devices:
            self._host.drop(device)
        if self._admission.readers != readers:
            # Not at every change: a contact that edits its edge all day must not use up our announcements.
            self._broker.announce()
        for device in wake & self._admission.devices:
            self._courier.wake(device)
        self._wake -= wake
        self._announce()

    async def _learn_addresses(self, device: str) -> None:
        """Remember where a device that called us listens, for the day when it does not call and the broker is away."""
        for wait in LEARN_SECONDS:
            await trio.sleep(wait)
            try:
                await self._addresses.of(device)
            except DispatchError as error:
                log.info("addresses.not_learned", code=error.code)
