"""Which devices may connect, who can read our presence, where contacts' devices are. The host's guards: peer/mesh."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from itertools import chain

import structlog
import trio

from peer.broker.brokers import Brokers
from peer.mesh.courier import Courier
from peer.mesh.host import MeshHost
from peer.mesh.lan import Lan
from peer.mesh.peer_record import Announcement
from peer.mesh.relays import Relays
from peer.protocol.errors import DispatchError
from peer.steps.context import Context
from peer.store import contacts

log = structlog.get_logger(__name__)

LOOK_UP_SECONDS = (6.0, 60.0)
"""Waits before the addresses of a connected device are looked up, as it may announce itself just after connecting; and
before they are looked up again where no broker has said anything of it."""

ASK_SECONDS = 3.0
"""How long a dial waits for the broker to say where a device is; then it goes where the device was last."""

EXPECTED_ADDRESSES = 4
"""Addresses of a device whose handshakes come before those of strangers; it could announce any number."""


class Admission:
    """The devices that may connect, as of the last refresh from the store."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.devices: frozenset[str] = frozenset()
        self.readers: frozenset[tuple[str, bytes]] = frozenset()
        """Who can read our presence: (device, X25519 key)."""
        self.keys: dict[str, bytes] = {}
        """Device that may connect → its X25519 key."""
        self.typed: dict[str, tuple[str, ...]] = {}
        """Device → addresses that this machine's person typed."""
        self._addresses: frozenset[str] = frozenset()
        self._users: dict[str, str] = {}

    def admits(self, device: str) -> bool:
        """Return whether a device may connect."""
        return device in self.devices

    def expects(self, ip: str) -> bool:
        """Return whether a contact announced this IP address when it was last looked up."""
        return ip in self._addresses

    def user_of(self, device: str) -> str:
        """Return the contact whose device it is; the device if nobody's."""
        return self._users.get(device, device)

    def typed_of(self, device: str) -> tuple[str, ...]:
        """Return the addresses of a device that this machine's person typed."""
        return self.typed.get(device, ())

    async def refresh(self) -> None:
        """Read the store."""
        devices, undelivered, self.typed = await self._context.store.read(
            lambda db: (contacts.devices(db), contacts.blocked_with_outbox(db), contacts.typed_addresses(db))
        )
        # A blocked user's device may connect until its queued statements are delivered; what it sends is refused.
        self.keys = {device.device: device.sealing_key for device in (*devices, *undelivered)}
        self.devices = frozenset(self.keys)
        self._users = {device.device: device.user_id for device in devices}
        announced = [json.loads(device.addresses)[:EXPECTED_ADDRESSES] for device in devices]
        self._addresses = frozenset(ip for addresses in (*announced, *self.typed.values()) for ip in _ips(addresses))
        self.readers = frozenset((device.device, device.sealing_key) for device in devices)


def _ips(addresses: Iterable[str]) -> list[str]:
    """Return the IP addresses of multiaddrs (`/ip4/IP/…`, `/ip6/IP/…`)."""
    return [
        parts[2]
        for parts in (address.split("/") for address in addresses)
        if len(parts) > 2 and parts[1] in ("ip4", "ip6")
    ]


def _is_news(db: sqlite3.Connection, found: tuple[str, Announcement]) -> bool:
    """Whether what a device announced is newer than what is stored."""
    device, announced = found
    known = contacts.device(db, device)
    return known is not None and announced.seq > known.presence_seq


class AddressBook:
    """Addresses of devices: from their presence at brokers, and those stored at the last look-up."""

    def __init__(self, context: Context, ask: Callable[[str], Awaitable[Mapping[str, Announcement]]]) -> None:
        """`ask(user)` returns what devices of a contact announced, once that is remembered. Raises DispatchError."""
        self._context = context
        self._ask = ask

    async def of(self, device: str) -> list[str]:
        """Return multiaddrs to try: those that the device announced last, then the others of what is known."""
        known = await self._context.store.read(lambda db: contacts.device(db, device))
        if known is None:
            return []
        remembered: list[str] = json.loads(known.addresses)
        announced: Announcement | None = None
        try:
            with trio.move_on_after(ASK_SECONDS):
                announced = (await self._ask(known.user_id)).get(device)
        except DispatchError as error:
            log.debug("presence.not_asked", code=error.code)
        if announced is None:
            return remembered
        # A broker that holds back newer announcements does not hide what another one has said before.
        parts = (
            (announced.addresses, remembered)
            if announced.seq >= known.presence_seq
            else (remembered, announced.addresses)
        )
        return list(dict.fromkeys(chain(*parts)))

    async def learn(self, device: str) -> bool:
        """Have what a device announced stored; return whether it is known of it now. Raises as `ask`."""
        known = await self._context.store.read(lambda db: contacts.device(db, device))
        return known is None or device in await self._ask(known.user_id)

    async def remember(self, found: Mapping[str, Announcement]) -> None:
        """Store what contacts' devices announced, unless it is older than what is stored."""
        now = self._context.clock()

        def step(db: sqlite3.Connection) -> None:
            for device, announced in found.items():
                contacts.remember_addresses(db, device, announced.addresses, seq=announced.seq, now=now)

        if await self._context.store.read(lambda db: any(map(partial(_is_news, db), found.items()))):
            await self._context.store.write(step)


class People:
    """Keeps host, courier and presence in step with the contacts in the store."""

    def __init__(
        self,
        admission: Admission,
        host: MeshHost,
        relays: Relays,
        lan: Lan,
        courier: Courier,
        brokers: Brokers,
        addresses: AddressBook,
        announce: Callable[[], None],
    ) -> None:
        """`announce` is called when views of contacts may be out of date."""
        self._admission = admission
        self._host = host
        self._relays = relays
        self._lan = lan
        self._courier = courier
        self._brokers = brokers
        self._addresses = addresses
        self._announce = announce
        self._wake: set[str] = set()
        self._applied: tuple[frozenset[tuple[str, bytes]], dict[str, bytes]] | None = None
        """The readers of our presence and the keys of contacts, as relays and local network know them."""
        self._connected: set[str] = set()
        self._looked_up: set[str] = set()
        """Devices whose addresses are being looked up. One that connects again meanwhile is asked about afterwards."""
        self._outdated = False
        """Contacts may not be as they were when the store was read."""
        self._news = trio.Event()

    def changed(self, wake: frozenset[str]) -> None:
        """Re-read contacts, edges and blocks soon. `wake`: devices to send to once they are admitted."""
        self._wake |= wake
        self._outdated = True
        self._news.set()

    def on_connected(self, device: str) -> None:
        """Look up the addresses of a device that has connected."""
        self._connected.add(device)
        self._news.set()
        self._announce()

    async def connect(self, device: str) -> None:
        """Connect to a device unless it is connected. Raises Unavailable."""
        if not self._host.connected(device):
            await self._host.connect(device, await self._addresses.of(device))

    async def run(self) -> None:
        """Apply changes of contacts, first those from before the start, until cancelled."""
        self._outdated = True
        async with trio.open_nursery() as nursery:
            while True:
                # Replaced before the store is read, so that no change is missed.
                self._news, connected = trio.Event(), self._connected - self._looked_up
                self._connected -= connected
                for device in connected:
                    self._looked_up.add(device)
                    nursery.start_soon(self._look_up_addresses, device)
                if self._outdated:
                    self._outdated = False
                    await self._apply_contacts()
                await self._news.wait()

    async def _apply_contacts(self) -> None:
        wake = frozenset(self._wake)
        before, readers, typed = self._admission.devices, self._admission.readers, self._admission.typed
        await self._admission.refresh()
        who = (self._admission.readers, self._admission.keys)
        if who != self._applied:
            # Both make something of each contact, and this runs whenever one connects.
            self._relays.set_contacts(self._admission.keys)
            self._lan.set_contacts(*who)
            self._applied = who
        for device in before - self._admission.devices:
            self._host.drop(device)
            self._courier.forget(device)
        if self._admission.readers != readers:
            # Only if the readers changed: a contact that edits its edge often must not use up our announcements.
            self._brokers.announce()
        for device in wake & self._admission.devices:
            self._courier.wake(device)
        newly = [device for device, known in self._admission.typed.items() if set(known) - set(typed.get(device, ()))]
        if newly:  # whoever types an address wants to see whether it leads anywhere
            self._courier.greet(newly)
            self._courier.renew(newly)
        self._wake -= wake
        self._announce()

    async def _look_up_addresses(self, device: str) -> None:
        """Store the addresses of a device that connected, for dialling it when the broker is unreachable."""
        try:
            for wait in LOOK_UP_SECONDS:
                await trio.sleep(wait)
                try:
                    if await self._addresses.learn(device):
                        self._outdated = True
                        break
                except DispatchError as error:
                    log.info("addresses.not_learned", code=error.code)
        finally:
            self._looked_up.discard(device)
            self._news.set()
