"""The wiring of a node: which service gets what, in what order tasks start, which effect goes where. No use cases.

The API calls the services: `sending`, `decisions`, `trust`, `queries`. A service first does what must wait (files,
folders, the broker), then runs a step of the journal, and returns a document of the API.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import structlog
import trio

from peer.machine.live_settings import LiveSettings
from peer.machine.settings import Settings
from peer.machine.supervision import supervise
from peer.node.away import AwayNotifier
from peer.node.changes import ChangeLog, ChangeSignal, OpenPages
from peer.node.deadlines import Deadlines
from peer.node.deciding import DecisionService
from peer.node.grantable import Grantable
from peer.node.invitations import InvitationService
from peer.node.network_stack import NetworkStack
from peer.node.notifications import Notifier
from peer.node.queries import QueryService
from peer.node.relay_contacts import RelayContacts
from peer.node.reviewing import ReviewService
from peer.node.sending import SendService
from peer.node.storage import Storage
from peer.node.trust import TrustService
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
    InvitationsChanged,
    PeopleChanged,
    StopRun,
    StopRunsOfEdge,
    ThinningDue,
)
from peer.steps.journal import Journal
from peer.store import dispatches

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

        net = self._network = NetworkStack(
            journal, listen, current, live.save_token, people_changed=self._on_people_changed
        )
        self.admission, self.host, self.lan, self.relays = net.admission, net.host, net.lan, net.relays
        self.brokers, self.port_mapper = net.brokers, net.port_mapper
        self.relay_contacts = RelayContacts(context)
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
        machine = Grantable(context.state.path, self._folders.facts, current)
        self.trust = TrustService(journal, self.brokers, self.queries, machine)
        self.invitations = InvitationService(
            journal, current, self.brokers, machine, changed=self._on_invitations_changed
        )

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._settings.current

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the node while the block runs. First repair what an earlier process left unfinished."""
        await self.journal.step(running.interrupt_all)
        await self._sweep()
        await self._network.prepare()
        async with self.host.running(), trio.open_nursery() as nursery:
            self._network.start(nursery)
            await nursery.start(self.runs.serve)
            nursery.start_soon(supervise, "removal", self._remover.run)
            nursery.start_soon(supervise, "removal of changes", self._changes_remover.run)
            nursery.start_soon(supervise, "changes", self._keep_changes)
            nursery.start_soon(supervise, "settings", self._settings.run)
            nursery.start_soon(supervise, "storage", self._storage.run)
            nursery.start_soon(supervise, "deadlines", self._deadlines.run)
            nursery.start_soon(supervise, "contacts for a relay", self.relay_contacts.run)
            nursery.start_soon(supervise, "projects", self._folders.keep_fresh)
            notifying = partial(self._notifier.run, lambda: self.settings.notifications)
            nursery.start_soon(supervise, "notifications", notifying)
            nursery.start_soon(supervise, "notifications away from the desk", self.away.run)
            async with self._network.exchanging(nursery):
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
        await self._network.reload()
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
                case BlobsFreed() | ThinningDue():
                    self._storage.wake()
                case ChangesFreed():
                    self._freed_changes.set()
        self._network.apply(effects)
        if PeopleChanged() in effects:
            self.relay_contacts.changed()
        self._deadlines.consider(effects.first_deadline())
        for dispatch_id in effects.changed():
            self.changes.note("dispatch", dispatch_id)
        if any(effect in effects for effect in (PeopleChanged(), InvitationsChanged(), BrokerWriteQueued())):
            self.changes.note("trust")
            self.changes.note("invitations")
        self.signal.notify(effects.changed())

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
