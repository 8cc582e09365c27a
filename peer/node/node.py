"""The wiring of one device's node: which service gets what, in which order they run, who applies which effect. No HTTP.

Every method that a person's client reaches is a service's (sending, decisions, trust, queries), and returns a document
of the API. A service checks what needs waiting (files, folders, the broker), then runs one step of the journal.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import structlog
import trio

from peer.broker.sync import BrokerSync
from peer.machine.live_settings import LiveSettings
from peer.machine.settings import Settings
from peer.machine.supervision import supervise
from peer.mesh import blobs as blob_protocol
from peer.mesh.courier import Courier
from peer.mesh.host import MeshHost
from peer.node.changes import ChangeLog, ChangeSignal, OpenPages
from peer.node.deadlines import Deadlines
from peer.node.deciding import DecisionService
from peer.node.delivery import BlobFetcher, Hellos, Receiver, StoredOutbox
from peer.node.notifications import Notifier
from peer.node.people import AddressBook, Admission, People
from peer.node.queries import QueryService
from peer.node.sending import SendService
from peer.node.trust import TrustService
from peer.protocol.errors import DispatchError
from peer.runs.folders import RunFolders
from peer.runs.registry import RunRegistry
from peer.runs.removal import Remover
from peer.steps import running
from peer.steps.context import Context
from peer.steps.effects import (
    BrokerWriteQueued,
    Effects,
    FetchFiles,
    InvitationsChanged,
    PeopleChanged,
    StopRun,
    StopRunsOfEdge,
)
from peer.steps.journal import Journal
from peer.store import dispatches, outbox

log = structlog.get_logger(__name__)

FAREWELL_SECONDS = 1.0
"""How long a stopping node tries to take its announcement back at the broker."""


class Node:
    """The node. Make it with an open store and an identity, enter `running`, call its services."""

    def __init__(self, context: Context, listen: Sequence[str], *, farewell_seconds: float = FAREWELL_SECONDS) -> None:
        """`listen`: multiaddrs. `farewell_seconds`: how long a stopping node may take to tell its broker."""
        self.context = context
        self.port = 0
        """The loopback API's port, once it serves."""
        self._farewell_seconds = farewell_seconds
        self.signal = ChangeSignal()
        self.changes = ChangeLog(context.random(4).hex())
        self.pages = OpenPages()
        journal = self.journal = Journal(context, self._apply)
        live = self._settings = LiveSettings(context.state)

        def current() -> Settings:
            return live.current

        self.admission = Admission(context)
        self.host = MeshHost(context.identity.seed, listen=listen, admits=self.admission.admits)
        self.broker = BrokerSync(journal, current, live.save_token, self.host.addresses)
        addresses = AddressBook(context, self.broker.presence_of)
        receiver = Receiver(journal)
        self._hellos = Hellos(journal)
        self._courier = Courier(
            self.host,
            outbox=StoredOutbox(journal),
            receive=receiver.receive,
            addresses=addresses.of,
            hello=self._hellos.own,
            on_hello=self._hellos.take,
        )
        self._people = People(
            self.admission, self.host, self._courier, self.broker, addresses, announce=self._note_people
        )
        self._fetcher = BlobFetcher(journal, self.host, self._people.connect)
        self._deadlines = Deadlines(journal)
        self._notifier = Notifier(context=context, changes=self.changes, signal=self.signal, pages=self.pages)
        self._remover = Remover(context.state.runs)
        self.runs = RunRegistry(journal, current, self._remover)
        self._folders = RunFolders(context, current)
        self.sending = SendService(journal, self.host.connected)
        self.decisions = DecisionService(journal, live, self._folders, self.runs)
        self.queries = QueryService(context, self._folders, self.host.path)
        self.trust = TrustService(
            journal, current, self.broker, self.queries, facts=self._folders.facts, invited=self._note_invitations
        )
        blob_protocol.serve(self.host, receiver.lookup)
        self.host.on_connected(self._on_connected)
        self.host.on_disconnected(lambda _device: self._note_people())

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._settings.current

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Be a peer while the block runs. What an earlier node left half done is put right first."""
        await self.journal.step(running.interrupt_all)
        await self._hellos.renew()
        await self._sweep()
        await self.admission.refresh()
        async with self.host.running(), trio.open_nursery() as nursery:
            # The host already takes statements in; what one of them changed before this line is read here.
            nursery.start_soon(supervise, "people", self._people.run)
            await nursery.start(self.runs.serve)
            nursery.start_soon(supervise, "removal", self._remover.run)
            nursery.start_soon(supervise, "settings", self._settings.run)
            nursery.start_soon(supervise, "files", self._fetcher.run)
            nursery.start_soon(supervise, "deadlines", self._deadlines.run)
            nursery.start_soon(supervise, "broker", self.broker.run)
            nursery.start_soon(supervise, "projects", self._folders.keep_fresh)
            notifying = partial(self._notifier.run, lambda: self.settings.notifications)
            nursery.start_soon(supervise, "notifications", notifying)
            async with self._courier.running():
                # What waits goes out, and what waits for us over there comes in, also with the broker away.
                self._courier.greet(self.admission.devices)
                for device in await self.journal.read(outbox.waiting_devices):
                    self._courier.wake(device)
                try:
                    yield
                finally:
                    self.runs.kill_all()
                    with trio.CancelScope(shield=True, deadline=trio.current_time() + self._farewell_seconds):
                        await self._interrupt_runs()
                        await self.broker.withdraw()
                    nursery.cancel_scope.cancel()

    async def reload(self) -> None:
        """Read config.json again. Raises Invalid, and keeps what was in force."""
        await self._settings.reload()
        self.broker.reload()
        self.changes.note("settings")
        self.signal.ring()

    def _apply(self, effects: Effects) -> None:
        """Do what a durable step left to be done."""
        for effect in effects:
            match effect:
                case StopRun(dispatch_id, reason):
                    log.info("run.stop", dispatch=dispatch_id, reason=reason)
                    self.runs.stop(dispatch_id)
                case StopRunsOfEdge(edge_id):
                    log.info("run.stop_edge", edge=edge_id)
                    self.runs.stop_edge(edge_id)
                case FetchFiles():
                    self._fetcher.wake()
                case BrokerWriteQueued():
                    self.broker.flush()
        if PeopleChanged() in effects:
            # A device that was just pinned can be served only once the host admits it.
            self._people.changed(effects.woken())
        else:
            for device in effects.woken():
                self._courier.wake(device)
        self._deadlines.consider(effects.first_deadline())
        for dispatch_id in effects.changed():
            self.changes.note("dispatch", dispatch_id)
        if any(effect in effects for effect in (PeopleChanged(), InvitationsChanged(), BrokerWriteQueued())):
            self.changes.note("trust")
            self.changes.note("invitations")
        self.signal.ring(effects.changed())

    def _on_connected(self, device: str) -> None:
        self._fetcher.showed_up(device)
        self._people.on_connected(device)

    def _note_people(self) -> None:
        self.changes.note("trust")
        self.signal.ring()

    def _note_invitations(self) -> None:
        self.changes.note("invitations")
        self.signal.ring()

    async def _interrupt_runs(self) -> None:
        """Record what was just killed as interrupted: whoever looks while no node runs sees it in the inbox."""
        try:
            await self.journal.step(running.interrupt_all)
        except DispatchError as error:
            log.error("runs.not_interrupted", code=error.code)  # the next start does it

    async def _sweep(self) -> None:
        """Remove what a crash left half done on disk: folders of runs, copies that no statement came to name.

        The folders are only set aside here: what is in them may take long to remove, or not be removable.
        """
        ready = await self.journal.read(dispatches.ready_digests)
        awaited = {item.digest for _, item in await self.journal.read(dispatches.awaited_files)}
        sweep = partial(self.context.blobs.sweep, ready=ready, awaited=awaited)
        try:
            removed = await trio.to_thread.run_sync(sweep)
        except OSError as error:
            log.warning("blobs.not_swept", why=error.strerror)
            removed = 0
        await self._remover.remove_all()
        if removed:
            log.info("blobs.swept", files=removed)
