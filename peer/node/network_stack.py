"""The wiring of all by which a node reaches other machines: its host, the ways to contacts, its brokers, the courier.

node.py makes one and adds the services. tests/simulation/paths makes many, on simulated networks.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache

import trio

from peer.broker.brokers import Brokers
from peer.machine.certificates import system_trust
from peer.machine.network_route import proxy_to
from peer.machine.networks import NetworkWatch
from peer.machine.settings import Settings
from peer.machine.supervision import supervise
from peer.mesh import blobs as blob_protocol
from peer.mesh.courier import Courier
from peer.mesh.dialable import loopback_alone
from peer.mesh.host import MeshHost
from peer.mesh.lan import Lan
from peer.mesh.paths import PathKeeper
from peer.mesh.peer_record import MAX_ADDRESSES
from peer.mesh.port_mapping import PortMapper
from peer.mesh.relays import Relays, Route
from peer.node.delivery import BlobFetcher, Hellos, Receiver, StoredOutbox
from peer.node.people import AddressBook, Admission, People
from peer.node.relaying import RelayKeeper
from peer.node.waking import Waking
from peer.steps.effects import BrokerWriteQueued, Effects, FetchFiles, PeopleChanged
from peer.steps.journal import Journal
from peer.store import outbox


class NetworkStack:
    """One node's. In this order: `prepare`, `host.running` around the rest, `start`, `exchanging`; `apply` any time."""

    def __init__(
        self,
        journal: Journal,
        listen: Sequence[str],
        settings: Callable[[], Settings],
        save_token: Callable[[str, str], None],
        *,
        people_changed: Callable[[], None],
        lan: Lan | None = None,
        watch: Callable[[Callable[[], None], Callable[[], None]], NetworkWatch] = NetworkWatch,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`listen`: multiaddrs. `settings()`: those in force. `save_token(broker, token)` keeps a renewed token.

        `people_changed()`: views of contacts may be out of date. `lan`, `watch(changed, woke)`: in place of the real
        ones. `jitter()`: 0 to 1.
        """
        context = journal.context
        identity = context.identity
        self._settings = settings
        self._here_alone = loopback_alone(listen)
        self.admission = Admission(context)
        route = Route(
            proxy=lambda host, port: proxy_to(host, port, settings()),
            trusted=cache(system_trust),
            loopback_alone=self._here_alone,
        )
        self.relays = Relays(
            seed=identity.seed,
            device=identity.device,
            sealing_key=identity.sealing_key,
            route=route,
            clock=context.clock,
        )
        self.lan = lan or Lan(device=identity.device, sealing_key=identity.sealing_key)
        self.host = MeshHost(
            identity.seed,
            listen=listen,
            admits=self.admission.admits,
            expects=self.admission.expects,
            party=self.admission.user_of,
            typed=self.admission.typed_of,
            relays=self.relays,
            lan=self.lan,
        )
        self.brokers = Brokers(journal, settings, save_token, self.reachable_at, jitter=jitter)
        self.port_mapper = PortMapper(
            enabled=lambda: settings().map_port == "on",
            port=self.host.port_to_map,
            probe=self.host.probe,
            can_ask=lambda: any(self.relays.state().values()),
            changed=self.brokers.announce,
            clock=context.clock,
        )
        self.relays.on_changed(self.port_mapper.relays_changed)
        self._relaying = RelayKeeper(context.state, settings, self.brokers.relays, self.relays, context.clock)
        self.addresses = AddressBook(context, self.brokers.presence_of)
        self.brokers.on_presence(self.addresses.remember)
        self._paths = PathKeeper(self.host, self.addresses.of)
        receiver = Receiver(journal)
        self._hellos = Hellos(journal, self.brokers.urls)
        self.courier = Courier(
            self.host,
            outbox=StoredOutbox(journal),
            receive=receiver.receive,
            addresses=self.addresses.of,
            hello=self._hellos.own,
            on_hello=self._hellos.take,
            jitter=jitter,
        )
        self._people = People(
            self.admission,
            self.host,
            self.relays,
            self.lan,
            self.courier,
            self.brokers,
            self.addresses,
            announce=people_changed,
        )
        self._fetcher = BlobFetcher(journal, self.host, self._people.connect)
        self.waking = Waking(
            host=self.host,
            relays=self.relays,
            paths=self._paths,
            ports=self.port_mapper,
            lan=self.lan,
            courier=self.courier,
            fetcher=self._fetcher,
            brokers=self.brokers,
            devices=lambda: self.admission.devices,
            waiting=lambda: journal.read(outbox.waiting_devices),
            watch=watch,
        )
        blob_protocol.serve(self.host, receiver.lookup)
        self.brokers.on_return(self.waking.broker_returned)
        self.relays.on_changed(self.brokers.look)
        self.host.on_connected(self._on_connected)
        self.host.on_disconnected(lambda _device: people_changed())

    async def prepare(self) -> None:
        """Bring to mind what the store has of contacts and brokers."""
        await self.brokers.tidy()
        await self._hellos.renew()
        await self.admission.refresh()
        self.relays.set_contacts(self.admission.keys)
        self.lan.set_contacts(self.admission.readers, self.admission.keys)
        self._apply_lan()

    def start(self, nursery: trio.Nursery) -> None:
        """Have everything but the courier work until the nursery is cancelled."""
        # The host already receives statements; the first pass of this task reads what they changed.
        nursery.start_soon(supervise, "people", self._people.run)
        nursery.start_soon(supervise, "files", self._fetcher.run)
        nursery.start_soon(supervise, "brokers", self.brokers.run)
        nursery.start_soon(supervise, "relays", self._relaying.run)
        nursery.start_soon(supervise, "paths", self._paths.run)
        nursery.start_soon(supervise, "port mapping", self.port_mapper.run)

    @asynccontextmanager
    async def exchanging(self, nursery: trio.Nursery) -> AsyncIterator[None]:
        """Send while the block runs, and greet contacts: at the start, and whenever this machine wakes."""
        async with self.courier.running():
            # Statements waiting on either side are exchanged now, even if the broker is unreachable.
            await self.waking.greet()
            nursery.start_soon(supervise, "waking", self.waking.run)
            yield

    def apply(self, effects: Effects) -> None:
        """Apply what the effects of a durable step say of other machines."""
        if FetchFiles() in effects:
            self._fetcher.wake()
        if BrokerWriteQueued() in effects:
            self.brokers.flush()
        if PeopleChanged() in effects:
            # A device pinned just now can be sent to only after the host admits it.
            self._people.changed(effects.woken())
        else:
            for device in effects.woken():
                self.courier.wake(device)

    async def reload(self) -> None:
        """Apply the settings anew."""
        await self.brokers.reload()
        if self._hellos.outdated:
            await self._hellos.renew()
            self.courier.say_hello_anew()
        self._relaying.reload()
        self._apply_lan()
        self.port_mapper.reload()

    def reachable_at(self) -> list[str]:
        """Return the multiaddrs at which this device is announced."""
        verified = self.port_mapper.verified
        mapped = [] if verified is None else [f"{verified.multiaddr}/p2p/{self.host.peer_id}"]
        ways = [*mapped, *self.relays.addresses()]
        return [*self.host.addresses()[: MAX_ADDRESSES - len(ways)], *ways]

    def _apply_lan(self) -> None:
        self.lan.set_on(self._settings().lan == "on" and not self._here_alone)

    def _on_connected(self, device: str) -> None:
        if not self.admission.admits(device):  # not any more: it was in its handshake when that ended
            self.host.drop(device)
            return
        self._fetcher.on_connected(device)
        self._people.on_connected(device)
