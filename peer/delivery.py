"""Between the store and the mesh: the outbox the courier empties, the files that are pulled and served, the addresses.

Nothing here is remembered: what is to be sent or fetched is always read from the store.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import trio

from peer import inbound
from peer.context import Context, Effects
from peer.mesh import blobs as blob_protocol
from peer.mesh.courier_wire import Parcel
from peer.mesh.host import MeshHost
from peer.protocol import names
from peer.protocol.answers import Answer
from peer.protocol.errors import DispatchError
from peer.steps import receiving, sending
from peer.store import contacts, dispatches, outbox, rows

log = structlog.get_logger(__name__)

PULLS_AT_ONCE = 4
RETRY_SECONDS = 30.0
"""Between tries at a file whose sender is away; it is tried at once when the sender shows up."""

Apply = Callable[[Effects], None]


@dataclass(frozen=True)
class StoredOutbox:
    """The courier's view of the outbox table."""

    context: Context
    apply: Apply

    async def next_for(self, peer_id: str, exclude_keys: Collection[str]) -> Parcel | None:
        """Return the next statement for a device, or None."""
        item = await self.context.store.read(lambda db: outbox.next_for(db, peer_id, exclude_keys))
        if item is None:
            return None
        return Parcel(str(item.n), item.ordering or None, item.priority == 0, item.raw)

    async def answered(self, key: str, answer: Answer) -> None:
        """Note a final answer and drop the statement."""
        effects = Effects()

        def step(db: Any) -> None:
            item = outbox.get(db, int(key))
            if item is not None:
                sending.answered(db, self.context, item, answer, effects)

        await self.context.store.write(step)
        self.apply(effects)

    async def failed(self, key: str, answer: Answer) -> None:
        """A passing refusal: the statement stays where it is."""
        log.info("courier.retry", outbox=key, code=answer.code)


@dataclass(frozen=True)
class Intake:
    """What arrives by courier, into the store."""

    context: Context
    apply: Apply

    async def receive(self, peer_id: str, raw: bytes) -> Answer:
        """Take in one statement and answer it."""
        effects = Effects()
        answer = await self.context.store.write(lambda db: inbound.take(db, self.context, peer_id, raw, effects))
        self.apply(effects)
        return answer

    async def lookup(self, peer_id: str, statement_id: bytes, digest: bytes) -> Path | None:
        """Return the file that a device may pull: only what a statement of ours to that very device names."""
        statement = names.uuid_text(statement_id)
        allowed = await self.context.store.read(lambda db: dispatches.may_pull(db, peer_id, statement, digest))
        path = self.context.blobs.path(digest)
        # One that the disk lost will not come back: said as a refusal, or the other side would ask until it expires.
        return path if allowed and await trio.Path(path).is_file() else None


class Puller:
    """Fetches the files that stored statements name, a few at a time, until each is here and verified."""

    def __init__(
        self, context: Context, host: MeshHost, apply: Apply, connect: Callable[[str], Awaitable[None]]
    ) -> None:
        self._context = context
        self._host = host
        self._apply = apply
        self._connect = connect
        self._news = trio.Event()
        self._under_way: set[tuple[str, str, int]] = set()
        self._one_by_one: dict[bytes, trio.Lock] = {}
        """Of files with the same bytes: a dispatch may carry two of them, and both are fetched to one place."""
        self._limit = trio.CapacityLimiter(PULLS_AT_ONCE)

    def wake(self) -> None:
        """Say that files may be fetched now: a statement named some, or a peer showed up."""
        self._news.set()

    async def run(self) -> None:
        """Fetch for as long as the node lives."""
        async with trio.open_nursery() as nursery:
            while True:
                self._news = trio.Event()
                for device, item in await self._context.store.read(dispatches.awaited_files):
                    key = (item.dispatch_id, item.role, item.position)
                    if key not in self._under_way:
                        self._under_way.add(key)
                        nursery.start_soon(self._pull, device, item)
                await self._news.wait()

    async def _pull(self, device: str, item: rows.File) -> None:
        try:
            async with self._limit:
                delay = await self._fetch(device, item)
        finally:
            self._under_way.discard((item.dispatch_id, item.role, item.position))
        if delay:
            # Out of the limiter: one sender that is away holds up nobody else's files.
            with trio.move_on_after(RETRY_SECONDS):
                await self._news.wait()
            self._news.set()

    async def _fetch(self, device: str, item: rows.File) -> bool:
        """Fetch one file; return whether to try again later."""
        context = self._context
        effects = Effects()
        try:
            await self._connect(device)
            destination = await trio.to_thread.run_sync(context.blobs.destination, item.digest)
            lock = self._one_by_one.setdefault(item.digest, trio.Lock())
            async with lock:
                await blob_protocol.fetch(
                    self._host,
                    device,
                    statement_id=names.uuid_bytes(item.statement),
                    digest=item.digest,
                    size=item.size,
                    destination=destination,
                )
            if not lock.locked():
                self._one_by_one.pop(item.digest, None)
            await context.store.write(lambda db: receiving.files_arrived(db, context, item, effects))
        except DispatchError as error:
            if error.code >= 500 or error.code == 409:
                return True
            reason = error.message
            log.warning("blob.refused", dispatch=item.dispatch_id, code=error.code)
            blob_protocol.forget(context.blobs.path(item.digest))
            try:
                await context.store.write(lambda db: receiving.files_refused(db, context, item, reason, effects))
            except DispatchError as unstored:
                log.error("blob.refusal_not_stored", dispatch=item.dispatch_id, code=unstored.code)
                return True
        except OSError as error:
            log.error("blob.not_stored", dispatch=item.dispatch_id, errno=error.errno)
            return True
        self._apply(effects)
        return False


class AddressBook:
    """Where a device was last seen, and where its presence at the broker says it is."""

    def __init__(self, context: Context, ask: Callable[[str], Awaitable[dict[str, list[str]]]]) -> None:
        self._context = context
        self._ask = ask
        self._asked: dict[str, float] = {}

    async def of(self, device: str) -> list[str]:
        """Return multiaddrs to try: those the broker has now, then the ones remembered."""
        known = await self._context.store.read(lambda db: contacts.device(db, device))
        if known is None:
            return []
        remembered: list[str] = json.loads(known.addresses)
        told: list[str] = []
        try:
            found = await self._ask(known.user_id)
            told = found.get(device, [])
        except DispatchError as error:
            log.debug("presence.not_asked", code=error.code)
        if told and told != remembered:
            now = self._context.clock()
            await self._context.store.write(lambda db: contacts.remember_addresses(db, device, told, now))
        return list(dict.fromkeys([*told, *remembered]))
