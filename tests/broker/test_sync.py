"""The node's side of the broker, with a broker that is played: what a sign-out ends."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from peer.broker import announcing, sync
from peer.broker.client import LEAST_ANNOUNCED_SECONDS
from peer.broker.responses import RelayAccess
from peer.broker.sync import BrokerSync
from peer.broker.transport import Unreachable
from peer.machine.settings import Settings
from peer.protocol.errors import NotSignedIn
from peer.steps.journal import Journal

URL = "http://127.0.0.1:1"


class Broker:
    """Takes its time to answer the one who asks for invitations; the answer brings a new token and an invitation."""

    ahead: float | None = 0.0

    def __init__(self) -> None:
        self.asked = trio.Event()
        self.answers = trio.Event()
        self.tokens: list[str] = []

    def __call__(self, _url: str, *, token: str, on_token: Callable[[str], None], **_: object) -> Broker:
        self.tokens.append(token)
        self._on_token = on_token
        return self

    async def __aenter__(self) -> Broker:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def invitations(self, **_: object) -> Any:
        self.asked.set()
        await self.answers.wait()
        self._on_token("renewed")
        return SimpleNamespace(version=1, more=False, received=[SimpleNamespace(token="one")], sent=[], announced=None)


async def test_a_sign_out_ends_the_waiting_for_invitations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen to fail with a poll that brought the sign-in back, and with one that still learned what it had asked for."""
    broker = Broker()
    monkeypatch.setattr(sync, "BrokerClient", broker)
    settings = [Settings(broker=URL, token="first")]
    kept: list[str] = []
    context: Any = SimpleNamespace(identity=None, clock=lambda: 5)  # without a store: nothing is to be learned
    link = BrokerSync(URL, Journal(context, lambda _: None), lambda: settings[-1], kept.append, list)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link._retry_forever, link._poll_invitations)
        await broker.asked.wait()
        settings.append(Settings(broker=URL, token=""))
        link.reload()
        broker.answers.set()
        await wait_all_tasks_blocked()
        assert (kept, broker.tokens) == ([], ["first"])
        assert isinstance(link.state.error, NotSignedIn) and "dispatch login" in link.state.error.fix
        nursery.cancel_scope.cancel()


async def test_what_was_learned_of_presence_is_forgotten_when_it_is_old(
    monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    class Known(Broker):
        async def get_presence(self, _user_id: str) -> list[object]:
            return []

    async def read(_query: object) -> list[object]:
        return []

    monkeypatch.setattr(sync, "BrokerClient", Known())
    context: Any = SimpleNamespace(identity=None, store=SimpleNamespace(read=read))
    link = BrokerSync(
        URL, Journal(context, lambda _: None), lambda: Settings(broker=URL, token="t"), lambda _: None, list
    )
    for number in range(20):
        await link.presence_of(f"{number}@example.org")
        mock_clock.jump(sync.PRESENCE_CACHE_SECONDS / 4)
    assert len(link._presence) == 4


class Relays(Broker):
    """Names one relay."""

    async def relays(self) -> RelayAccess:
        return RelayAccess(b"t", 5, ("https://relay.example",))


async def test_access_to_relays_is_asked_for_while_signed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Relays()
    monkeypatch.setattr(sync, "BrokerClient", broker)
    settings = [Settings(broker=URL, token="first")]
    context: Any = SimpleNamespace(identity=None)
    link = BrokerSync(URL, Journal(context, lambda _: None), lambda: settings[-1], lambda _: None, list)
    assert await link.relays() == RelayAccess(b"t", 5, ("https://relay.example",))
    settings.append(Settings(broker=URL, token=""))
    with pytest.raises(NotSignedIn):
        await link.relays()
    assert broker.tokens == ["first"]


class Presence(Broker):
    """Takes announcements, and asks for the next one in an hour."""

    def __init__(self) -> None:
        super().__init__()
        self.at: list[float] = []
        """When each came, in seconds of a monotonic clock."""

    async def put_presence(self, *, seq: int = 0, **_: object) -> float:
        self.at.append(trio.current_time())
        return 3600.0


@pytest.mark.parametrize(
    ("moved", "moves_to", "again"),
    [
        (0, ["/ip4/192.0.2.1/tcp/1"], 3600),
        (3 * 3600, ["/ip4/192.0.2.1/tcp/1"], announcing.LOOK_SECONDS),
        (-3 * 3600, ["/ip4/192.0.2.1/tcp/1"], announcing.LOOK_SECONDS),
        (0, ["/ip4/198.51.100.1/tcp/1"], announcing.LOOK_SECONDS),
        (0, [], announcing.LOOK_SECONDS),
    ],
    ids=["nothing", "suspended or set forward", "set back", "another network", "no network"],
)
async def test_an_announcement_that_holds_no_more_is_made_again(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, moved: int, moves_to: list[str], again: float
) -> None:
    """Seen to fail with one wait for the time that the broker asks for: up to an hour nobody found this device."""
    broker, addresses = Presence(), ["/ip4/192.0.2.1/tcp/1"]
    monkeypatch.setattr(sync, "BrokerClient", broker)
    monkeypatch.setattr(announcing, "seal_presence", lambda **_: b"")
    offset = 0

    async def nothing(_query: object) -> list[object]:
        return []

    context: Any = SimpleNamespace(
        identity=SimpleNamespace(seed=b""),
        store=SimpleNamespace(read=nothing),
        clock=lambda: int(trio.current_time() * 1000) + 1_800_000_000_000 + offset * 1000,
    )
    link = BrokerSync(
        URL, Journal(context, lambda _: None), lambda: Settings(broker=URL, token="t"), print, lambda: addresses
    )
    monkeypatch.setattr(link._announcer, "next_sequence", trio.lowlevel.checkpoint)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link._retry_forever, link._publish_presence)
        await trio.sleep(1)
        offset, addresses = moved, moves_to
        await trio.sleep(3700)
        nursery.cancel_scope.cancel()
    assert broker.at[1] - broker.at[0] == pytest.approx(again)


URL_ADDRESS = "/ip4/192.0.2.1/tcp/1"


class Whole(Presence):
    """Answers everything, unless it is `away`; `hung`: what is asked is never answered.

    `kept`: the number of the announcement that it has; `says_kept`, which it says. `waits`: as it is asked to.
    """

    def __init__(self) -> None:
        super().__init__()
        self.away = self.hung = False
        self.says_kept = self.waits = True
        self.kept = 0
        self.polls: list[float] = []

    async def put_presence(self, *, seq: int = 0, **_: object) -> float:
        await self._answer()
        self.kept = seq
        return await super().put_presence()

    async def withdraw_presence(self, *, seq: int) -> None:
        assert seq > self.kept
        self.kept = 0

    async def invitations(self, **asked: Any) -> Any:
        self.polls.append(trio.current_time())
        await self._answer()
        kept = self.kept if self.says_kept else None
        await trio.sleep(asked["wait"] if self.waits else 0)
        return SimpleNamespace(version=1, more=False, received=[], sent=[], announced=kept)

    async def _answer(self) -> None:
        if self.hung:
            await trio.sleep_forever()
        if self.away:
            raise Unreachable("nobody answers", fix="wait")


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> Whole:
    broker = Whole()
    monkeypatch.setattr(sync, "BrokerClient", broker)
    monkeypatch.setattr(announcing, "seal_presence", lambda **_: b"")
    return broker


@asynccontextmanager
async def synced(monkeypatch: pytest.MonkeyPatch, addresses: Callable[[], list[str]]) -> AsyncIterator[BrokerSync]:
    async def nothing(_query: object) -> list[object]:
        return []

    context: Any = SimpleNamespace(
        identity=SimpleNamespace(seed=b""),
        store=SimpleNamespace(read=nothing),
        clock=lambda: int(trio.current_time() * 1000) + 1_800_000_000_000,
    )
    journal = Journal(context, lambda _: None)
    link = BrokerSync(URL, journal, lambda: Settings(broker=URL, token="t"), print, addresses, jitter=lambda: 0.5)
    numbers = itertools.count(1)

    async def next_sequence() -> int:
        await trio.lowlevel.checkpoint()
        return next(numbers)

    monkeypatch.setattr(link._announcer, "next_sequence", next_sequence)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run)
        await trio.sleep(1)
        yield link
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("says_kept", "lost", "told"),
    [(True, False, 1), (True, True, 2), (False, False, 2)],
    ids=["it has the announcement", "it has lost it", "an older broker"],
)
async def test_a_broker_that_is_back_is_noticed_soon_and_told_anew_what_it_has_lost(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, whole: Whole, says_kept: bool, lost: bool, told: int
) -> None:
    """Not what it still has: else all devices of a broker announce themselves whenever it is started again.

    Seen to fail with retries up to a minute apart, without a new announcement, and with one in any case.
    """
    returned: list[float] = []
    async with synced(monkeypatch, lambda: [URL_ADDRESS]) as link:
        link.on_return(lambda: returned.append(trio.current_time()))
        whole.says_kept, whole.away = says_kept, True
        whole.kept *= not lost
        await trio.sleep(3000)
        assert link.state.error is not None and len(whole.at) == 1
        assert all(later - polled < 5 for polled, later in pairwise(whole.polls[-20:]))
        back, whole.away = trio.current_time(), False
        await trio.sleep(10)
        assert link.state.error is None and len(whole.at) == told and len(returned) == 1
        assert told == 1 or whole.at[-1] - back <= 5


async def test_another_network_ends_what_hangs_and_announces_only_what_is_new(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, whole: Whole
) -> None:
    """Seen to fail where a request of the old network was waited for, and where each change was announced."""
    addresses = [URL_ADDRESS]
    async with synced(monkeypatch, lambda: addresses) as link:
        await trio.sleep(100)
        whole.hung = True
        await trio.sleep(100)
        asked = len(whole.polls)
        whole.hung = False
        link.reconnect()
        await wait_all_tasks_blocked()
        assert len(whole.polls) == asked + 1 and len(whole.at) == 1
        addresses = ["/ip4/198.51.100.1/tcp/1"]
        link.reconnect()
        await wait_all_tasks_blocked()
        assert len(whole.at) == 2
        link.announce()
        await wait_all_tasks_blocked()
        assert len(whole.at) == 3, "who asks for it gets it"


@pytest.mark.parametrize("left", [0, 1], ids=["nothing is left", "a backup is back"])
async def test_an_announcement_that_a_broker_lost_without_a_word_is_made_again(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, whole: Whole, left: int
) -> None:
    """Data that is lost, restored or removed under a broker that goes on. Seen to fail without a look at the number
    that its answers say: for an hour nobody found this device."""
    async with synced(monkeypatch, lambda: [URL_ADDRESS]) as link:
        link.announce()
        await trio.sleep(100)
        assert (len(whole.at), whole.kept) == (2, 2)
        whole.kept = left
        await trio.sleep(2 * sync.LONG_POLL_SECONDS)
        assert (len(whole.at), whole.kept) == (3, 3)
        await trio.sleep(1000)
        assert len(whole.at) == 3


async def test_an_answer_that_crossed_an_announcement_says_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, whole: Whole
) -> None:
    """Seen to fail with a comparison of every answer: each change of addresses was announced twice."""
    async with synced(monkeypatch, lambda: [URL_ADDRESS]) as link:
        await trio.sleep(40)
        link.announce()  # a request of before waits, and has seen the first one
        await trio.sleep(1000)
        assert (len(whole.at), whole.kept) == (2, 2)


async def test_a_broker_that_always_says_that_it_has_nothing_is_not_told_without_pause(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, whole: Whole
) -> None:
    """Seen to fail without a bound: four times a second."""
    async with synced(monkeypatch, lambda: [URL_ADDRESS]):
        whole.waits = False
        until = trio.current_time() + 1000
        while trio.current_time() < until:
            whole.kept = 0
            await trio.sleep(0.1)
        assert all(later - at > LEAST_ANNOUNCED_SECONDS - 0.1 for at, later in pairwise(whole.at[1:]))
        assert len(whole.at) > 50, "it is told all the same"


async def test_what_is_withdrawn_is_not_announced_again(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, whole: Whole
) -> None:
    """The requests go on until the node has stopped. Seen to fail where a device that had left was announced again."""
    async with synced(monkeypatch, lambda: [URL_ADDRESS]) as link:
        await trio.sleep(100)
        await link.withdraw()
        link.announce()
        await trio.sleep(200)
        assert (len(whole.at), whole.kept) == (1, 0)


async def test_a_broker_whose_clock_jumped_is_told_anew(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, whole: Whole
) -> None:
    """Announcements end by its clock. Seen to fail without the date of its answers: for an hour nobody was found."""
    async with synced(monkeypatch, lambda: [URL_ADDRESS]):
        await trio.sleep(100)
        assert len(whole.at) == 1
        whole.ahead = 3 * 3600.0
        await trio.sleep(sync.LONG_POLL_SECONDS + announcing.LOOK_SECONDS)
        assert len(whole.at) == 2
        await trio.sleep(1000)
        assert len(whole.at) == 2
