"""One device's node: wires store, mesh, broker and runs together, and is what the API's routes call. No HTTP here.

Every method that a person's client reaches returns a document of the API. Deciding is in steps/, doing here: a method
checks what needs waiting (files, folders, the broker), runs one step in one transaction, and applies its effects.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import structlog
import trio

from peer.broker.sync import BrokerSync
from peer.dispatches import payload
from peer.machine.live_settings import LiveSettings
from peer.machine.settings import Settings
from peer.machine.supervision import supervise
from peer.mesh import blobs as blob_protocol
from peer.mesh.courier import Courier
from peer.mesh.host import MeshHost
from peer.node.changes import ChangeLog, ChangeSignal, OpenPages
from peer.node.delivery import AddressBook, BlobFetcher, Receiver, StoredOutbox
from peer.node.notifications import Notifier
from peer.node.trust import TrustService
from peer.protocol import names
from peer.protocol.errors import DispatchError, Invalid, NotFound, Unavailable
from peer.protocol.statements import FileRef
from peer.runs.folders import RunFolders
from peer.runs.run import Runs
from peer.runs.start_frame import granted_servers
from peer.steps import inbound, inviting, receiving, running, sending
from peer.steps.context import Context, Effects
from peer.store import contacts, dispatches, lists, outbox, rows, views
from peer.store.blobs import StagedFile
from peer.trust import aliases
from sandbox import frames

log = structlog.get_logger(__name__)

T = TypeVar("T")
Document = dict[str, Any]

FORGOTTEN_AT_ONCE = 20_000
"""Old statements deleted in one transaction, which holds up every other for a fraction of a second."""
FAREWELL_SECONDS = 1.0
"""How long a stopping node tries to take its announcement back at the broker."""
LEARN_SECONDS = (0.0, 6.0)
"""After a device connected, when its addresses are asked for: it may announce itself a moment after it called."""


class Node:
    """The node. Make it with an open store and an identity, enter `running`, call its methods."""

    def __init__(self, context: Context, listen: Sequence[str], *, farewell_seconds: float = FAREWELL_SECONDS) -> None:
        """`farewell_seconds`: how long a stopping node may take to tell its broker."""
        self.context = context
        self._farewell_seconds = farewell_seconds
        self.bells = ChangeSignal()
        self.changes = ChangeLog(context.random(4).hex())
        self.pages = OpenPages()
        self._settings = LiveSettings(context.state)
        self._admitted: frozenset[str] = frozenset()
        self._readers: frozenset[tuple[str, bytes]] = frozenset()
        self.host = MeshHost(context.identity.seed, listen=listen, admits=lambda device: device in self._admitted)
        save_token = self._settings.save_token
        self.broker = BrokerSync(context, lambda: self.settings, save_token, self.host.addresses, self.apply)
        self._intake = Receiver(context, self.apply)
        book = AddressBook(context, self.broker.presence_of)
        self._addresses = book.of
        self._courier = Courier(
            self.host, outbox=StoredOutbox(context, self.apply), receive=self._intake.receive, addresses=book.of
        )
        self._puller = BlobFetcher(context, self.host, self.apply, self._connect)
        self.runs = Runs(context, lambda: self.settings, self.apply)
        self.folders = RunFolders(context, lambda: self.settings)
        self.trust = TrustService(self)
        self.port = 0
        """The loopback API's port, once it serves."""
        self._next_expiry = math.inf
        self._sooner = trio.Event()
        self._nursery: trio.Nursery | None = None
        """While the node runs. What a step asks for before or after is read from the store at the next start."""
        blob_protocol.serve(self.host, self._intake.lookup)
        self.host.on_connected(self._on_connected)
        self.host.on_disconnected(lambda _device: self._people_changed())

    # --- life

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Be a peer while the block runs. What an earlier node left half done is put right first."""
        effects = Effects()
        await self.context.store.write(lambda db: running.interrupt_all(db, self.context, effects))
        await self._sweep()
        await self._refresh_admitted()
        async with self.host.running(), trio.open_nursery() as nursery:
            self._nursery = nursery
            # The host already takes statements in; what one of them changed before this line is read here.
            nursery.start_soon(supervise, "contacts", partial(self._contacts_changed, self._admitted, frozenset[str]()))
            await nursery.start(self.runs.serve)
            nursery.start_soon(supervise, "settings", self._settings.run)
            nursery.start_soon(supervise, "puller", self._puller.run)
            nursery.start_soon(supervise, "expiry", self._expiring)
            nursery.start_soon(supervise, "broker", self.broker.run)
            nursery.start_soon(supervise, "projects", self.folders.keep_fresh)
            notifier = Notifier(context=self.context, changes=self.changes, bells=self.bells, pages=self.pages)
            nursery.start_soon(supervise, "notifications", partial(notifier.run, lambda: self.settings.notifications))
            async with self._courier.running():
                # What waits goes out, and what waits for us over there comes in, also with the broker away.
                self._courier.greet(self._admitted)
                for device in await self.context.store.read(outbox.waiting_devices):
                    self._courier.wake(device)
                try:
                    yield
                finally:
                    self.runs.kill_all()
                    with trio.CancelScope(shield=True, deadline=trio.current_time() + self._farewell_seconds):
                        await self._interrupt_runs()
                        await self.broker.withdraw()
                    # The host still takes statements in for a moment; what they change is read at the next start.
                    self._nursery = None
                    nursery.cancel_scope.cancel()

    def apply(self, effects: Effects) -> None:
        """Do what a durable step left to be done."""
        for dispatch_id, reason in effects.stop_runs.items():
            log.info("run.stop", dispatch=dispatch_id, reason=reason)
            self.runs.kill(dispatch_id)
        if effects.contacts_changed and self._nursery is not None:
            self._nursery.start_soon(
                supervise, "contacts", partial(self._contacts_changed, self._admitted, frozenset(effects.wake))
            )
        else:
            for device in effects.wake:
                self._courier.wake(device)
        if effects.pull_files:
            self._puller.wake()
        if effects.broker:
            self.broker.owe()
        if effects.expires < self._next_expiry:
            self._sooner.set()
        for dispatch_id in effects.changed:
            self.changes.note("dispatch", dispatch_id)
        if effects.contacts_changed or effects.invitations_changed or effects.broker:
            self.changes.note("trust")
            self.changes.note("invitations")
        self.bells.ring(effects.changed)

    async def step(self, work: Callable[[Any, Effects], T]) -> T:
        """Run one step in one transaction and apply its effects."""
        effects = Effects()
        value = await self.context.store.write(lambda db: work(db, effects))
        self.apply(effects)
        return value

    @property
    def admitted(self) -> frozenset[str]:
        """The devices that may connect."""
        return self._admitted

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._settings.current

    async def reload(self) -> None:
        """Read config.json again. Raises Invalid, and keeps what was in force."""
        await self._settings.reload()
        self.broker.reload()
        self.changes.note("settings")
        self.bells.ring()

    # --- sending

    async def send(self, request: Mapping[str, Any]) -> Document:
        """Sign and queue a dispatch: {dispatch_id, status, expires_at, peer_online}."""
        recipient = await self.user_named(request["recipient"])
        lifetime = request.get("expires_in_seconds")
        facts = payload.Payload(
            task=request["task"],
            project=request.get("project") or "",
            links=tuple(request.get("links") or ()),
            deliverable=request.get("deliverable") or "",
            background=request.get("background") or "",
            metadata=dict(request.get("meta") or {}),
            lifetime_seconds=payload.DEFAULT_LIFETIME_SECONDS if lifetime is None else lifetime,
        )
        paths = [Path(path) for path in request.get("files") or ()]
        payload.check_payload(facts)
        # Names and count before anything is read; 1 byte stands for the sizes, which are checked below.
        payload.check_files(tuple(payload.FileFact(path.name, 1) for path in paths))
        context = self.context
        if paths:
            # Before any file is read: who may not send learns it at once.
            await context.store.read(lambda db: sending.edge_to(db, recipient, context.clock()))
        files: list[StagedFile] = []
        try:
            for path in paths:
                if not path.is_absolute():
                    raise Invalid(f"{path} is not an absolute path", fix="name the file by its whole path")
                take = partial(context.blobs.take_in, path, path.name, limit=payload.MAX_FILE_BYTES)
                files.append(await trio.to_thread.run_sync(take))
            payload.check_files(tuple(payload.FileFact(item.name, item.size) for item in files))
            draft = sending.Draft(
                recipient=recipient,
                task=facts.task,
                lifetime_seconds=facts.lifetime_seconds,
                files=tuple(FileRef(item.name, item.size, item.digest) for item in files),
                project=facts.project,
                links=facts.links,
                deliverable=facts.deliverable,
                background=facts.background,
                metadata=dict(facts.metadata),
                parent_id=request.get("parent_id") or "",
                device=request.get("device") or "",
            )

            def compose(db: Any, effects: Effects) -> rows.Dispatch:
                row = sending.compose(db, context, draft, effects)
                for item in files:
                    item.keep()
                return row

            row = await self.step(compose)
        finally:
            for item in files:
                item.discard()
        return {
            "dispatch_id": row.dispatch_id,
            "status": row.state,
            "expires_at": lists.rfc3339(row.expires),
            "peer_online": self.host.connected(row.device),
        }

    async def user_named(self, name: str) -> str:
        """Return the user id that an e-mail address or a contact's alias means. Raises Invalid, NotFound."""
        if "@" in name:
            return names.user_id(name)
        for contact in await self.context.store.read(contacts.every):
            if contact.alias and aliases.key(contact.alias) == aliases.key(name):
                return contact.user_id
        raise NotFound(f"no contact is called {name!r}", fix="name them by their e-mail address: `dispatch contacts`")

    # --- reading

    def live(self) -> views.Live:
        """Return what is true only now."""
        return views.Live(me=self.context.identity.user_id, now=self.context.clock(), path=self.host.path)

    async def dispatches(self, *, box: str, status: str | None, limit: int, before: str | None) -> Document:
        """Return a page of the inbox or of what was sent."""
        live = self.live()
        return await self.context.store.read(
            lambda db: lists.dispatch_list(db, live.me, live.now, box=box, status=status, limit=limit, before=before)
        )

    async def dispatch(self, dispatch_id: str, *, with_trace: bool = True) -> Document:
        """Return one dispatch whole; a pending one with the suggestion of where it would run. Raises NotFound."""
        live = self.live()
        document = await self.context.store.read(
            lambda db: views.dispatch_document(db, live.me, live.now, dispatch_id, with_trace=with_trace)
        )
        if document["direction"] == "received" and document["status"] == "pending":
            document["suggestion"] = await self.folders.suggestion(dispatch_id)
        return document

    async def approvals(self) -> list[Document]:
        """Return the tool calls that wait for a person."""
        return await self.context.store.read(lambda db: views.approval_list(db, self.context.clock()))

    # --- deciding

    async def accept(self, dispatch_id: str, cwd: str | None) -> Document:
        """Accept a dispatch and run it: {dispatch_id, decision, ok, approval, cwd}. Twice is one run: 409."""
        context = self.context
        await context.store.read(lambda db: receiving.received(db, dispatch_id))
        await self._check_can_run()
        # Again at the start of the run; here so that one who must edit the edge first can accept afterwards.
        await context.store.read(lambda db: granted_servers(db, context, receiving.received(db, dispatch_id)))
        folder = await self.folders.choose(dispatch_id, cwd)
        row, scope = await self.step(
            lambda db, effects: receiving.accept(db, context, dispatch_id, effects, cwd=folder or "")
        )
        # No await between the commit and this: nothing may come between an accept and its run.
        self.runs.start(row, scope)
        return {
            "dispatch_id": dispatch_id,
            "decision": "accepted",
            "ok": True,
            "approval": scope.approval,
            "cwd": folder,
        }

    async def decline(self, dispatch_id: str, reason: str) -> Document:
        """Decline a dispatch: {dispatch_id, decision, ok}."""
        payload.check_text("the reason", reason, 2_000)
        await self.step(lambda db, effects: receiving.decline(db, self.context, dispatch_id, effects, reason=reason))
        return {"dispatch_id": dispatch_id, "decision": "declined", "ok": True}

    async def cancel(self, dispatch_id: str, reason: str) -> Document:
        """Cancel a dispatch, sent or received: {dispatch_id, status, ok}."""
        payload.check_text("the reason", reason, 2_000)
        context = self.context

        def work(db: Any, effects: Effects) -> None:
            row = dispatches.get(db, dispatch_id)
            if row is None:
                raise NotFound(f"no dispatch {dispatch_id}")
            if row.direction == "sent":
                sending.cancel(db, context, dispatch_id, effects, reason=reason)
            else:
                receiving.cancel(db, context, row, effects, reason=reason or "its recipient cancelled it")

        await self.step(work)
        return {"dispatch_id": dispatch_id, "status": "cancelled", "ok": True}

    async def answer(
        self,
        dispatch_id: str,
        request_id: str,
        *,
        allow: bool,
        grant: str,
        note: str,
        decline_dispatch: bool,
        rule: int | None = None,
    ) -> Document:
        """Answer one waiting tool call: {dispatch_id, request_id, decision, ok, rule?: the rule that was granted}."""
        payload.check_text("the note", note, 2_000)
        asked, chosen = await self.step(
            lambda db, effects: running.answer(
                db,
                self.context,
                dispatch_id,
                request_id,
                effects,
                allow=allow and not decline_dispatch,
                grant=grant,
                note=note,
                rule=rule,
            )
        )
        if decline_dispatch:
            reason = note or "declined while it ran"
            await self.runs.tell(dispatch_id, frames.Cancel(reason=reason, status="declined"))
        else:
            await self.runs.tell(
                dispatch_id,
                frames.Answer(
                    call_id=asked.request_id,
                    allow=allow,
                    by="person",
                    grant=grant if allow else None,  # type: ignore[arg-type]  # checked by the API's schema
                    note=note or None,
                    rule=None if chosen is None else frames.Rule(**chosen),
                ),
            )
        decision = "declined" if decline_dispatch else "allowed" if allow else "denied"
        document = {"dispatch_id": dispatch_id, "request_id": request_id, "decision": decision, "ok": True}
        return document if chosen is None else {**document, "rule": chosen}

    # --- inside

    async def _check_can_run(self) -> None:
        if sys.platform != "linux":
            raise Unavailable(
                "this machine may send and approve, but not run: its sandbox is proven on Linux only",
                fix="accept it on a Linux machine (WSL counts)",
            )
        await self._settings.require_key()

    async def _interrupt_runs(self) -> None:
        """Record what was just killed as interrupted: whoever looks while no node runs sees it in the inbox."""
        try:
            await self.step(lambda db, effects: running.interrupt_all(db, self.context, effects))
        except DispatchError as error:
            log.error("runs.not_interrupted", code=error.code)  # the next start does it

    async def _sweep(self) -> None:
        """Remove what a crash left half done on disk: folders of runs, copies that no statement came to name."""
        ready = await self.context.store.read(dispatches.ready_digests)
        awaited = {item.digest for _, item in await self.context.store.read(dispatches.awaited_files)}
        sweep = partial(self.context.blobs.sweep, ready=ready, awaited=awaited)
        removed = await trio.to_thread.run_sync(sweep)
        await trio.to_thread.run_sync(partial(shutil.rmtree, self.context.state.runs, ignore_errors=True))
        if removed:
            log.info("blobs.swept", files=removed)

    def _people_changed(self) -> None:
        self.changes.note("trust")
        self.bells.ring()

    def _on_connected(self, device: str) -> None:
        self._puller.showed_up(device)
        self._people_changed()
        if self._nursery is not None:
            self._nursery.start_soon(self._learn_addresses, device)

    async def _learn_addresses(self, device: str) -> None:
        """Remember where a device that called us listens, for the day when it does not call and the broker is away."""
        for wait in LEARN_SECONDS:
            await trio.sleep(wait)
            try:
                await self._addresses(device)
            except DispatchError as error:
                log.info("addresses.not_learned", code=error.code)

    async def _connect(self, device: str) -> None:
        if not self.host.connected(device):
            await self.host.connect(device, await self._addresses(device))

    async def _refresh_admitted(self) -> None:
        devices, owed = await self.context.store.read(lambda db: (contacts.devices(db), contacts.owed_to_blocked(db)))
        # A blocked device may be connected to for as long as it has not heard that it is; nothing of its is taken in.
        self._admitted = frozenset([*(device.device for device in devices), *owed])
        self._readers = frozenset((device.device, device.sealing_key) for device in devices)

    async def _contacts_changed(self, before: frozenset[str], wake: frozenset[str]) -> None:
        readers = self._readers
        await self._refresh_admitted()
        for device in before - self._admitted:
            self.host.drop(device)
        if self._readers != readers:
            # Not at every change: a contact that edits its edge all day must not use up our announcements.
            self.broker.announce()
        for device in wake & self._admitted:
            self._courier.wake(device)
        self._people_changed()

    async def _expiring(self) -> None:
        """End what was not accepted in time, when its time comes."""
        while True:
            # Until the store has said which is next, every new one counts as sooner.
            self._next_expiry, self._sooner = math.inf, trio.Event()
            # On a full disk this is tried again. Views show what is overdue as expired, an accept checks for itself.
            upcoming = await self._expire_overdue()
            # An hour at most: the machine may sleep, or its clock be set.
            self._next_expiry = math.inf if upcoming is None else upcoming
            left = (self._next_expiry - self.context.clock()) / 1000
            with trio.move_on_after(min(max(left, 0.0), 3600.0) + 0.001):
                await self._sooner.wait()

    async def _expire_overdue(self) -> int | None:
        context, effects = self.context, Effects()

        def work(db: Any) -> int | None:
            now = context.clock()
            for row in dispatches.overdue(db, now):
                receiving.expire(db, context, row, effects)
            inviting.expire(db, now)
            outbox.forget(db, before=now - inbound.KEPT_MS, most=FORGOTTEN_AT_ONCE)
            return dispatches.next_expiry(db)

        upcoming = await context.store.write(work)
        self.apply(effects)
        return upcoming
