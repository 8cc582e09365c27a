"""Several brokers together, each of which is played: what one says or does not say changes nothing at another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from peer.broker import brokers as module
from peer.broker.brokers import Brokers, newest
from peer.broker.sync import PRESENCE_CACHE_SECONDS, BrokerSync
from peer.machine.broker_list import BrokerSignIn
from peer.machine.settings import Settings
from peer.mesh.peer_record import Announcement
from peer.protocol.brokers import mark
from peer.protocol.errors import Conflict, Forbidden, Unavailable
from peer.steps import hellos, invitation_answers, inviting
from peer.steps.journal import Journal
from peer.store import contacts, invitations
from peer.trust import grants
from tests.steps.people import invite, people

A, B = "https://a.example", "https://b.example"
BOB = "bob@example.org"


class Played:
    """One broker: what it says of presence, whether it answers at all."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.says: dict[str, Announcement] = {}
        self.answers = trio.Event()
        self.fails: Unavailable | None = None
        self.token = ""


class Scene:
    def __init__(self, *, met_at: set[str], said: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.played = {A: Played(), B: Played()}
        self.settings = Settings(broker=A, token="token-a", brokers=(BrokerSignIn(url=B, token="token-b"),))
        self.learned: list[dict[str, Announcement]] = []
        monkeypatch.setattr(module, "_brokers_of", lambda _db, _user, _urls: met_at | said)

        async def read(query: Callable[[Any], Any]) -> Any:
            return query(None)

        context: Any = SimpleNamespace(identity=None, clock=lambda: 5, store=SimpleNamespace(read=read))
        played = self.played

        async def presence_of(sync: BrokerSync, user_id: str) -> dict[str, Announcement]:
            broker = played[sync.url]
            broker.asked.append(user_id)
            await broker.answers.wait()
            if broker.fails:
                raise broker.fails
            return broker.says

        async def run(_sync: BrokerSync) -> None:
            await trio.sleep_forever()

        monkeypatch.setattr(BrokerSync, "presence_of", presence_of)
        monkeypatch.setattr(BrokerSync, "run", run)
        self.brokers = Brokers(Journal(context, lambda _: None), lambda: self.settings, lambda _u, _t: None, list)
        self.brokers.on_presence(self._learn)

    async def _learn(self, found: Any) -> None:
        self.learned.append(dict(found))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Brokers]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.brokers.run)
            yield self.brokers
            nursery.cancel_scope.cancel()


def at(seq: int, *addresses: str) -> dict[str, Announcement]:
    return {"device": Announcement("device", seq, addresses)}


async def test_a_broker_that_hangs_holds_up_no_other_and_is_heard_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen to fail where all were waited for, and where what came later was dropped."""
    scene = Scene(met_at={A}, said={B}, monkeypatch=monkeypatch)
    scene.played[B].says, scene.played[A].says = at(1, "old"), at(2, "new")
    scene.played[B].answers.set()
    async with scene.running() as brokers:
        assert await brokers.presence_of(BOB) == at(1, "old")
        assert scene.played[A].asked == [BOB] and scene.learned == [at(1, "old")]
        scene.played[A].answers.set()
        await wait_all_tasks_blocked()
        assert scene.learned[-1] == at(2, "new")
        assert await brokers.presence_of(BOB) in (at(1, "old"), at(2, "new"))


async def test_a_broker_that_hangs_is_asked_once_for_each_contact(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(met_at={A}, said=set(), monkeypatch=monkeypatch)
    monkeypatch.setattr(module, "LOOK_UPS_AT_ONCE", 2)
    scene.brokers = Brokers(scene.brokers._journal, lambda: scene.settings, lambda _u, _t: None, list)
    async with scene.running() as brokers, trio.open_nursery() as nursery:
        for number in range(12):
            nursery.start_soon(brokers.presence_of, f"{number % 4}@example.org")
        await wait_all_tasks_blocked()
        assert len(scene.played[A].asked) == 2 and len(brokers._look_ups) == 4
        scene.played[A].answers.set()
        await wait_all_tasks_blocked()
        assert sorted(scene.played[A].asked) == [f"{number}@example.org" for number in range(4)]
        assert not brokers._look_ups
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("met_at", "said", "asked"),
    [
        ({A}, set(), {A}),
        ({B}, set(), {B}),
        ({A}, {B}, {A, B}),
        (set(), {B}, {B}),
        ({"https://gone.example"}, set(), {A}),
        (set(), set(), {A}),
    ],
)
async def test_a_broker_is_asked_about_those_alone_who_are_there(
    monkeypatch: pytest.MonkeyPatch, met_at: set[str], said: set[str], asked: set[str]
) -> None:
    """Seen to fail where each is asked about everybody: it would learn of people who never were there."""
    scene = Scene(met_at=met_at, said=said, monkeypatch=monkeypatch)
    for broker in scene.played.values():
        broker.answers.set()
    async with scene.running() as brokers:
        assert await brokers.presence_of(BOB) == {}
    assert {url for url, broker in scene.played.items() if broker.asked} == asked


async def test_what_was_just_answered_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was a task for each broker, which found the answer there."""
    scene = Scene(met_at={A, B}, said=set(), monkeypatch=monkeypatch)
    async with scene.running() as brokers:
        brokers.at(A)._presence[BOB] = (trio.current_time(), at(1))
        assert await brokers.presence_of(BOB) == at(1)
        assert scene.played[A].asked == []
        brokers.at(A)._presence[BOB] = (trio.current_time() - PRESENCE_CACHE_SECONDS, at(1))
        scene.played[A].says = at(2)
        scene.played[A].answers.set()
        assert await brokers.presence_of(BOB) == at(2)


async def test_it_fails_only_where_none_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(met_at={A, B}, said=set(), monkeypatch=monkeypatch)
    scene.played[A].fails = Unavailable("gone", fix="")
    for broker in scene.played.values():
        broker.answers.set()
    async with scene.running() as brokers:
        assert await brokers.presence_of(BOB) == {}
        scene.played[B].fails = Unavailable("gone too", fix="")
        with pytest.raises(Unavailable):
            await brokers.presence_of(BOB)
        scene.played[B].fails, scene.played[B].says = None, at(1)
        assert await brokers.presence_of(BOB) == at(1)


announcements = st.dictionaries(
    st.sampled_from(["one", "two"]), st.builds(lambda seq: Announcement("d", seq, (str(seq),)), st.integers(0, 9))
)


@given(st.lists(announcements, max_size=8))
def test_the_newest_signed_number_wins_whatever_the_order(answers: list[dict[str, Announcement]]) -> None:
    merged = newest(answers)
    assert merged == newest(reversed(answers))
    for device in {device for answer in answers for device in answer}:
        assert merged[device].seq == max(answer[device].seq for answer in answers if device in answer)


async def test_a_token_goes_to_its_broker_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is asked of whichever; seen to fail with the first one's token everywhere."""
    used: set[tuple[str, str]] = set()

    class Client:
        def __init__(self, url: str, *, token: str, **_: object) -> None:
            used.add((url, token))

        async def __aenter__(self) -> Any:
            raise Unavailable("far away", fix="")

        async def __aexit__(self, *_: object) -> None: ...

    monkeypatch.setattr("peer.broker.sync.BrokerClient", Client)
    held = [Settings(broker=A, token="token-a", brokers=(BrokerSignIn(url=B, token="token-b"),))]
    context: Any = SimpleNamespace(identity=None, clock=lambda: 5)
    brokers = Brokers(Journal(context, lambda _: None), lambda: held[-1], lambda _u, _t: None, list)
    before = brokers.at(A)
    for url in (A, B):
        for ask in (brokers.at(url).relays, brokers.at(url).check):
            with pytest.raises(Unavailable):
                await ask()
    with pytest.raises(Unavailable):
        await brokers.fetch("token")
    held.append(Settings(broker=B, token="token-b"))
    with pytest.raises(Exception, match="no token"):
        await before.check()
    assert used == {(A, "token-a"), (B, "token-b")}
    with pytest.raises(Conflict) as refused:
        brokers.at("https://c.example")
    assert refused.value.fix == "run `dispatch broker add https://c.example`"


def test_an_invitation_is_its_brokers_alone(tmp_path: Path) -> None:
    """Seen to fail with a broker that withdrew, answered or took what was posted at another one."""
    with people(tmp_path, "alice", "bob") as (_, alice, bob):
        sent = alice.step(lambda tx: inviting.invite(tx, bob.user, broker=A)).row
        got = bob.step(lambda tx: inviting.on_invitation(tx, sent.raw, broker=A))
        assert got is not None and got.broker == A
        assert bob.step(lambda tx: inviting.on_invitation(tx, sent.raw, broker=B)) is None
        alice.step(lambda tx: inviting.on_sent_withdrawn(tx.db, sent.token, broker=B))
        scope = grants.grant(grants.ScopeInput(tools="Read"), installed=(), now=bob.context.clock())
        edge = bob.step(lambda tx: invitation_answers.accept(tx, sent.token, scope))
        assert invitations.broker_writes(bob.db, B) == []
        assert [write.action for write in invitations.broker_writes(bob.db, A)] == ["accepted"]
        with pytest.raises(Forbidden, match="another broker"):
            alice.step(lambda tx: invitation_answers.on_answer(tx, edge.acceptance, broker=B))
        alice.step(lambda tx: invitation_answers.on_answer(tx, edge.acceptance, broker=A))
        assert invitations.met_at(alice.db, bob.user) == {A} == invitations.met_at(bob.db, alice.user)
        other = alice.step(lambda tx: inviting.invite(tx, "carol@example.org", broker=A)).row
        assert not alice.step(lambda tx: inviting.invite(tx, "carol@example.org", broker=A, at=[A, B])).fresh
        assert alice.step(lambda tx: inviting.invite(tx, "carol@example.org", broker=B, at=[B])).fresh
        alice.step(lambda tx: inviting.discard(tx, other.token))
        assert [write.token for write in invitations.broker_writes(alice.db, A)] == [other.token]
        assert invitations.broker_writes(alice.db, B) == []


def test_contacts_recognise_the_brokers_that_both_use_and_no_other(tmp_path: Path) -> None:
    """Marks are bound to the device, so two devices' cannot be compared without a name."""
    with people(tmp_path, "alice", "bob") as (_, alice, bob):
        token = invite(alice, bob)
        scope = grants.grant(grants.ScopeInput(tools="Read"), installed=(), now=bob.context.clock())
        bob.step(lambda tx: invitation_answers.accept(tx, token, scope))
        (device,) = contacts.devices(bob.db)
        assert hellos.brokers_among(device, [A, B]) == []
        raw = alice.step(lambda tx: hellos.make(tx, [B, "https://secret.example"]))
        bob.step(lambda tx: hellos.take(tx, alice.device, raw))
        (device,) = contacts.devices(bob.db)
        assert hellos.brokers_among(device, [A, B]) == [B]
        assert mark(alice.device, B) != mark(bob.device, B) and b"secret.example" not in raw


def test_what_one_broker_alone_left_is_the_first_ones(tmp_path: Path) -> None:
    with people(tmp_path, "alice", "bob") as (_, alice, bob):
        token = alice.step(lambda tx: inviting.invite(tx, bob.user)).row.token
        alice.step(lambda tx: inviting.discard(tx, token))
        alice.step(lambda tx: invitations.assign_broker(tx.db, A))
        alice.step(lambda tx: invitations.assign_broker(tx.db, B))
        row = invitations.get(alice.db, token)
        assert row is not None and row.broker == A and invitations.waiting_at(alice.db) == {A: 1}
        now = alice.context.clock()
        alice.step(lambda tx: invitations.drop_writes_to_others(tx.db, [A], before=now + 1))
        alice.step(lambda tx: invitations.drop_writes_to_others(tx.db, [B], before=now))
        assert invitations.waiting_at(alice.db) == {A: 1}, "it is used, or may come back"
        alice.step(lambda tx: invitations.drop_writes_to_others(tx.db, [B], before=now + 1))
        assert invitations.waiting_at(alice.db) == {}
