"""In place of brokers: where each device said that it is, at each of several. They die, hang, forget and hold back.

What a node does with its brokers is the real code (peer/broker): BrokerSync, Announcer, the choice among several. Left
out are HTTP, signatures of requests, and the sealing of what is announced.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from typing import Final
from unittest import mock

import trio
from nacl.public import PrivateKey

from peer.broker.responses import Invitations, RelayAccess, SealedPresence
from peer.broker.transport import ANSWER_SECONDS, CONNECT_SECONDS, Author, Unreachable
from peer.mesh.peer_record import Announcement
from peer.mesh.port_mapping import PortMapper
from peer.protocol.errors import NO_FIX, Conflict, Forbidden
from peer.protocol.relays.admission import TOKEN_LIFE_MS
from rendezvous.presence import MAX_TTL_MS
from rendezvous.relay_tokens import RelayKey
from tests.simulation.paths.reach import Reach
from tests.steps.people import START

REANNOUNCE_AFTER: Final = (2880.0, 4320.0)
"""Seconds, as rendezvous/presence.py says."""
STILL_LONGER: Final = 6
"""How many times as long an announcement lasts in long plays (still.py)."""


class SimulatedBroker:
    """One broker at `url`. It is `up`, or not; `silent`: it takes requests, and answers none."""

    def __init__(self, reach: Reach, url: str, relays: Sequence[str]) -> None:
        self.reach, self.url, self._relays = reach, url, tuple(relays)
        self.up, self.silent = True, False
        self.life = 0
        """How often it began anew, or came to be out of reach."""
        self.processes = 0
        """How often it ended or began: with its process its connections end."""
        self.unreached: set[str] = set()
        """Who cannot reach it."""
        self.key = RelayKey(url.encode().ljust(32, b"."))
        self.announced: dict[str, SealedPresence] = {}
        """User, each of whom has one device → what it announced last."""
        self.changed_at = 0.0
        self.first_at: dict[str, float] = {}
        """Device → since when it is announced here without a pause."""
        self._held_back: dict[str, SealedPresence] | None = None
        self.news = trio.Event()
        self.polled: dict[str, tuple[int, bool]] = {}
        """Who waited for news of it until there was an answer → its state then."""

    @property
    def state(self) -> tuple[int, bool]:
        """What changes with all that it says of announcements, but for new ones."""
        return self.processes, self.honest

    @property
    def honest(self) -> bool:
        """Whether it says all that it was told."""
        return self._held_back is None

    def for_(self, name: str) -> bool:
        """Whether it answers somebody now."""
        return self.up and not self.silent and name not in self.unreached and name not in self.reach.asleep

    def changed(self, *names: str) -> None:
        """Let through what can go through now, and break what cannot. `names`: for whom alone something has changed."""
        self.life += 1
        self.changed_at = trio.current_time()
        self.news.set()
        self.news = trio.Event()
        self.reach.changed(*(names or (self.url,)))

    def stop(self, *, silent: bool) -> None:
        """Answer nothing from now on: `silent`, without a word."""
        self.up, self.silent = silent, silent
        self.processes += not silent
        self.changed()

    def begin(self, *, forgets: bool = False) -> None:
        """Answer again. `forgets`: without anything that was announced before."""
        self.up, self.silent = True, False
        self.processes += 1
        if forgets:
            self.announced.clear()
            self.first_at.clear()
        self.changed()

    def hold_back(self, on: bool) -> None:
        """Say what was so once, and not what is."""
        self._held_back = dict(self.announced) if on else None
        self.changed_at = trio.current_time()

    def now(self) -> int:
        """Return milliseconds since the epoch."""
        return START + int(self.reach.world.now * 1000)

    def of_user(self, user: str) -> list[SealedPresence]:
        """Return what it says of a user's devices."""
        said = self.announced if self._held_back is None else self._held_back
        found = said.get(user)
        return [found] if found is not None and found.expires > self.now() else []


class SimulatedClient:
    """The methods of peer.broker.client.BrokerClient that the background uses."""

    def __init__(self, reach: Reach, url: str, *, author: Author, **_options: object) -> None:
        self._reach, self.url = reach, url
        self._broker = reach.brokers[url]
        self._author = author
        self._name = reach.devices[author.device]
        self.ahead: float | None = None

    async def __aenter__(self) -> SimulatedClient:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def put_presence(self, *, seq: int, expires: int, box: bytes) -> float:
        async with self._request():
            device, user = self._author.device, self._author.user_id
            known = self._broker.announced.get(user)
            if known is not None and seq <= known.seq:
                raise Conflict("a newer announcement is known", fix=NO_FIX)
            now, longer = self._broker.now(), STILL_LONGER if self._reach.still else 1
            expires = now + longer * min(expires - now, MAX_TTL_MS)
            self._broker.first_at.setdefault(device, trio.current_time())
            self._broker.announced[user] = SealedPresence(device, seq, expires, box)
        return longer * self._reach.world.random.uniform(*REANNOUNCE_AFTER)

    async def withdraw_presence(self, *, seq: int) -> None:
        async with self._request():
            self._broker.announced.pop(self._author.user_id, None)

    async def get_presence(self, user_id: str) -> list[SealedPresence]:
        found: list[SealedPresence] = []
        async with self._request():
            found += self._broker.of_user(user_id)
        return found

    async def relays(self) -> RelayAccess:
        expires = self._broker.now() + TOKEN_LIFE_MS
        async with self._request():
            token = self._broker.key.token(user_id=self._author.user_id, device=self._author.device, expires=expires)
        return RelayAccess(token, expires, self._broker._relays)

    async def invitations(self, *, version: int = 0, wait: int = 0) -> Invitations:
        """There are none, which it says after a while."""
        async with self._request(wait=float(wait)):
            known = [each.seq for each in self._broker.of_user(self._author.user_id)]
        return Invitations(version, False, [], [], announced=max(known, default=0))

    @asynccontextmanager
    async def _request(self, wait: float = 0.0) -> AsyncIterator[None]:
        """Have the block be what the broker does. Raises Unreachable before it, or after."""
        reach, broker, name = self._reach, self._broker, self._name
        latency = 10 ** reach.world.random.uniform(-2, -0.3)
        if not broker.up and name not in broker.unreached and name not in reach.asleep:
            await trio.sleep(latency)
            raise Unreachable("nothing listens there", fix=NO_FIX)
        where = self._where()
        longest = CONNECT_SECONDS if name in broker.unreached else ANSWER_SECONDS + wait
        with trio.move_on_after(float("inf") if wait and reach.still else longest):
            await trio.sleep(latency)
            await reach.until(lambda: broker.for_(name))
            if wait:
                process = broker.processes
                if reach.still and broker.polled.get(name) == broker.state:  # there is nothing that it does not know
                    while broker.polled.get(name) == broker.state:
                        await broker.news.wait()
                    wait *= reach.world.random.random()
                with trio.move_on_after(wait):
                    while broker.processes == process:
                        await broker.news.wait()
                    raise Unreachable("it has stopped", fix=NO_FIX)
                broker.polled[name] = broker.state
            yield
            await trio.sleep(latency)
            # What was on its way to where the machine was does not come to where it is.
            await reach.until(lambda: broker.for_(name) and self._where() == where)
            self.ahead = 0.0
            return
        raise Unreachable("no answer in time", fix=NO_FIX)

    def _where(self) -> tuple[str, int]:
        return self._reach.address[self._name], self._reach.wakes[self._name]


@cache
def _public(private: bytes) -> str:
    return bytes(PrivateKey(private).public_key).hex()


def _seal(*, seed: bytes, addresses: Sequence[str], seq: int, recipients: Sequence[bytes]) -> bytes:
    plain = [address.partition("/p2p/")[0] for address in addresses]
    return json.dumps([seq, plain, sorted(recipient.hex() for recipient in recipients)]).encode()


def addresses_in(box: bytes) -> list[str]:
    """Return what is announced."""
    found: list[str] = json.loads(box)[1]
    return found


def _open(box: bytes, *, sealing_key: bytes, device: str, seq: int) -> Announcement:
    number, addresses, recipients = json.loads(box)
    if _public(sealing_key) not in recipients:
        raise Forbidden("that presence is not for this device", fix=NO_FIX)
    assert number == seq
    return Announcement(device, seq, tuple(addresses))


@contextmanager
def installed(reach: Reach) -> Iterator[None]:
    """Have every node that runs meanwhile ask these brokers."""

    async def no_router(_self: PortMapper) -> None:
        await trio.sleep_forever()

    client: Callable[..., SimulatedClient] = lambda url, **options: SimulatedClient(reach, url, **options)  # noqa: E731
    with (
        mock.patch("peer.broker.sync.BrokerClient", client),
        mock.patch("peer.broker.announcing.seal_presence", _seal),
        mock.patch("peer.broker.sync.open_presence", _open),
        mock.patch.object(PortMapper, "_watch", no_router),
    ):
        yield
