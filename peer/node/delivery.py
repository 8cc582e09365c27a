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

from peer.mesh import blobs as blob_protocol
from peer.mesh.courier_wire import Parcel
from peer.mesh.host import MeshHost
from peer.protocol import names
from peer.protocol.answers import Answer
from peer.protocol.errors import DispatchError
from peer.steps import inbound, receiving, sending
from peer.steps.context import Context, Effects
from peer.store import contacts, dispatches, outbox, rows

log = structlog.get_logger(__name__)

PULLS_PER_DEVICE = 4
FIRST_REST, LONGEST_REST = 30.0, 1800.0
"""Seconds before a device is fetched from again after it failed, doubled each time; at once when it shows up."""

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
class Receiver:
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


class BlobFetcher:
    """Fetches the files that stored statements name until each is here and verified.

    Every device has its own turn and its own rest: one that is away, slow or hostile holds up nobody else's files.
    """

    def __init__(
        self, context: Context, host: MeshHost, apply: Apply, connect: Callable[[str], Awaitable[None]]
    ) -> None:
        self._context = context
        self._host = host
        self._apply = apply
        self._connect = connect
        self._news = trio.Event()
        self._under_way: set[tuple[str, str, int]] = set()
        self._one_by_one: dict[tuple[str, bytes], trio.Lock] = {}
        """By device and digest: a dispatch may carry the same bytes twice, and both are fetched to one place."""
        self._turns: dict[str, trio.CapacityLimiter] = {}
        self._resting: dict[str, tuple[int, float]] = {}
        """Device → how often in a row it could not be fetched from, and when to try again."""

    def wake(self) -> None:
        """Say that a statement named files."""
        self._news.set()

    def showed_up(self, device: str) -> None:
        """Say that a device can be fetched from now."""
        self._resting.pop(device, None)
        self._news.set()

    async def run(self) -> None:
        """Fetch for as long as the node lives."""
        async with trio.open_nursery() as nursery:
            while True:
                self._news = trio.Event()
                due = float("inf")
                for device, item in await self._awaited():
                    if (rest := self._rest_until(device)) > trio.current_time():
                        due = min(due, rest)
                        continue
                    key = (item.dispatch_id, item.role, item.position)
                    if key not in self._under_way:
                        self._under_way.add(key)
                        nursery.start_soon(self._pull, device, item)
                with trio.move_on_at(due):
                    await self._news.wait()

    async def _awaited(self) -> list[tuple[str, rows.File]]:
        while True:
            try:
                return await self._context.store.read(dispatches.awaited_files)
            except DispatchError as error:
                log.error("blob.not_looked_for", code=error.code)
                await trio.sleep(FIRST_REST)

    def _rest_until(self, device: str) -> float:
        return self._resting.get(device, (0, float("-inf")))[1]

    async def _pull(self, device: str, item: rows.File) -> None:
        turn = self._turns.setdefault(device, trio.CapacityLimiter(PULLS_PER_DEVICE))
        try:
            async with turn:
                if self._rest_until(device) > trio.current_time():
                    return
                if await self._fetch(device, item):
                    self._resting.pop(device, None)
                    return
        finally:
            self._under_way.discard((item.dispatch_id, item.role, item.position))
        if self._rest_until(device) <= trio.current_time():
            failures = self._resting.get(device, (0, 0.0))[0] + 1
            rest = min(FIRST_REST * 2 ** min(failures - 1, 16), LONGEST_REST)
            self._resting[device] = (failures, trio.current_time() + rest)
        self._news.set()

    async def _fetch(self, device: str, item: rows.File) -> bool:
        """Fetch one file; return False if it is to be tried again later."""
        context = self._context
        effects = Effects()
        try:
            await self._connect(device)
            destination = await trio.to_thread.run_sync(context.blobs.destination, item.digest)
            lock = self._one_by_one.setdefault((device, item.digest), trio.Lock())
            async with lock:
                await blob_protocol.fetch(
                    self._host,
                    device,
                    statement_id=names.uuid_bytes(item.statement),
                    digest=item.digest,
                    size=item.size,
                    destination=destination,
                    part=context.blobs.part(item.digest, device),
                )
            if not lock.locked():
                self._one_by_one.pop((device, item.digest), None)
            await context.store.write(lambda db: receiving.files_arrived(db, context, item, effects))
        except DispatchError as error:
            if error.code >= 500 or error.code == 409:
                return False
            reason = error.message
            log.warning("blob.refused", dispatch=item.dispatch_id, code=error.code)
            context.blobs.part(item.digest, device).unlink(missing_ok=True)
            try:
                await context.store.write(lambda db: receiving.files_refused(db, context, item, reason, effects))
            except DispatchError as unstored:
                log.error("blob.refusal_not_stored", dispatch=item.dispatch_id, code=unstored.code)
                return False
        except OSError as error:
            log.error("blob.not_stored", dispatch=item.dispatch_id, errno=error.errno)
            return False
        except Exception:
            # A defect of ours that one file brings to light must not end the node.
            log.exception("blob.failed", dispatch=item.dispatch_id)
            return False
        self._apply(effects)
        return True


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
