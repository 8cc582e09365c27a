"""The wiring of a node: which service gets what, in what order tasks start, which effect goes where. No use cases.

The API calls the services: `sending`, `decisions`, `trust`, `queries`. A service first does what must wait (files,
folders, the broker), then runs a step of the journal, and returns a document of the API.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache, partial
from pathlib import Path

import structlog
import trio

from peer.broker.brokers import Brokers
from peer.machine.certificates import system_trust
from peer.machine.live_settings import LiveSettings
from peer.machine.network_route import proxy_to
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
from peer.node.away import AwayNotifier
from peer.node.changes import ChangeLog, ChangeSignal, OpenPages
from peer.node.deadlines import Deadlines
from peer.node.deciding import DecisionService
from peer.node.delivery import BlobFetcher, Hellos, Receiver, StoredOutbox
from peer.node.notifications import Notifier
from peer.node.people import AddressBook, Admission, People
from peer.node.queries import QueryService
from peer.node.relay_contacts import RelayContacts
from peer.node.relaying import RelayKeeper
from peer.node.reviewing import ReviewService
from peer.node.sending import SendService
from peer.node.storage import Storage
from peer.node.trust import TrustService
from peer.node.waking import Waking
from peer.protocol.errors import DispatchError
from peer.runs.change_sets import ChangeSets
from peer.runs.folders import RunFolders
from peer.runs.lander import Lander
from peer.runs.registry import RunRegistry
from peer.runs.removal import Remover
from peer.steps import running
from peer.steps.context import Context
from peer.steps.effects import (
    BlobsFreed,
    BrokerWriteQueued,
    ChangesFreed,
    Effects,
    FetchFiles,
    InvitationsChanged,
    PeopleChanged,
    StopRun,
    StopRunsOfEdge,
    ThinningDue,
)
from peer.steps.journal import Journal
from peer.store import dispatches, outbox

log = structlog.get_logger(__name__)

FAREWELL_SECONDS = 1.0
"""How long a stopping node tries to withdraw its announcement at the broker."""


class Node:
    """One device's node. Enter `running`, then call its services."""

    def __init__(self, context: Context, listen: Sequence[str], *, farewell_seconds: float = FAREWELL_SECONDS) -> None:
        """`listen`: multiaddrs. `farewell_seconds`: bound on storing interruptions and withdrawing presence."""
        self.context = context
        self.port = 0
        """The port of the loopback API; 0 until it listens."""
        self._farewell_seconds = farewell_seconds
        self.signal = ChangeSignal()
        self.changes = ChangeLog(context.random(4).hex())
        self.pages = OpenPages()
        journal = self.journal = Journal(context, self._apply)
        live = self._settings = LiveSettings(context.state)

        def current() -> Settings:
            return live.current

        self.admission = Admission(context)
        alone = self._here_alone = loopback_alone(listen)
        route = Route(
            proxy=lambda host, port: proxy_to(host, port, current()),
            trusted=cache(system_trust),
            loopback_alone=alone,
        )
        self.relays = Relays(
            seed=context.identity.seed,
            device=context.identity.device,
            sealing_key=context.identity.sealing_key,
            route=route,
            clock=context.clock,
        )
        self.lan = Lan(device=context.identity.device, sealing_key=context.identity.sealing_key)
        self.host = MeshHost(
            context.identity.seed,
            listen=listen,
            admits=self.admission.admits,
            expects=self.admission.expects,
            party=self.admission.user_of,
            typed=self.admission.typed_of,
            relays=self.relays,
            lan=self.lan,
        )
        self.brokers = Brokers(journal, current, live.save_token, self._reachable_at)
        self.port_mapper = PortMapper(
            enabled=lambda: current().map_port == "on",
            port=self.host.port_to_map,
            probe=self.host.probe,
            can_ask=lambda: any(self.relays.state().values()),
            changed=self.brokers.announce,
            clock=context.clock,
        )
        self.relays.on_changed(self.port_mapper.relays_changed)
        self._relaying = RelayKeeper(context.state, current, self.brokers.relays, self.relays, context.clock)
        self.relay_contacts = RelayContacts(context)
        addresses = AddressBook(context, self.brokers.presence_of)
        self.brokers.on_presence(addresses.remember)
        self._paths = PathKeeper(self.host, addresses.of)
        receiver = Receiver(journal)
        self._hellos = Hellos(journal, self.brokers.urls)
        self._courier = Courier(
            self.host,
            outbox=StoredOutbox(journal),
            receive=receiver.receive,
            addresses=addresses.of,
            hello=self._hellos.own,
            on_hello=self._hellos.take,
        )
        self._people = People(
            self.admission,
            self.host,
            self.relays,
            self.lan,
            self._courier,
            self.brokers,
            addresses,
            announce=self._on_people_changed,
        )
        self._fetcher = BlobFetcher(journal, self.host, self._people.connect)
        self._waking = Waking(
            host=self.host,
            relays=self.relays,
            paths=self._paths,
            ports=self.port_mapper,
            lan=self.lan,
            courier=self._courier,
            fetcher=self._fetcher,
            brokers=self.brokers,
            devices=lambda: self.admission.devices,
            waiting=lambda: journal.read(outbox.waiting_devices),
        )
        self._deadlines = Deadlines(journal)
        self._storage = Storage(journal, current)
        self.away = AwayNotifier(current)
        self._notifier = Notifier(
            context=context, changes=self.changes, signal=self.signal, pages=self.pages, away=self.away
        )
        self._remover = Remover(context.state.runs)
        self._changes_remover = Remover(context.state.changes)
        self._change_sets = ChangeSets(journal, self._changes_remover)
        self._lander = Lander(journal, self._change_sets)
        self._freed_changes = trio.Event()
        self._left_runs: list[tuple[str, int, Path]] = []
        """Folders of runs that an earlier process left: (dispatch, attempt, folder)."""
        self.runs = RunRegistry(
            journal, current, self._remover, self._change_sets, self._lander, ended=self._storage.wake
        )
        self._folders = RunFolders(context, current)
        self.sending = SendService(journal, self.host.connected)
        self.decisions = DecisionService(journal, live, self._folders, self.runs)
        self.reviewing = ReviewService(context, self._change_sets, self._lander)
        self.queries = QueryService(context, self._folders, self.host.path_now, self._lander.idle)
        self.trust = TrustService(
            journal,
            current,
            self.brokers,
            self.queries,
            facts=self._folders.facts,
            invitations_changed=self._on_invitations_changed,
        )
        blob_protocol.serve(self.host, receiver.lookup)
        self.brokers.on_return(self._waking.broker_returned)
        self.relays.on_changed(self.brokers.look)
        self.host.on_connected(self._on_connected)
        self.host.on_disconnected(lambda _device: self._on_people_changed())

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._settings.current

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the node while the block runs. First repair what an earlier process left unfinished."""
        await self.journal.step(running.interrupt_all)
        await self.brokers.tidy()
        await self._hellos.renew()
        await self._sweep()
        await self.admission.refresh()
        self.relays.set_contacts(self.admission.keys)
        self.lan.set_contacts(self.admission.readers, self.admission.keys)
        self._apply_lan()
        async with self.host.running(), trio.open_nursery() as nursery:
            # The host already receives statements; the first pass of this task reads what they changed.
            nursery.start_soon(supervise, "people", self._people.run)
            await nursery.start(self.runs.serve)
            nursery.start_soon(supervise, "removal", self._remover.run)
            nursery.start_soon(supervise, "removal of changes", self._changes_remover.run)
            nursery.start_soon(supervise, "changes", self._keep_changes)
            nursery.start_soon(supervise, "settings", self._settings.run)
            nursery.start_soon(supervise, "files", self._fetcher.run)
            nursery.start_soon(supervise, "storage", self._storage.run)
            nursery.start_soon(supervise, "deadlines", self._deadlines.run)
            nursery.start_soon(supervise, "brokers", self.brokers.run)
            nursery.start_soon(supervise, "relays", self._relaying.run)
            nursery.start_soon(supervise, "contacts for a relay", self.relay_contacts.run)
            nursery.start_soon(supervise, "paths", self._paths.run)
            nursery.start_soon(supervise, "port mapping", self.port_mapper.run)
            nursery.start_soon(supervise, "projects", self._folders.keep_fresh)
            notifying = partial(self._notifier.run, lambda: self.settings.notifications)
            nursery.start_soon(supervise, "notifications", notifying)
            nursery.start_soon(supervise, "notifications away from the desk", self.away.run)
            async with self._courier.running():
                # Statements waiting on either side are exchanged now, even if the broker is unreachable.
                await self._waking.greet()
                nursery.start_soon(supervise, "waking", self._waking.run)
                try:
                    yield
                finally:
                    self.runs.kill_all()
                    with trio.CancelScope(shield=True, deadline=trio.current_time() + self._farewell_seconds):
                        await self._interrupt_runs()
                        await self.brokers.withdraw()
                    nursery.cancel_scope.cancel()

    async def reload(self) -> None:
        """Read config.json again. Raises Invalid, and then keeps the old settings."""
        await self._settings.reload()
        await self.brokers.reload()
        if self._hellos.outdated:
            await self._hellos.renew()
            self._courier.say_hello_anew()
        self._relaying.reload()
        self._apply_lan()
        self.port_mapper.reload()
        self._storage.wake()
        self.changes.note("settings")
        self.signal.notify()

    def _apply(self, effects: Effects) -> None:
        """Apply the effects of a durable step."""
        for effect in effects:
            match effect:
                case StopRun(dispatch_id):
                    log.info("run.stop", dispatch=dispatch_id)  # a reason may hold a sender's words
                    self.runs.stop(dispatch_id)
                case StopRunsOfEdge(edge_id):
                    log.info("run.stop_edge", edge=edge_id)
                    self.runs.stop_edge(edge_id)
                case FetchFiles():
                    self._fetcher.wake()
                case BlobsFreed() | ThinningDue():
                    self._storage.wake()
                case ChangesFreed():
                    self._freed_changes.set()
                case BrokerWriteQueued():
                    self.brokers.flush()
        if PeopleChanged() in effects:
            # A device pinned just now can be sent to only after the host admits it.
            self._people.changed(effects.woken())
            self.relay_contacts.changed()
        else:
            for device in effects.woken():
                self._courier.wake(device)
        self._deadlines.consider(effects.first_deadline())
        for dispatch_id in effects.changed():
            self.changes.note("dispatch", dispatch_id)
        if any(effect in effects for effect in (PeopleChanged(), InvitationsChanged(), BrokerWriteQueued())):
            self.changes.note("trust")
            self.changes.note("invitations")
        self.signal.notify(effects.changed())

    def _apply_lan(self) -> None:
        self.lan.set_on(self.settings.lan == "on" and not self._here_alone)

    def _reachable_at(self) -> list[str]:
        verified = self.port_mapper.verified
        mapped = [] if verified is None else [f"{verified.multiaddr}/p2p/{self.host.peer_id}"]
        ways = [*mapped, *self.relays.addresses()]
        return [*self.host.addresses()[: MAX_ADDRESSES - len(ways)], *ways]

    def _on_connected(self, device: str) -> None:
        self._fetcher.on_connected(device)
        self._people.on_connected(device)

    def _on_people_changed(self) -> None:
        self.changes.note("trust")
        self.signal.notify()

    def _on_invitations_changed(self) -> None:
        self.changes.note("invitations")
        self.signal.notify()

    async def _keep_changes(self) -> None:
        """Finish what a crash left of landings and of ended runs, then remove contents of changes that are let go."""
        await self._lander.resume()
        for dispatch_id, attempt, folder in self._left_runs:
            await self._change_sets.recover(dispatch_id, attempt, folder)
            await self._remover.remove(folder)
        while True:
            self._freed_changes = trio.Event()
            await self._change_sets.sweep()
            await self._freed_changes.wait()

    async def _interrupt_runs(self) -> None:
        """Record the killed runs as interrupted, so that the inbox is right while no node runs."""
        try:
            await self.journal.step(running.interrupt_all)
        except DispatchError as error:
            log.error("runs.not_interrupted", code=error.code)  # the next start records it

    async def _sweep(self) -> None:
        """Remove what a crash left on disk: folders of runs, copied files that no stored statement names.

        Folders are only renamed into the trash here, because deleting their content may take long or fail.
        """
        ready = await self.journal.read(dispatches.ready_digests)
        awaited = {item.digest for _, item in await self.journal.read(dispatches.awaited_files)}
        sweep = partial(self.context.blobs.sweep, ready=ready, awaited=awaited)
        try:
            removed = await trio.to_thread.run_sync(sweep)
        except OSError as error:
            log.warning("blobs.not_swept", why=error.strerror)
            removed = 0
        # A run that had views is looked at before its folder goes, which may take long.
        self._left_runs = await trio.to_thread.run_sync(list, self._change_sets.unfinished())
        await self._remover.remove_all(but=[folder for _, _, folder in self._left_runs])
        if removed:
            log.info("blobs.swept", files=removed)
