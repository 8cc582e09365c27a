"""Adapters between store and mesh: the courier's outbox, inbound statements, files fetched and served.

What is to be sent or fetched is always read from the store, so a restart loses nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Collection
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from weakref import WeakValueDictionary

import structlog
import trio

from peer.dispatches import refusals
from peer.mesh import blobs as blob_protocol
from peer.mesh.courier import Fetched, OutboxItem
from peer.mesh.host import MeshHost
from peer.protocol import names
from peer.protocol.acknowledgements import Acknowledgement
from peer.protocol.errors import DispatchError, Unavailable
from peer.steps import hellos, inbound, receiving, sending
from peer.steps.journal import Journal
from peer.steps.transaction import Transaction
from peer.store import dispatches, outbox, rows

log = structlog.get_logger(__name__)

PULLS_PER_DEVICE = 4
"""Files of a device that come at once, not counting those whose last piece is on its way."""
FETCHES_PER_DEVICE = 2 * PULLS_PER_DEVICE
"""Files of a device that are open at once: those that come, also their last piece, and those the disk is waited for."""
COMMITS_AT_ONCE = 8
"""Files of all devices that the disk is waited for in a thread; syncs under way together cost a journal one write."""
PULLED_AT_ONCE = 64
"""Files of one device taken up together, a dispatch's at least; the rest of them stay in the store alone."""
FIRST_REST, LONGEST_REST = 30.0, 1800.0
"""Seconds between attempts after a device failed, doubled each time. A new connection ends the wait."""


@dataclass(frozen=True)
class StoredOutbox:
    """The courier's view of the outbox table."""

    journal: Journal

    async def next_for(
        self, peer_id: str, *, excluded_keys: Collection[str], excluded_orderings: Collection[str]
    ) -> Fetched:
        """Return the next statement for a device, if any, and whether others of it wait."""
        numbers = [int(key) for key in excluded_keys]

        def query(db: sqlite3.Connection) -> Fetched:
            found = outbox.next_for(db, peer_id, excluded_numbers=numbers, excluded_orderings=excluded_orderings)
            if found is None:
                return Fetched(None, outbox.others_wait(db, peer_id, numbers))
            item = OutboxItem(str(found.n), found.ordering or None, found.raw)
            return Fetched(item, outbox.others_wait(db, peer_id, [*numbers, found.n]))

        return await self.journal.read(query)

    async def acknowledged(self, key: str, acknowledgement: Acknowledgement) -> None:
        """Record a final acknowledgement and drop the statement."""

        def step(tx: Transaction) -> None:
            item = outbox.get(tx.db, int(key))
            if item is not None:
                sending.on_acknowledged(tx, item, acknowledgement)

        await self.journal.step(step)

    async def deferred(self, key: str, acknowledgement: Acknowledgement) -> None:
        """Log a temporary refusal; the statement stays in the outbox."""
        log.info("courier.retry", outbox=key, code=acknowledgement.code)


class Hellos:
    """Hellos between the courier and the store: this device's own, and those of peers."""

    def __init__(self, journal: Journal, brokers: Callable[[], Collection[str]]) -> None:
        """`brokers()`: the URLs of those that this device uses."""
        self._journal = journal
        self._brokers = brokers
        self._own = b""
        self._told: Collection[str] = ()

    async def renew(self) -> None:
        """Sign a new hello. Done at every start, so that it replaces the hello of an earlier version."""
        self._told = brokers = tuple(self._brokers())
        self._own = await self._journal.step(lambda tx: hellos.make(tx, brokers))

    @property
    def outdated(self) -> bool:
        """Whether this device uses other brokers than its hello says."""
        return set(self._told) != set(self._brokers())

    def own(self, _peer_id: str) -> bytes:
        """Return this device's hello, b"" before renew()."""
        return self._own

    async def take(self, peer_id: str, raw: bytes) -> None:
        """Store a peer's hello. A refused one is logged and changes nothing."""
        try:
            await self._journal.step(lambda tx: hellos.take(tx, peer_id, raw))
        except DispatchError as error:
            log.info("hello.refused", device=peer_id, code=error.code)


@dataclass(frozen=True)
class Receiver:
    """Applies statements that arrive by courier, and finds the files that devices may fetch."""

    journal: Journal

    async def receive(self, peer_id: str, raw: bytes) -> Acknowledgement:
        """Apply one statement; return its acknowledgement."""
        return await self.journal.step(lambda tx: inbound.take(tx, peer_id, raw))

    async def lookup(self, peer_id: str, statement_id: bytes, digest: bytes) -> Path | None:
        """Return the file of a blob if a statement from here to that very device names it, else None."""
        statement = names.uuid_text(statement_id)
        path = self.journal.context.blobs.path(digest)
        # A file that is missing on disk is refused for good; otherwise the peer would retry until expiry.
        found = await self.journal.read(
            lambda db: dispatches.may_pull(db, peer_id, statement, digest) and path.is_file()
        )
        return path if found else None


def _oldest_by_device(db: sqlite3.Connection) -> dict[str, list[rows.File]]:
    found: dict[str, list[rows.File]] = {}
    for device, item in dispatches.awaited_files(db):
        if len(items := found.setdefault(device, [])) < PULLED_AT_ONCE:
            items.append(item)
    return found


class BlobFetcher:
    """Fetches the files that stored statements name until each is here and verified.

    Each device has its own limiter and its own back-off, so one that is offline, slow or hostile delays no other.
    """

    def __init__(self, journal: Journal, host: MeshHost, connect: Callable[[str], Awaitable[None]]) -> None:
        self._journal = journal
        self._host = host
        self._connect = connect
        self._news = trio.Event()
        self._under_way: set[str] = set()
        """Devices that are fetched from."""
        self._one_by_one: WeakValueDictionary[tuple[str, bytes], trio.Lock] = WeakValueDictionary()
        """By device and digest: a dispatch may name the same bytes twice, and both fetches have one destination."""
        self._resting: dict[str, tuple[int, float]] = {}
        """Device → (failures in a row, time of the next attempt on trio's clock)."""
        self._commits = trio.CapacityLimiter(COMMITS_AT_ONCE)
        self._whole: set[tuple[str, str, bytes]] = set()
        """(Device, statement, digest) of files that came whole, which could not be stored yet."""

    def wake(self) -> None:
        """Look for files to fetch: a new statement names some."""
        self._news.set()

    def on_connected(self, device: str) -> None:
        """End the back-off of a device: it has connected."""
        self._resting.pop(device, None)
        self._news.set()

    def renew(self) -> None:
        """End every back-off: what failed before says nothing any more."""
        self._resting.clear()
        self._news.set()

    async def run(self) -> None:
        """Fetch until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                self._news = trio.Event()
                due = float("inf")
                awaited = await self._awaited()
                self._resting = {device: rest for device, rest in self._resting.items() if device in awaited}
                self._whole &= {
                    (device, item.statement, item.digest) for device, items in awaited.items() for item in items
                }
                for device, items in awaited.items():
                    if device in self._under_way:
                        continue
                    if (rest := self._rest_until(device)) > trio.current_time():
                        due = min(due, rest)
                        continue
                    self._under_way.add(device)
                    nursery.start_soon(self._pull, device, items)
                with trio.move_on_at(due):
                    await self._news.wait()

    async def _awaited(self) -> dict[str, list[rows.File]]:
        while True:
            try:
                return await self._journal.read(_oldest_by_device)
            except DispatchError as error:
                log.error("blob.not_looked_for", code=error.code)
                await trio.sleep(FIRST_REST)

    def _rest_until(self, device: str) -> float:
        return self._resting.get(device, (0, float("-inf")))[1]

    async def _pull(self, device: str, items: list[rows.File]) -> None:
        """Fetch these files, FETCHES_PER_DEVICE at a time, until one of them is to be tried again later.

        What has come is stored meanwhile, in one step for all that came during the step before.
        """
        left, transfers = iter(items), trio.Semaphore(PULLS_PER_DEVICE)
        arrived, to_store = trio.open_memory_channel[rows.File](PULLED_AT_ONCE)

        async def pull(arrived: trio.MemorySendChannel[rows.File]) -> None:
            with arrived:
                while True:
                    with ExitStack() as place:
                        await transfers.acquire()
                        place.callback(transfers.release)
                        item = next(left, None)
                        if item is None or self._rest_until(device) > trio.current_time():
                            return
                        if not await self._tried(device, item, self._bring(device, item, place)):
                            continue
                    if (device, item.statement, item.digest) in self._whole:
                        await arrived.send(item)

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._store, device, to_store)
                with arrived:
                    for _ in range(FETCHES_PER_DEVICE):
                        nursery.start_soon(pull, arrived.clone())
        finally:
            self._under_way.discard(device)
        self._news.set()

    async def _store(self, device: str, arrived: trio.MemoryReceiveChannel[rows.File]) -> None:
        async for item in arrived:
            items = [item]
            with suppress(trio.WouldBlock, trio.EndOfChannel):
                while True:
                    items.append(arrived.receive_nowait())
            if len(items) > 1 and await self._stored(device, items):
                continue
            for each in items:  # one by one, so that one which is refused keeps no other from it
                if not await self._tried(device, each, self._note_arrived(device, [each])):
                    break  # the store takes nothing now; what came is remembered

    async def _stored(self, device: str, items: list[rows.File]) -> bool:
        try:
            await self._note_arrived(device, items)
        except DispatchError as error:
            log.warning("blob.not_stored_together", files=len(items), code=error.code)
            return False
        return True

    async def _note_arrived(self, device: str, items: list[rows.File]) -> None:
        def step(tx: Transaction) -> None:
            for item in items:
                receiving.on_file_arrived(tx, item)

        await self._journal.step(step)
        self._whole -= {(device, item.statement, item.digest) for item in items}
        self._resting.pop(device, None)

    async def _bring(self, device: str, item: rows.File, place: ExitStack) -> None:
        """Fetch one file, unless it came before and could not be stored."""
        lock = self._one_by_one.setdefault((device, item.digest), trio.Lock())
        async with lock:
            # Only for this statement: what another one brought is no proof that this one's device has it.
            what = (device, item.statement, item.digest)
            if what not in self._whole:
                await self._transfer(device, item, place)
                self._whole.add(what)

    async def _tried(self, device: str, item: rows.File, work: Awaitable[None]) -> bool:
        """Do one thing for a file; where it should be tried again later, have its device rest, and return False."""
        if await self._done(item, device, work):
            return True
        if self._rest_until(device) <= trio.current_time():
            failures = self._resting.get(device, (0, 0.0))[0] + 1
            rest = min(FIRST_REST * 2 ** min(failures - 1, 16), LONGEST_REST)
            self._resting[device] = (failures, trio.current_time() + rest)
        return False

    async def _done(self, item: rows.File, device: str, work: Awaitable[None]) -> bool:
        """Do one thing for a file, or give the file up for good; return False if it should be tried again later."""
        try:
            await work
        except DispatchError as error:
            if error.code >= 500 or error.code == 409:
                return False
            theirs = error.theirs if isinstance(error, blob_protocol.Refused) else ""
            reason = refusals.file_reason(error.message, theirs)
            log.warning("blob.refused", dispatch=item.dispatch_id, code=error.code)
            self._journal.context.blobs.part(item.digest, device).unlink(missing_ok=True)
            try:
                await self._journal.step(lambda tx: receiving.on_file_refused(tx, item, reason))
            except DispatchError as unstored:
                log.error("blob.refusal_not_stored", dispatch=item.dispatch_id, code=unstored.code)
                return False
        except OSError as error:
            log.error("blob.not_stored", dispatch=item.dispatch_id, errno=error.errno)
            return False
        except Exception:
            # A defect triggered by one file must not end the node.
            log.exception("blob.failed", dispatch=item.dispatch_id)
            return False
        return True

    async def _transfer(self, device: str, item: rows.File, place: ExitStack) -> None:
        """Fetch one file and make it durable. Its last piece and the disk are waited for while the next one comes."""
        part = await self._whole_part(device, item, place)
        try:
            place.close()
            destination = self._journal.context.blobs.path(item.digest)
            await trio.to_thread.run_sync(part.commit, destination, limiter=self._commits)
        finally:
            part.close()

    async def _whole_part(self, device: str, item: rows.File, place: ExitStack) -> blob_protocol.Part:
        """Fetch one file; go on at its byte at once where another path to the device is left or found."""
        blobs = self._journal.context.blobs
        path = blobs.part(item.digest, device)
        while True:
            await self._connect(device)
            before = _size(path)
            try:
                return await blob_protocol.fetch_part(
                    self._host,
                    device,
                    statement_id=names.uuid_bytes(item.statement),
                    digest=item.digest,
                    size=item.size,
                    path=path,
                    prepare=partial(blobs.destination, item.digest),
                    on_last_piece=place.close,
                )
            except Unavailable:
                if _size(path) <= before:
                    raise


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
