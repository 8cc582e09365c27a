"""Invitations at a real broker: posting, hearing of them at once, answering once, ending."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from peer.broker.client import BrokerInvitation
from peer.protocol.errors import Conflict, DispatchError, Forbidden, Gone, Invalid, NotFound, RateLimited, TooLarge
from rendezvous.invitations import MAX_SEALED
from rendezvous.limits import Limits
from rendezvous.storage.limits import StorageLimits
from rendezvous.storage.rows import Author, InvitationAnswer, InvitationStatus, NewInvitation
from tests.conftest import HANG
from tests.rendezvous.storage.memory import MemoryStorage
from tests.rendezvous.storage.values import approved
from tests.rendezvous.world import DAY_MS, People, Person, Running, people_at, running_broker

BOB = "bob@example.org"


async def two(people: People) -> tuple[Person, Person]:
    return await people.signed_in("alice@example.org"), await people.signed_in(BOB)


async def received(person: Person) -> list[BrokerInvitation]:
    return (await person.client.invitations()).received


async def test_from_invitation_to_collected_answer(broker: Running, people: People) -> None:
    alice = await people.signed_in("alice@example.org")
    raw = alice.signed_invitation(BOB)
    posted = await alice.client.post_invitation(raw)
    assert (posted.to, posted.emailed, posted.existing) == (BOB, False, False)
    (mine,) = (await alice.client.invitations()).sent
    assert (mine.status, mine.statement, mine.sealed) == ("pending", raw, None)

    bob = await people.signed_in(BOB)  # signs in after being invited
    (got,) = await received(bob)
    assert (got.token, got.inviter, got.invitee, got.statement) == (posted.token, "alice@example.org", BOB, raw)
    assert (await bob.client.get_invitation(posted.token)) == got

    await bob.client.answer(posted.token, kind="accepted", sealed={alice.who.device: b"for alice"})
    (answered,) = (await alice.client.invitations()).sent
    assert (answered.status, answered.sealed) == ("accepted", b"for alice") and answered.answered is not None
    (at_bob,) = await received(bob)
    assert (at_bob.status, at_bob.sealed) == ("accepted", None)
    assert (await alice.client.get_invitation(posted.token)).sealed == b"for alice"


async def test_another_storage_serves_as_well(tmp_path: Path) -> None:
    """The routes know the interface only: everything a person does here runs over the implementation in memory."""
    async with (
        running_broker(tmp_path / "broker", storage=MemoryStorage()) as broker,
        people_at(broker, tmp_path / "people") as people,
    ):
        alice, bob = await two(people)
        posted = await alice.client.post_invitation(alice.signed_invitation(BOB))
        await bob.client.answer(posted.token, kind="accepted", sealed={alice.who.device: b"for alice"})
        (answered,) = (await alice.client.invitations()).sent
        assert (answered.status, answered.sealed) == ("accepted", b"for alice")
        await alice.client.put_presence(seq=1, expires=broker.clock() + 60_000, box=b"box")
        assert [entry.box for entry in await bob.client.get_presence(alice.who.user_id)] == [b"box"]
        assert (await alice.client.health()).origin == broker.url
        assert list((tmp_path / "broker").iterdir()) == []


async def test_an_open_invitation_is_named_and_nothing_changes(broker: Running, people: People) -> None:
    alice, bob = await two(people)
    raw = alice.signed_invitation(BOB)
    first = await alice.client.post_invitation(raw)
    for again in (raw, alice.signed_invitation(BOB)):
        posted = await alice.client.post_invitation(again)
        assert (posted.token, posted.existing) == (first.token, True)
    assert len(await received(bob)) == 1
    await alice.client.withdraw(first.token)
    assert not (await alice.client.post_invitation(alice.signed_invitation(BOB))).existing


async def test_what_cannot_be_posted(broker: Running, people: People) -> None:
    alice, bob = await two(people)
    now = broker.clock()
    refusals: list[tuple[bytes, type[DispatchError]]] = [
        (bob.signed_invitation("carol@example.org"), Forbidden),  # another's invitation
        (alice.signed_invitation("alice@example.org"), Invalid),  # to oneself
        (alice.signed_invitation(BOB, expires=now - 1), Gone),
        (alice.signed_invitation(BOB, expires=now + 8 * DAY_MS), Invalid),
        (alice.signed_invitation(BOB, created=now + 3_600_000, expires=now + DAY_MS), Invalid),
        (alice.signed_invitation(BOB, device_set=bob.who.device_set), Forbidden),
        (alice.who.device_set, Invalid),  # a statement of another type
        (alice.signed_invitation(BOB)[:-1], Invalid),
        (b"", Invalid),
    ]
    for raw, kind in refusals:
        with pytest.raises(kind):
            await alice.client.post_invitation(raw)
    assert await received(bob) == []


async def test_the_id_of_another_invitation_is_refused(broker: Running, people: People) -> None:
    alice, bob = await two(people)
    posted = await alice.client.post_invitation(alice.signed_invitation(BOB))
    with pytest.raises(Conflict, match="already has that id"):
        await bob.client.post_invitation(bob.signed_invitation("alice@example.org", id=posted.token))


async def test_answered_once_under_concurrency(broker: Running, people: People) -> None:
    alice, bob = await two(people)
    posted = await alice.client.post_invitation(alice.signed_invitation(BOB))
    outcomes: dict[int, int] = {}

    async def answer(number: int) -> None:
        arguments = {"token": posted.token, "kind": "accepted", "sealed": {alice.who.device: b"answer %d" % number}}
        body = bob.statement("invitations.answer", arguments)
        response = await bob.raw("POST", f"/v1/invitations/{posted.token}/answer", body)
        outcomes[number] = response.status_code

    async with trio.open_nursery() as nursery:
        for number in range(12):
            nursery.start_soon(answer, number)
    assert sorted(outcomes.values()) == [200] + [409] * 11
    (winner,) = [number for number, code in outcomes.items() if code == 200]
    (mine,) = (await alice.client.invitations()).sent
    assert mine.sealed == b"answer %d" % winner


async def test_the_same_answer_again_is_fine_and_another_is_not(broker: Running, people: People) -> None:
    alice, bob = await two(people)
    posted = await alice.client.post_invitation(alice.signed_invitation(BOB))
    sealed = {alice.who.device: b"x"}
    for _ in range(2):
        await bob.client.answer(posted.token, kind="declined", sealed=sealed)
    version = (await alice.client.invitations()).version
    for kind, box in (("accepted", b"x"), ("declined", b"y")):
        with pytest.raises(Conflict, match="already answered"):
            await bob.client.answer(posted.token, kind=kind, sealed={alice.who.device: box})  # type: ignore[arg-type]
    assert (await alice.client.invitations()).version == version
    # Thirty days later it is still there for the inviter, then it is gone; the same answer stays harmless till then.
    broker.clock.move(days=29)
    await bob.client.answer(posted.token, kind="declined", sealed=sealed)
    assert (await alice.client.get_invitation(posted.token)).sealed == b"x"


async def test_only_the_invited_answer_and_only_to_the_inviters_devices(broker: Running, people: People) -> None:
    alice, bob = await two(people)
    mallory = await people.signed_in("mallory@example.org")
    posted = await alice.client.post_invitation(alice.signed_invitation(BOB))
    for stranger in (mallory, alice):
        with pytest.raises(NotFound):
            await stranger.client.answer(posted.token, kind="accepted", sealed={alice.who.device: b"x"})
    for sealed in ({}, {mallory.who.device: b"x"}, {alice.who.device: b"x", bob.who.device: b"x"}):
        with pytest.raises(Invalid):
            await bob.client.answer(posted.token, kind="accepted", sealed=sealed)
    with pytest.raises(NotFound):
        await mallory.client.get_invitation(posted.token)
    with pytest.raises(NotFound):
        await mallory.client.withdraw(posted.token)
    with pytest.raises(NotFound):
        await bob.client.withdraw(posted.token)
    # Signed for one invitation, sent to the address of another.
    other = await mallory.client.post_invitation(mallory.signed_invitation(BOB))
    body = bob.statement(
        "invitations.answer", {"token": posted.token, "kind": "declined", "sealed": {alice.who.device: b"x"}}
    )
    response = await bob.raw("POST", f"/v1/invitations/{other.token}/answer", body)
    assert response.status_code == 403
    assert {entry.status for entry in await received(bob)} == {"pending"}


async def test_a_page_of_the_largest_answers_can_be_read(broker: Running, people: People) -> None:
    """Otherwise whoever was invited could keep the inviter from ever reading an answer again."""
    alice = await people.signed_in("alice@example.org")
    storage, now, most = broker.broker.storage, broker.clock(), StorageLimits().changes_at_once
    for number in range(most):
        friend = await approved(storage, f"friend{number}@example.org", now=now)
        invitation = alice.invitation(friend.user_id)
        by_alice = Author(alice.who.user_id, alice.who.device, f"nonce {number}", now + DAY_MS)
        posted = NewInvitation(
            token=invitation.id,
            invitee=friend.user_id,
            statement=alice.signed_invitation(friend.user_id, id=invitation.id),
            device_set=alice.who.device_set,
            created=invitation.created,
            expires=invitation.expires,
        )
        await storage.post_invitation(by_alice, posted, now)
        answer = InvitationAnswer(
            token=invitation.id,
            decision=InvitationStatus.ACCEPTED,
            sealed={alice.who.device: bytes(MAX_SEALED)},
            digest=bytes(32),
        )
        await storage.answer_invitation(friend, answer, now)
    page = await alice.client.invitations()
    assert [len(entry.sealed or b"") for entry in page.sent] == [MAX_SEALED] * most and not page.more
    last = await people.signed_in("last@example.org")
    posted_last = await alice.client.post_invitation(alice.signed_invitation(last.who.user_id))
    with pytest.raises(TooLarge, match=str(MAX_SEALED)):
        await last.client.answer(posted_last.token, kind="accepted", sealed={alice.who.device: bytes(MAX_SEALED + 1)})


async def test_expired_after_seven_days(broker: Running, people: People) -> None:
    alice, bob = await two(people)
    posted = await alice.client.post_invitation(alice.signed_invitation(BOB))
    broker.clock.move(days=7)
    with pytest.raises(Gone, match="expired"):
        await bob.client.answer(posted.token, kind="accepted", sealed={alice.who.device: b"x"})
    with pytest.raises(Gone, match="expired"):
        await alice.client.withdraw(posted.token)
    assert [entry.status for entry in await received(bob)] == ["expired"]
    assert not (await alice.client.post_invitation(alice.signed_invitation(BOB))).existing


async def test_withdrawn_is_gone(broker: Running, people: People) -> None:
    alice, bob = await two(people)
    posted = await alice.client.post_invitation(alice.signed_invitation(BOB))
    for _ in range(2):
        await alice.client.withdraw(posted.token)
    with pytest.raises(Gone, match="withdrawn"):
        await bob.client.answer(posted.token, kind="accepted", sealed={alice.who.device: b"x"})
    assert [entry.status for entry in await received(bob)] == ["withdrawn"]
    other = await alice.client.post_invitation(alice.signed_invitation(BOB))
    await bob.client.answer(other.token, kind="declined", sealed={alice.who.device: b"x"})
    with pytest.raises(Conflict, match="already answered"):
        await alice.client.withdraw(other.token)


@pytest.mark.parametrize("token", ["x", "0198c0de-1111-7222-8333-44445555666", "0198C0DE-1111-7222-8333-444455556666"])
async def test_what_is_no_token_is_not_found(broker: Running, people: People, token: str) -> None:
    alice = await people.signed_in("alice@example.org")
    with pytest.raises(NotFound):
        await alice.client.get_invitation(token)
    with pytest.raises(NotFound):
        await alice.client.get_invitation("0198c0de-1111-7222-8333-444455556666")


async def test_a_waiting_reader_hears_at_once(broker: Running, people: People) -> None:
    alice, bob = await two(people)
    heard: list[tuple[str, str]] = []
    fetched: list[bool] = []

    async def listen(person: Person, started: trio.Event) -> None:
        version = (await person.client.invitations()).version
        started.set()
        while (person.who.user_id, "accepted") not in heard:
            page = await person.client.invitations(version=version, wait=25)
            version = page.version
            heard.extend((person.who.user_id, entry.status) for entry in page.sent + page.received)
            fetched.extend(entry.fetched is not None for entry in page.sent)

    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            started = [trio.Event(), trio.Event()]
            nursery.start_soon(listen, alice, started[0])
            nursery.start_soon(listen, bob, started[1])
            for event in started:
                await event.wait()
            while len(broker.broker.changes) < 2:  # both wait
                await trio.sleep(0.01)
            posted = await alice.client.post_invitation(alice.signed_invitation(BOB))
            while True not in fetched or (BOB, "pending") not in heard or len(broker.broker.changes) < 2:
                await trio.sleep(0.01)
            await bob.client.answer(posted.token, kind="accepted", sealed={alice.who.device: b"x"})
    assert heard.count((BOB, "pending")) == heard.count((BOB, "accepted")) == 1
    assert fetched == sorted(fetched)  # her own reads are no fetching: it is news once, from Bob's device


async def test_who_is_woken_without_a_change_waits_on(broker: Running, people: People) -> None:
    """As where a database tells of what this process has told already: a client would take the early response for a
    broker that is stopping."""
    alice, bob = await two(people)
    seen: list[str] = []

    async def listen() -> None:
        seen.extend(entry.status for entry in (await bob.client.invitations(wait=25)).received)

    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            woken: set[trio.CancelScope] = set()
            for _ in range(3):
                while not (waiting := broker.broker.changes._waiting.get(BOB, set()) - woken):
                    await trio.sleep(0.01)
                woken |= waiting
                broker.broker.changes.notify(BOB)
            await alice.client.post_invitation(alice.signed_invitation(BOB))
    assert seen == ["pending"]


async def test_a_reader_who_is_behind_does_not_wait_and_one_who_waits_in_vain_gets_nothing(
    broker: Running, people: People
) -> None:
    alice, bob = await two(people)
    await alice.client.post_invitation(alice.signed_invitation(BOB))

    async def wait_in_vain() -> None:
        nothing = await bob.client.invitations(version=page.version, wait=1)
        assert nothing.received == [] and nothing.version == page.version

    with trio.fail_after(HANG):
        page = await bob.client.invitations(version=0, wait=25)
        assert len(page.received) == 1
        # A version from before the broker lost its data: everything is told again, at once.
        assert await bob.client.invitations(version=1 << 52, wait=25) == page
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_in_vain)
            while not len(broker.broker.changes):  # it does wait, and ends by itself
                await trio.sleep(0.01)


@pytest.mark.parametrize("limit", ["waiting_requests_per_user", "waiting_requests"])
async def test_waiting_is_bounded(tmp_path: Path, limit: str) -> None:
    async with (
        running_broker(tmp_path / "b", requests=replace(Limits(), **{limit: 2})) as broker,
        people_at(broker, tmp_path / "p") as people,
    ):
        alice = await people.signed_in("alice@example.org")
        await _waiting_is_bounded(broker, alice, limit)


async def _waiting_is_bounded(broker: Running, alice: Person, limit: str) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(lambda: alice.client.invitations(wait=25))
        with trio.fail_after(HANG):
            while len(broker.broker.changes) < 2:
                await trio.sleep(0.01)
        with pytest.raises(RateLimited):
            await alice.client.invitations(wait=25)
        assert broker.broker.metrics.value("dispatch_refused_total", reason=limit) == 1
        assert (await alice.client.invitations()).sent == []
        nursery.cancel_scope.cancel()
    for query in ("wait=26", "wait=-1", "wait=x", "version=1e9", "version=" + "9" * 30, "wait=%D9%A3"):
        response = await alice.raw("GET", f"/v1/invitations?{query}", token=alice.client.token)
        assert response.status_code == 422, query


async def test_a_long_list_comes_in_pages(tmp_path: Path) -> None:
    kept = StorageLimits(changes_at_once=3)
    async with (
        running_broker(tmp_path / "broker", kept=kept) as broker,
        people_at(broker, tmp_path / "people") as people,
    ):
        alice, bob = await two(people)
        tokens = []
        for number in range(7):
            posted = await alice.client.post_invitation(alice.signed_invitation(f"friend{number}@example.org"))
            tokens.append(posted.token)
        to_alice = await bob.client.post_invitation(bob.signed_invitation("alice@example.org"))
        await alice.client.answer(to_alice.token, kind="declined", sealed={bob.who.device: b"no"})
        version, seen, pages = 0, [], 0
        while True:
            page = await alice.client.invitations(version=version)
            version, pages = page.version, pages + 1
            assert len(page.sent) + len(page.received) <= 3
            seen += [entry.token for entry in page.sent + page.received]
            if not page.more:
                break
        assert seen == [*tokens, to_alice.token] and pages == 3


async def test_open_invitations_are_bounded(tmp_path: Path) -> None:
    kept = StorageLimits(open_invitations_sent=3, open_invitations_received=1)
    async with (
        running_broker(tmp_path / "broker", kept=kept) as broker,
        people_at(broker, tmp_path / "people") as people,
    ):
        alice, bob = await two(people)
        for number in range(3):
            await alice.client.post_invitation(alice.signed_invitation(f"friend{number}@example.org"))
        with pytest.raises(RateLimited, match=r"already have .* open"):
            await alice.client.post_invitation(alice.signed_invitation(BOB))
        with pytest.raises(RateLimited, match="too many open"):
            await bob.client.post_invitation(bob.signed_invitation("friend0@example.org"))


async def test_no_page_of_the_broker_is_about_an_invitation(broker: Running, people: People) -> None:
    """A page that people open from an address with a secret in it could read the secret: there is none."""
    alice, _ = await two(people)
    posted = await alice.client.post_invitation(alice.signed_invitation(BOB))
    for path in ("/i", f"/i/{posted.token}", f"/i?token={posted.token}", f"/invitations/{posted.token}"):
        assert (await alice.raw("GET", path)).status_code == 404


async def test_the_broker_stores_the_answer_it_was_given_and_no_more(broker: Running, people: People) -> None:
    alice, bob = await two(people)
    posted = await alice.client.post_invitation(alice.signed_invitation(BOB))
    await bob.client.answer(posted.token, kind="accepted", sealed={alice.who.device: b"sealed answer"})
    tables = broker.tables()
    assert set(tables) == {
        "users",
        "devices",
        "memberships",
        "logins",
        "nonces",
        "presence",
        "versions",
        "invitations",
        "answers",
        "mails",
    }
    assert tables["answers"] == [(posted.token, alice.who.device, b"sealed answer")]
    assert hashlib.sha256(b"sealed answer").digest() not in {value for row in tables["invitations"] for value in row}


async def test_where_nothing_has_changed_nothing_is_looked_for(
    broker: Running, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most waits end like this. Seen to fail without the comparison of versions."""
    alice = await people.signed_in("alice@example.org")
    await alice.client.post_invitation(alice.signed_invitation("bob@example.org"))
    changes = await alice.client.invitations()
    assert len(changes.sent) == 1

    async def never(*_given: object) -> None:
        raise AssertionError("it looked for what has changed")

    monkeypatch.setattr(broker.broker.storage, "invitation_changes", never)
    again = await alice.client.invitations(version=changes.version)
    assert (again.version, again.sent, again.received) == (changes.version, [], [])
