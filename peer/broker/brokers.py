"""All brokers that this person uses: one BrokerSync each, and what is asked of several. Nothing here waits for one
broker where another one can answer.

Which broker is asked: an invitation belongs to the one where it was posted. A contact is looked up where the two found
each other and where the contact's device says that it is too; so no broker learns of contacts that are not there. One
that is known to be at none of them is looked up at the first broker.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import structlog
import trio

from peer.broker.responses import PostedInvitation, RelayAccess
from peer.broker.sync import BrokerState, BrokerSync
from peer.machine.settings import Settings
from peer.machine.supervision import OneForEach
from peer.mesh.peer_record import Announcement
from peer.protocol.errors import Conflict, DispatchError, NotFound, Unavailable
from peer.steps import hellos
from peer.steps.journal import Journal
from peer.steps.transaction import Transaction
from peer.store import contacts, invitations, rows
from peer.trust import invitation_lifecycle

log = structlog.get_logger(__name__)

LOOK_UP_SECONDS = 6.0
"""For one look-up at one broker. A dial waits less long for it; what comes later is of use to the next one."""
LOOK_UPS_AT_ONCE = 32
"""At one broker."""


class LookUp:
    """One user looked up at one broker: under way until `done`."""

    def __init__(self) -> None:
        self.done = False
        self.found: Mapping[str, Announcement] = {}
        self.error: DispatchError | None = None


async def _nobody(_found: Mapping[str, Announcement]) -> None:
    """Learn nothing."""


class Brokers:
    """The node's connections to its brokers, as the settings name them. `addresses` as of BrokerSync."""

    def __init__(
        self,
        journal: Journal,
        settings: Callable[[], Settings],
        save_token: Callable[[str, str], None],
        addresses: Callable[[], list[str]],
        *,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`save_token(url, token)` keeps a broker's renewed token."""
        self._journal = journal
        self._settings = settings
        self._save_token = save_token
        self._addresses = addresses
        self._jitter = jitter
        self._on_return: list[Callable[[], None]] = []
        self._on_presence: Callable[[Mapping[str, Announcement]], Awaitable[None]] = _nobody
        self._syncs: dict[str, BrokerSync] = {}
        self._tasks = OneForEach("broker", lambda: self._syncs, self._run_one)
        self._look_ups: dict[tuple[str, str], LookUp] = {}
        """Under way, by broker and user: whoever looks up the same joins in."""
        self._limits: dict[str, trio.CapacityLimiter] = {}
        self._ended = trio.Event()
        """Set when a look-up has ended; then replaced."""
        self._nursery: trio.Nursery | None = None
        self._running = trio.Event()
        self._apply()

    # --- which brokers

    def _apply(self) -> list[BrokerSync]:
        """Have one BrokerSync for each broker of the settings; return those that stayed."""
        urls = [each.url for each in self._settings().sign_ins]
        stayed = [sync for url, sync in self._syncs.items() if url in urls]
        self._syncs = {url: self._syncs.get(url) or self._new(url) for url in urls}
        self._limits = {url: self._limits.get(url) or trio.CapacityLimiter(LOOK_UPS_AT_ONCE) for url in urls}
        return stayed

    def _new(self, url: str) -> BrokerSync:
        def save(token: str) -> None:
            self._save_token(url, token)

        sync = BrokerSync(url, self._journal, self._settings, save, self._addresses, jitter=self._jitter)
        for listener in self._on_return:
            sync.on_return(listener)
        return sync

    def at(self, url: str) -> BrokerSync:
        """Return the connection to a broker. Raises NotSignedIn where there is none at all, Conflict."""
        self._settings().require_broker()
        sync = self._syncs.get(url)
        if sync is None:
            raise Conflict(f"you are not signed in at {url}", fix=f"run `dispatch broker add {url}`")
        return sync

    def urls(self) -> list[str]:
        """Return the URL of each broker, the first one first."""
        return list(self._syncs)

    def states(self) -> dict[str, BrokerState]:
        """Return how it stands with each broker, the first one first."""
        return {url: sync.state for url, sync in self._syncs.items()}

    async def tidy(self) -> None:
        """Name the broker of what an earlier version stored, and drop what waits for brokers that are used no more."""
        urls = list(self._syncs)
        if not urls:
            return
        before = self._journal.context.clock() - invitation_lifecycle.LIFETIME_MS

        def step(tx: Transaction) -> None:
            invitations.assign_broker(tx.db, urls[0])
            invitations.drop_writes_to_others(tx.db, urls, before=before)

        await self._journal.step(step)

    async def reload(self) -> None:
        """Apply the settings: other brokers, or other tokens."""
        stayed = self._apply()
        self._tasks.look()
        for sync in stayed:
            sync.reload()
        await self.tidy()

    # --- all of them

    def announce(self) -> None:
        """Publish presence again soon: contacts changed."""
        for sync in self._syncs.values():
            sync.announce()

    def look(self) -> None:
        """Publish presence again soon if addresses changed."""
        for sync in self._syncs.values():
            sync.look()

    def reconnect(self) -> None:
        """Ask everything again now, on new connections: this machine is on another network, or slept."""
        for sync in self._syncs.values():
            sync.reconnect()

    def flush(self) -> None:
        """Send the queued writes soon."""
        for sync in self._syncs.values():
            sync.flush()

    def on_return(self, listener: Callable[[], None]) -> None:
        """Call `listener()` when a broker answers again after a failure. It must not raise or block."""
        self._on_return.append(listener)
        for sync in self._syncs.values():
            sync.on_return(listener)

    def on_presence(self, listener: Callable[[Mapping[str, Announcement]], Awaitable[None]]) -> None:
        """Have `listener` told of each broker's answer to a look-up, {device: announcement}, however late it comes."""
        self._on_presence = listener

    async def run(self) -> None:
        """Publish, poll and flush at each broker until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._running.set()
            try:
                await self._tasks.run()
            finally:
                self._nursery, self._running = None, trio.Event()
                self._look_ups.clear()

    async def _run_one(self, url: str) -> None:
        if (sync := self._syncs.get(url)) is not None:
            await sync.run()

    async def withdraw(self) -> None:
        """Withdraw this device's presence everywhere at once, when the node stops. Failures are logged."""
        async with trio.open_nursery() as nursery:
            for sync in self._syncs.values():
                nursery.start_soon(sync.withdraw)

    # --- invitations

    async def post(self, row: rows.Invitation) -> PostedInvitation:
        """Post a new invitation at its broker now, so that the caller can report the result to its person."""
        return await self.at(row.broker).post(row)

    async def withdraw_invitation(self, row: rows.Invitation) -> None:
        """Withdraw an invitation at its broker now. Raises as BrokerSync.withdraw_invitation."""
        await self.at(row.broker).withdraw_invitation(row.token)

    async def fetch(self, token: str, url: str = "") -> None:
        """Fetch one invitation by its token without waiting for a poll: from the broker at `url`, else from whichever
        has it. Raises NotFound, … as the first broker does if none has it.
        """
        self._settings().require_broker()
        asked = [self.at(url)] if url else list(self._syncs.values())
        errors: dict[str, DispatchError] = {}
        found = False

        async def ask(sync: BrokerSync, scope: trio.CancelScope) -> None:
            nonlocal found
            try:
                await sync.fetch(token)
                found = True
                scope.cancel()
            except DispatchError as error:
                errors[sync.url] = error

        async with trio.open_nursery() as nursery:
            for sync in asked:
                nursery.start_soon(ask, sync, nursery.cancel_scope)
        if not found:
            # That one does not know it says less than that another one could not be asked.
            raise min(errors.values(), key=lambda error: isinstance(error, NotFound))

    async def relays(self, url: str) -> RelayAccess | None:
        """Fetch a new token for relays, with the relays that a broker names. Raises as BrokerSync.relays."""
        return await self.at(url).relays()

    # --- where contacts are

    async def presence_of(self, user_id: str) -> dict[str, Announcement]:
        """Return {device: newest announcement} of a contact, as soon as one broker has any.

        What the others answer later is kept, and told to `on_presence`. Raises Unavailable, Unauthorized if none
        answered.
        """
        await self._running.wait()
        look_ups = [self._look_up(sync, user_id) for sync in await self._where(user_id)]
        while True:
            ended = self._ended
            found = newest(each.found for each in look_ups)
            if found or all(each.done for each in look_ups):
                break
            await ended.wait()
        errors = [each.error for each in look_ups if each.error is not None]
        if errors and len(errors) == len(look_ups):
            raise errors[0]
        return found

    async def _where(self, user_id: str) -> list[BrokerSync]:
        """Return the brokers at which a contact is looked up. Raises NotSignedIn without any."""
        self._settings().require_broker()
        urls = list(self._syncs)
        if len(urls) > 1:
            known = await self._journal.read(lambda db: _brokers_of(db, user_id, urls))
            urls = [url for url in urls if url in known] or urls[:1]
        return [self._syncs[url] for url in urls if url in self._syncs]

    def _look_up(self, sync: BrokerSync, user_id: str) -> LookUp:
        key = (sync.url, user_id)
        if (under_way := self._look_ups.get(key)) is not None:
            return under_way
        look_up = LookUp()
        if (cached := sync.cached_presence(user_id)) is not None:  # which was told to `on_presence`
            look_up.done, look_up.found = True, cached
            return look_up
        assert self._nursery is not None
        self._look_ups[key] = look_up
        self._nursery.start_soon(self._ask, sync, user_id, look_up)
        return look_up

    async def _ask(self, sync: BrokerSync, user_id: str, look_up: LookUp) -> None:
        try:
            async with self._limits.get(sync.url) or trio.CapacityLimiter(1):
                with trio.fail_after(LOOK_UP_SECONDS):
                    look_up.found = await sync.presence_of(user_id)
            if look_up.found:
                await self._on_presence(look_up.found)
        except trio.TooSlowError:
            look_up.error = Unavailable(f"broker {sync.url} did not answer in time", fix="check `dispatch whoami`")
        except DispatchError as error:
            look_up.error = error
        finally:
            look_up.done = True
            self._look_ups.pop((sync.url, user_id), None)
            self._ended.set()
            self._ended = trio.Event()


def newest(answers: Iterable[Mapping[str, Announcement]]) -> dict[str, Announcement]:
    """Return of each device the announcement with the highest number, whichever broker has it.

    The number is signed by the device: a broker can hold back a newer announcement, not make one.
    """
    found: dict[str, Announcement] = {}
    for answer in answers:
        for device, announcement in answer.items():
            if device not in found or announcement.seq > found[device].seq:
                found[device] = announcement
    return found


def _brokers_of(db: sqlite3.Connection, user_id: str, urls: Sequence[str]) -> set[str]:
    """Return those of the brokers where a contact may be looked up."""
    said = {url for device in contacts.devices(db, user_id) for url in hellos.brokers_among(device, urls)}
    return invitations.met_at(db, user_id) | said
