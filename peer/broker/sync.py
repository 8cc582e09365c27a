"""Background sync with one broker: publish presence, poll invitations, flush queued writes. All of them: brokers.py.

The broker may be unreachable for any time: known contacts keep working, and a write stays queued in the store until
the broker confirms it.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import structlog
import trio

from peer.broker.announcing import Announcer
from peer.broker.client import BrokerClient
from peer.broker.presence import open_presence
from peer.broker.responses import BrokerInvitation, PostedInvitation, RelayAccess
from peer.broker.transport import Unreachable
from peer.machine.network_route import proxy_to_url
from peer.machine.settings import Settings
from peer.mesh.peer_record import Announcement
from peer.protocol import codec
from peer.protocol.errors import DispatchError, NotSignedIn, Unauthorized, Unavailable
from peer.protocol.sealing import unseal
from peer.steps import invitation_answers, inviting
from peer.steps.effects import InvitationsChanged
from peer.steps.journal import Journal
from peer.steps.transaction import Transaction
from peer.store import contacts, invitations, rows

log = structlog.get_logger(__name__)

FIRST_RETRY, LONGEST_RETRY = 1.0, 60.0
LONGEST_AWAY = 3.2
"""In place of LONGEST_RETRY while nothing answers at the broker's address, for one of the requests: so it is known
within five seconds that the broker is back."""
LONG_POLL_SECONDS = 25
LEAST_POLL_SECONDS = 0.25
MOST_PAGES = 200
"""Pages of invitations in a row, at least 5,000 invitations."""
PRESENCE_CACHE_SECONDS = 5.0
"""How long a user's presence is cached, so that dials to several devices of one user make one request."""


@dataclass(frozen=True)
class BrokerState:
    """Whether a broker answers, since when (ms), and what was wrong last. `answers` is None before it was asked."""

    answers: bool | None = None
    since: int | None = None
    error: DispatchError | None = None

    @property
    def signed_in(self) -> bool:
        """Whether it has not refused the sign-in."""
        return not isinstance(self.error, Unauthorized)


class BrokerSync:
    """The node's connection to the broker at `url`. `addresses` returns this device's current multiaddrs.

    Of `settings` it uses what is of that broker, and asks for nothing while they have no token of it.
    """

    def __init__(
        self,
        url: str,
        journal: Journal,
        settings: Callable[[], Settings],
        save_token: Callable[[str], None],
        addresses: Callable[[], list[str]],
        *,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.url = url
        self._journal = journal
        self._context = journal.context
        self._settings = settings
        self._save_token = save_token
        self._announcer = Announcer(journal.context, addresses)
        self._jitter = jitter
        self._queued = trio.Event()
        self._reloaded = trio.Event()
        self._fresh = trio.Event()
        """Set when requests under way are of no use any more; then replaced."""
        self._go = trio.Event()
        """Set when no retry should be waited for; then replaced."""
        self._away = False
        """Nothing has answered since the last failure."""
        self._on_return: list[Callable[[], None]] = []
        self._presence: dict[str, tuple[float, dict[str, Announcement]]] = {}
        self.state = BrokerState()

    # --- from outside

    def announce(self) -> None:
        """Publish presence again soon: contacts changed."""
        self._announcer.request()

    def look(self) -> None:
        """Publish presence again soon if addresses changed."""
        self._announcer.look()

    def on_return(self, listener: Callable[[], None]) -> None:
        """Call `listener()` when the broker answers again after a failure. It must not raise or block."""
        self._on_return.append(listener)

    def reconnect(self) -> None:
        """Ask everything again now, on new connections: this machine is on another network, or slept.

        An announcement that still holds is not made again.
        """
        self._presence = {}
        self._fresh.set()
        self._fresh = trio.Event()
        self._end_waits()

    def flush(self) -> None:
        """Send the queued writes soon."""
        self._queued.set()

    def reload(self) -> None:
        """Reconnect: config.json has another broker or token."""
        self._reloaded.set()
        self._reloaded = trio.Event()
        self._queued.set()
        self.announce()
        self.reconnect()

    def cached_presence(self, user_id: str) -> dict[str, Announcement] | None:
        """Return what this broker answered a moment ago, None if it was not asked for this contact."""
        at, found = self._presence.get(user_id, (-PRESENCE_CACHE_SECONDS, {}))
        return found if trio.current_time() - at < PRESENCE_CACHE_SECONDS else None

    async def presence_of(self, user_id: str) -> dict[str, Announcement]:
        """Return {device: what it announced here} of a contact. Raises Unavailable, Unauthorized."""
        if (cached := self.cached_presence(user_id)) is not None:
            return cached
        async with self._client() as broker:
            entries = await broker.get_presence(user_id)
        found = {}
        known = {device.device for device in await self._context.store.read(lambda db: contacts.devices(db, user_id))}
        for entry in entries:
            if entry.device in known:
                known.discard(entry.device)  # one box per device: opening many forged ones would be slow
                try:
                    found[entry.device] = open_presence(
                        entry.box,
                        sealing_key=self._context.identity.sealing_key,
                        device=entry.device,
                        seq=entry.seq,
                    )
                except DispatchError:
                    log.info("presence.unreadable", device=entry.device)
        now = trio.current_time()
        recent = {user: entry for user, entry in self._presence.items() if now - entry[0] < PRESENCE_CACHE_SECONDS}
        self._presence = {**recent, user_id: (now, found)}
        return found

    async def post(self, row: rows.Invitation) -> PostedInvitation:
        """Post a new invitation now, so that the caller can report the result to its person."""
        async with self._client() as broker:
            posted = await broker.post_invitation(row.raw)
            if posted.existing and posted.token != row.token:
                # Sent by an earlier store of this user: its answer would be of no use here.
                await broker.withdraw(posted.token)
                posted = await broker.post_invitation(row.raw)
            return posted

    async def fetch(self, token: str) -> None:
        """Fetch one invitation by its token without waiting for the poll. Raises NotFound, …"""
        async with self._client() as broker:
            found = await broker.get_invitation(token)
        await self._on_received(found)

    async def withdraw_invitation(self, token: str) -> None:
        """Withdraw an invitation now. Raises Conflict if it was answered, Gone, NotFound, Unavailable, …"""
        async with self._client() as broker:
            await broker.withdraw(token)

    async def relays(self) -> RelayAccess | None:
        """Fetch a new token for relays, with the relays that the broker names; None from one that is older than relays.

        Raises Unavailable, Unauthorized, Forbidden if this device is not the user's any more.
        """
        async with self._client() as broker:
            return await broker.relays()

    async def check(self) -> str:
        """Check the broker's health and our token; return a description. Raises Unavailable, Unauthorized."""
        async with self._client() as broker:
            health = await broker.health()
            await broker.invitations()
        return f"{self.url}{' (development mode: anybody can sign in)' if health.dev else ''}"

    # --- the background

    async def run(self) -> None:
        """Publish, poll and flush until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._retry_forever, self._publish_presence)
            nursery.start_soon(self._retry_forever, self._poll_invitations)
            nursery.start_soon(self._retry_forever, self._flush_writes)

    async def withdraw(self) -> None:
        """Withdraw this device's presence, when the node stops. Failures are logged."""
        try:
            async with self._client() as broker:
                await self._announcer.withdraw(broker)
        except DispatchError as error:
            log.info("presence.not_withdrawn", code=error.code)

    async def _retry_forever(self, work: Callable[[BrokerClient], Awaitable[None]]) -> None:
        delay = FIRST_RETRY
        while True:
            reloaded, go = self._reloaded, self._go
            try:
                await self._until_outdated(work)
                delay = FIRST_RETRY
                continue
            except DispatchError as error:
                self._failed(error)
                self._away = self._away or not isinstance(error, Unauthorized)
            # 401 needs a person; `dispatch login` calls reload(), so wait the maximum.
            refused = isinstance(self.state.error, Unauthorized)
            watches = work == self._poll_invitations and isinstance(self.state.error, Unreachable)
            longest = LONGEST_AWAY if watches else LONGEST_RETRY
            pause = min(LONGEST_RETRY if refused else delay, longest)
            with trio.move_on_after(pause * (0.75 + self._jitter() / 2)):
                await (reloaded if refused else go).wait()
            delay = min(delay * 1.5, LONGEST_RETRY)

    async def _until_outdated(self, work: Callable[[BrokerClient], Awaitable[None]]) -> None:
        """Work until reconnect() or reload(). Steps that have begun are ended: the journal lets none be cancelled."""
        fresh, failed = self._fresh, None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_when, fresh, nursery.cancel_scope)
            try:
                async with self._client() as broker:
                    while True:
                        await work(broker)
            except DispatchError as error:
                failed = error
            nursery.cancel_scope.cancel()
        if failed is not None and not fresh.is_set():
            raise failed

    def _failed(self, error: DispatchError) -> None:
        before = self.state
        if before.error is None or before.error.message != error.message:
            log.warning("broker.trouble", code=error.code, message=error.message)
        # A sign-in that is missing here was not asked about; every other refusal is an answer.
        answers = before.answers if isinstance(error, NotSignedIn) else not isinstance(error, Unavailable)
        self._set_state(answers, error)

    def _set_state(self, answers: bool | None, error: DispatchError | None) -> None:
        since = self.state.since if answers == self.state.answers else self._context.clock()
        self.state = BrokerState(answers, since, error)

    def _answered(self, *, read: bool = False) -> None:
        """The broker has answered; after a time without, everything that waited for it is taken up now.

        `read`: to a read, for which the token counts; signed writes are answered without a sign-in too.
        """
        self._set_state(True, None if read or self.state.signed_in else self.state.error)
        if not self._away:
            return
        self._away = False
        self._presence = {}
        self._end_waits()
        for listener in self._on_return:
            listener()

    def _end_waits(self) -> None:
        self._go.set()
        self._go = trio.Event()
        self._announcer.look()

    async def _publish_presence(self, broker: BrokerClient) -> None:
        """Announce this device unless that still holds; return when it holds no more."""
        if await self._announcer.announce(broker):
            self._answered()
        await self._announcer.wait_outdated()

    async def _flush_writes(self, broker: BrokerClient) -> None:
        self._queued = trio.Event()
        for item in await self._context.store.read(lambda db: invitations.broker_writes(db, self.url)):
            await self._send_write(broker, item)
            self._answered()
        await self._queued.wait()

    async def _send_write(self, broker: BrokerClient, item: rows.BrokerWrite) -> None:
        try:
            if item.action == "withdraw":
                await broker.withdraw(item.token)
            else:
                kind: Literal["accepted", "declined"] = "accepted" if item.action == "accepted" else "declined"
                await broker.answer(item.token, kind=kind, sealed=_sealed_answers(item.body))
        except (Unavailable, Unauthorized):
            raise
        except DispatchError as error:
            # Final: withdrawn, expired or answered already. An acceptance is also sent by courier.
            if error.code >= 500 or error.code == 429:
                raise
            log.warning("broker.refused", action=item.action, code=error.code)
        await self._context.store.write(lambda db: invitations.drop_broker_write(db, item.n))

    async def _poll_invitations(self, broker: BrokerClient) -> None:
        reloaded = self._reloaded
        version, more, pages = 0, True, 0
        while True:
            asked = trio.current_time()
            page = await broker.invitations(version=version, wait=0 if more else LONG_POLL_SECONDS)
            if reloaded.is_set():
                return  # the page belongs to an earlier sign-in
            pages = pages + 1 if page.more else 0
            if page.more and (page.version <= version or pages > MOST_PAGES):
                raise Unavailable("the broker's list of invitations does not end", fix="tell whoever hosts the broker")
            version, more = page.version, page.more
            self._announcer.note_clock(broker.ahead)
            if page.announced is None and self._away:
                self._announcer.request()  # an older broker does not say whether it has lost the announcement
            self._announcer.note_known(page.announced, asked=asked)
            self._answered(read=True)
            for item in page.received:
                await self._guarded(self._on_received, item)
            for item in page.sent:
                await self._guarded(self._on_sent, item)
            if not more:
                # Bounds the rate of polls if the broker does not wait as requested.
                await trio.sleep_until(asked + LEAST_POLL_SECONDS)

    async def _guarded(self, handler: Callable[[BrokerInvitation], Awaitable[None]], item: BrokerInvitation) -> None:
        try:
            await handler(item)
        except DispatchError as error:
            # One bad entry must not hide the others: the broker is not trusted.
            log.warning("invitation.refused", token=item.token, code=error.code, message=error.message)

    async def _on_received(self, item: BrokerInvitation) -> None:
        def step(tx: Transaction) -> None:
            known = invitations.get(tx.db, item.token)
            if known is None and item.status in ("accepted", "declined"):
                return  # another device of this user answered it, maybe one that is lost
            row = inviting.on_invitation(tx, item.statement, broker=self.url)
            if row is None:
                return
            if row != known:
                tx.note(InvitationsChanged())
            if item.status == "withdrawn":
                inviting.on_withdrawn(tx, row.token)

        await self._journal.step(step)

    async def _on_sent(self, item: BrokerInvitation) -> None:
        if item.mailed is not None or item.fetched is not None:
            await self._journal.step(
                lambda tx: inviting.on_progress(
                    tx, item.token, broker=self.url, mailed=item.mailed, fetched=item.fetched
                )
            )
        if item.sealed is None:
            if item.status == "withdrawn":
                await self._journal.step(lambda tx: inviting.on_sent_withdrawn(tx.db, item.token, broker=self.url))
            return
        raw = unseal(item.sealed, self._context.identity.sealing_key)
        await self._journal.step(lambda tx: invitation_answers.on_answer(tx, raw, broker=self.url))

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[BrokerClient]:
        settings, reloaded = self._settings().at(self.url), self._reloaded

        def keep(token: str) -> None:
            if not reloaded.is_set():  # otherwise a renewal would undo a sign-out
                self._save_token(token)

        async with BrokerClient(
            self.url,
            author=self._context.identity,
            # Signed writes need no token at the broker. Required here so that nothing is written after a sign-out.
            token=settings.require_token(),
            proxy=proxy_to_url(self.url, settings),
            on_token=keep,
        ) as client:
            yield client


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


def _sealed_answers(body: bytes) -> dict[str, bytes]:
    """Return {device: sealed statement} as the step queued it."""
    decoded = codec.decode(body)
    assert isinstance(decoded, dict)  # written by steps.invitation_answers
    return {str(device): bytes(sealed) for device, sealed in decoded.items() if isinstance(sealed, bytes)}
