"""Two strangers become contacts, by link and by mail, and everybody who would come between them."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from peer.protocol.errors import Conflict, DispatchError, Forbidden, Gone, Invalid, NotFound, RateLimited
from peer.protocol.signing import open_as
from peer.protocol.statements import Acceptance, Invitation
from peer.steps import granting, invitation_answers, inviting
from peer.steps.effects import BrokerWriteQueued, Effects, InvitationsChanged, PeopleChanged
from peer.steps.transaction import Transaction
from peer.store import contacts, edges, invitations, rows
from peer.trust import invitation_lifecycle
from tests.protocol.examples import listed
from tests.steps.people import (
    READ_ONLY,
    Clock,
    Person,
    accept_invitation,
    connect,
    invite,
    people,
    resigned,
    send,
    take_answer,
)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Clock, Person, Person]]:
    with people(tmp_path, "alice", "bob") as made:
        yield made


@pytest.mark.parametrize("by_address", [True, False])
def test_an_edge_comes_into_force_on_both_sides(pair: tuple[Clock, Person, Person], by_address: bool) -> None:
    _, alice, bob = pair
    edge_id = connect(alice, bob, by_address=by_address)
    for person, other, direction in ((alice, bob, "outgoing"), (bob, alice, "incoming")):
        edge = edges.get(person.db, edge_id)
        assert edge is not None
        assert (edge.status, edge.direction, edge.user_id) == ("active", direction, other.user)
        contact = contacts.get(person.db, other.user)
        assert contact is not None
        assert bool(contact.verified) is by_address
        assert contact.root == other.context.identity.root
    assert edges.get(alice.db, edge_id).scope != edges.get(bob.db, edge_id).scope  # type: ignore[union-attr]
    send(alice, bob)
    assert [reply.code for _, reply in alice.deliver(bob)] == [200]
    with pytest.raises(Forbidden, match="invitation"):
        send(bob, alice)  # an edge has one direction


def test_a_dispatch_before_the_confirmation_is_tried_again(pair: tuple[Clock, Person, Person]) -> None:
    _, alice, bob = pair
    raw = accept_invitation(bob, invite(alice, bob))
    take_answer(alice, raw)
    send(alice, bob)
    confirmation, dispatch = alice.waiting(bob)
    assert bob.receive(alice, dispatch.raw).code == 425
    assert bob.receive(alice, confirmation.raw).code == 200
    assert bob.receive(alice, dispatch.raw).code == 200


def test_an_acceptance_made_without_the_links_secret_is_refused(pair: tuple[Clock, Person, Person]) -> None:
    _, alice, bob = pair
    raw = accept_invitation(bob, invite(alice, bob, by_address=False))
    with pytest.raises(Forbidden, match="address"):
        take_answer(alice, resigned(bob, raw, proof=bytes(32)))
    assert edges.every(alice.db) == []
    assert take_answer(alice, raw) == 200  # without any proof it counts, as unverified
    assert contacts.get(alice.db, bob.user).verified == 0  # type: ignore[union-attr]


def test_a_lying_broker_cannot_slip_in_another_device(tmp_path: Path) -> None:
    with people(tmp_path, "alice", "bob", "mallory") as (_, alice, bob, mallory):
        raw = accept_invitation(bob, invite(alice, bob))
        genuine, _ = open_as(Acceptance, raw)
        forged_set = _device_set_of(mallory, bob.user)
        forged = resigned(mallory, raw, device_set=forged_set)
        with pytest.raises(Forbidden):
            take_answer(alice, forged)  # the proof covers Bob's own device-set
        with pytest.raises(Forbidden, match="sent to"):
            take_answer(alice, resigned(mallory, raw, issuer_user=mallory.user))
        with pytest.raises(DispatchError):
            take_answer(alice, resigned(mallory, raw))  # Mallory's device is not in Bob's set
        assert contacts.every(alice.db) == []
        assert genuine.proof
        assert take_answer(alice, raw) == 200


def test_an_address_for_another_invitation_is_refused(tmp_path: Path) -> None:
    from peer.trust.invitation_address import Address

    with people(tmp_path, "alice", "bob") as (_, alice, bob):
        token = invite(alice, bob, by_address=False)
        row = invitations.get(bob.db, token)
        assert row is not None
        wrong = Address("http://127.0.0.1", token, bytes(32), bytes(32))
        with pytest.raises(Invalid, match="not the one"):
            bob.step(lambda tx: invitation_answers.open_address(tx.db, wrong))
        assert not invitations.get(bob.db, token).verified  # type: ignore[union-attr]


def test_another_root_key_for_a_known_contact_is_refused(tmp_path: Path) -> None:
    with people(tmp_path, "alice", "bob") as (_, alice, bob):
        connect(alice, bob)
        (tmp_path / "elsewhere").mkdir()
        with people(tmp_path / "elsewhere", "alice") as (_, impostor):
            made = impostor.step(lambda tx: inviting.invite(tx, bob.user))
            bob.step(lambda tx: granting.revoke(tx, alice.user))
            bob.step(lambda tx: inviting.on_invitation(tx, made.row.raw))
            with pytest.raises(Forbidden, match="a different root key"):
                accept_invitation(bob, made.row.token)
        assert contacts.get(bob.db, alice.user).root == alice.context.identity.root  # type: ignore[union-attr]


def test_invitations_for_somebody_else_or_from_somebody_blocked_are_ignored(tmp_path: Path) -> None:
    with people(tmp_path, "alice", "bob", "carol") as (_, alice, bob, carol):
        made = alice.step(lambda tx: inviting.invite(tx, bob.user))
        assert carol.step(lambda tx: inviting.on_invitation(tx, made.row.raw)) is None
        bob.step(lambda tx: granting.block(tx, alice.user))
        assert bob.step(lambda tx: inviting.on_invitation(tx, made.row.raw)) is None


def test_two_contacts_have_two_aliases(tmp_path: Path) -> None:
    """Seen to fail with aliases compared as they are written."""
    with people(tmp_path, "alice", "bob", "carol") as (_, alice, bob, carol):
        connect(alice, bob)
        connect(alice, carol)

        def call(person: Person, alias: str) -> None:
            alice.step(lambda tx: granting.set_alias(tx, person.user, alias))

        alice.effects = Effects()
        call(bob, "Bo")
        assert PeopleChanged() in alice.effects
        with pytest.raises(Conflict, match=bob.user):
            call(carol, "bO")
        call(bob, "Bo")
        call(bob, "")
        call(carol, "bO")
        with pytest.raises(NotFound):
            call(alice, "Me")


def test_blocking_says_goodbye_and_then_nothing(pair: tuple[Clock, Person, Person]) -> None:
    """Seen to fail with the revocation purged, and with blocked devices never connected to again, or for ever."""
    _, alice, bob = pair
    connect(alice, bob)
    change = bob.step(lambda tx: granting.set_paused(tx, alice.user, paused=True))
    bob.step(lambda tx: granting.block(tx, alice.user))
    assert [item.kind for item in bob.waiting(alice)] == ["revocation"]
    assert [each.device for each in contacts.blocked_with_outbox(bob.db)] == [alice.device]
    assert contacts.devices(bob.db) == []
    bob.effects = Effects()
    assert [(kind, answer.code) for kind, answer in bob.deliver(alice)] == [("revocation", 200)]
    assert edges.get(alice.db, change.edge_id).status == "revoked"  # type: ignore[union-attr]
    assert contacts.blocked_with_outbox(bob.db) == [] and PeopleChanged() in bob.effects
    # What she still says is not taken in.
    with pytest.raises(Forbidden):
        send(alice, bob, "Hello?", expires=60)


def _in_the_store(act: Callable[[sqlite3.Connection, str], object], token: str, tx: Transaction) -> None:
    act(tx.db, token)


def test_the_broker_decides_whether_a_withdrawal_was_in_time(pair: tuple[Clock, Person, Person]) -> None:
    """Nothing is noted before the broker's word; what it did while this device was down is learned from its list."""
    _, alice, bob = pair
    token = invite(alice, bob)
    alice.step(lambda tx: inviting.get_withdrawable(tx.db, token))
    raw = accept_invitation(bob, token)
    assert alice.receive(bob, raw).code == 403  # not a contact yet: it comes by the broker
    alice.step(lambda tx: invitation_answers.on_answer(tx, raw))
    for late in (inviting.get_withdrawable, inviting.withdraw):
        with pytest.raises(Conflict):
            alice.step(partial(_in_the_store, late, token))
    alice.step(lambda tx: inviting.on_sent_withdrawn(tx.db, token))  # the broker lies
    assert invitations.get(alice.db, token).status == "accepted"  # type: ignore[union-attr]
    bob.step(lambda tx: granting.revoke(tx, alice.user))
    alice.receive(bob, bob.waiting(alice)[0].raw)
    later = alice.step(lambda tx: inviting.invite(tx, bob.user)).row.token
    assert later != token
    alice.step(lambda tx: inviting.on_sent_withdrawn(tx.db, later))
    assert invitations.get(alice.db, later).status == "withdrawn"  # type: ignore[union-attr]
    # The list was quicker than the answer to the withdrawal itself: no error. Seen to fail as "withdrawn already".
    alice.step(lambda tx: inviting.withdraw(tx.db, later))
    with pytest.raises(Conflict, match="already withdrawn"):
        alice.step(lambda tx: inviting.get_withdrawable(tx.db, later))


def test_one_open_invitation_a_person_and_none_to_oneself(pair: tuple[Clock, Person, Person]) -> None:
    clock, alice, bob = pair
    first = alice.step(lambda tx: inviting.invite(tx, bob.user))
    again = alice.step(lambda tx: inviting.invite(tx, bob.user))
    assert (first.fresh, again.fresh) == (True, False)
    assert first.row.token == again.row.token
    with pytest.raises(Invalid, match="yourself"):
        alice.step(lambda tx: inviting.invite(tx, alice.user))
    clock.pass_seconds(7 * 86_400)
    bob.step(lambda tx: inviting.on_invitation(tx, first.row.raw))
    with pytest.raises(Gone):
        accept_invitation(bob, first.row.token)
    later = alice.step(lambda tx: inviting.invite(tx, bob.user))
    assert later.fresh


def test_the_invitation_keeps_its_promise_about_time(pair: tuple[Clock, Person, Person]) -> None:
    clock, alice, bob = pair
    signed = alice.context.sign(
        Invitation,
        audience_user=bob.user,
        expires=clock.now + 8 * 86_400_000,
        device_set=alice.context.identity.device_set,
    )
    with pytest.raises(Invalid, match="7 days"):
        bob.step(lambda tx: inviting.on_invitation(tx, signed.raw))


def status(person: Person, token: str) -> str | None:
    row = invitations.get(person.db, token)
    return row.status if row else None


def test_a_withdrawn_invitation_is_no_longer_open_and_its_offer_is_dropped(tmp_path: Path) -> None:
    with people(tmp_path, "alice", "bob", "carol") as (_, alice, bob, carol):
        waiting, offered = invite(alice, bob), invite(carol, bob)
        edge_id = bob.step(lambda tx: invitation_answers.accept(tx, offered, READ_ONLY)).edge_id
        assert [item.kind for item in bob.waiting(carol)] == ["acceptance"]
        bob.effects = Effects()
        bob.step(lambda tx: inviting.on_withdrawn(tx, waiting))
        assert status(bob, waiting) == "withdrawn" and list(bob.effects) == [InvitationsChanged()]
        bob.effects = Effects()
        bob.step(lambda tx: inviting.on_withdrawn(tx, offered))
        assert status(bob, offered) == "accepted" and list(bob.effects) == [PeopleChanged()]
        assert edges.get(bob.db, edge_id).status == "declined"  # type: ignore[union-attr]
        assert bob.waiting(carol) == []


def test_a_withdrawal_touches_nothing_that_is_in_force_or_was_sent(pair: tuple[Clock, Person, Person]) -> None:
    _, alice, bob = pair
    edge_id = connect(alice, bob)
    edge = edges.get(bob.db, edge_id)
    assert edge is not None
    mine = bob.step(lambda tx: inviting.invite(tx, "dave@example.org")).row.token
    for person in (alice, bob):
        person.effects = Effects()
        before = person.dump()
        for token in (edge.invitation_id, mine, alice.context.new_id()):
            person.step(lambda tx: inviting.on_withdrawn(tx, token))  # noqa: B023
        assert person.dump() == before and not person.effects


def test_an_invitation_that_never_left_is_withdrawn_at_the_broker_too(pair: tuple[Clock, Person, Person]) -> None:
    _, alice, bob = pair
    token = alice.step(lambda tx: inviting.invite(tx, bob.user)).row.token
    alice.effects = Effects()
    alice.step(lambda tx: inviting.discard(tx, token))
    assert status(alice, token) == "withdrawn" and BrokerWriteQueued() in alice.effects
    assert [(write.action, write.token) for write in invitations.broker_writes(alice.db, "")] == [("withdraw", token)]
    alice.step(lambda tx: inviting.on_sent_withdrawn(tx.db, alice.context.new_id()))


def test_how_far_it_is_comes_from_its_own_broker_and_is_never_ahead_of_this_clock(
    pair: tuple[Clock, Person, Person],
) -> None:
    _, alice, bob = pair
    token = alice.step(lambda tx: inviting.invite(tx, bob.user, broker="https://a.example")).row.token
    far = 1 << 52

    def told(broker: str, *, mailed: bool | None, fetched: int | None) -> tuple[int, int]:
        alice.step(lambda tx: inviting.on_progress(tx, token, broker=broker, mailed=mailed, fetched=fetched))
        row = invitations.get(alice.db, token)
        assert row is not None
        return row.emailed, row.fetched

    alice.effects = Effects()
    assert told("https://b.example", mailed=True, fetched=far) == (0, 0) and not alice.effects
    assert told("https://a.example", mailed=False, fetched=None) == (0, 0) and not alice.effects
    assert told("https://a.example", mailed=True, fetched=None) == (1, 0)
    assert InvitationsChanged() in alice.effects
    mailed, fetched = told("https://a.example", mailed=None, fetched=far)
    assert mailed == 1 and 0 < fetched < far
    assert told("https://a.example", mailed=False, fetched=5) == (1, fetched)  # what is known stays


def test_open_invitations_run_out_at_their_time_and_no_other_does(tmp_path: Path) -> None:
    with people(tmp_path, "alice", "bob", "carol") as (_, alice, bob, carol):
        sent = invite(alice, bob)
        accepted = invite(carol, bob)
        accept_invitation(bob, accepted)
        ends = invitations.get(bob.db, sent).expires  # type: ignore[union-attr]
        for person in (alice, bob):
            person.step(lambda tx: inviting.expire(tx.db, ends - 1))
            assert status(person, sent) == "open"
            person.step(lambda tx: inviting.expire(tx.db, ends))
            assert status(person, sent) == "expired"
        assert status(bob, accepted) == "accepted"
        # What came to nothing is forgotten a month later, at the invited alone.
        for person in (alice, bob):
            person.step(lambda tx: inviting.expire(tx.db, ends + inviting.KEPT_MS))
            assert status(person, sent) == "expired"
            person.step(lambda tx: inviting.expire(tx.db, ends + inviting.KEPT_MS + 1))
        assert (status(alice, sent), status(bob, sent), status(bob, accepted)) == ("expired", None, "accepted")


def test_an_edge_that_is_in_force_is_not_offered_again(pair: tuple[Clock, Person, Person]) -> None:
    """Neither asked for by the inviter, nor granted a second time by the invited."""
    _, alice, bob = pair
    first = invite(alice, bob)
    row = invitations.get(alice.db, first)
    edge_id = bob.step(lambda tx: invitation_answers.accept(tx, first, READ_ONLY)).edge_id
    assert row is not None
    again = alice.context.sign(
        Invitation, audience_user=bob.user, expires=row.expires, device_set=alice.context.identity.device_set
    )
    bob.step(lambda tx: inviting.on_invitation(tx, again.raw))
    before = bob.dump()
    with pytest.raises(Conflict, match="already"):
        accept_invitation(bob, again.statement.id)
    assert bob.dump() == before
    take_answer(alice, edges.get(bob.db, edge_id).acceptance)  # type: ignore[union-attr]
    for state in ("active", "paused"):
        alice.step(lambda tx: edges.set_status(tx.db, edge_id, state, tx.now))  # noqa: B023
        with pytest.raises(Conflict, match="already"):
            alice.step(lambda tx: inviting.invite(tx, bob.user))
    alice.step(lambda tx: edges.set_status(tx.db, edge_id, "revoked", tx.now))
    assert alice.step(lambda tx: inviting.invite(tx, bob.user)).fresh


def test_nobody_is_invited_whom_one_blocked(pair: tuple[Clock, Person, Person]) -> None:
    _, alice, bob = pair
    connect(alice, bob)
    bob.step(lambda tx: granting.block(tx, alice.user))
    with pytest.raises(Forbidden, match="blocked"):
        bob.step(lambda tx: inviting.invite(tx, alice.user))


def test_what_is_taken_in_of_the_brokers_invitations(
    pair: tuple[Clock, Person, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven days to the millisecond, no clock further ahead than allowed, one invitation a token, and not too many."""
    clock, alice, bob = pair

    def made(*, ahead: int = 0, life: int = invitation_lifecycle.LIFETIME_MS, **changes: Any) -> bytes:
        created = clock.now + ahead
        return alice.context.sign(
            Invitation,
            created=created,
            audience_user=bob.user,
            expires=created + life,
            device_set=alice.context.identity.device_set,
            **changes,
        ).raw

    def take(raw: bytes) -> rows.Invitation | None:
        return bob.step(lambda tx: inviting.on_invitation(tx, raw))

    first = made()
    known = take(first)
    assert known is not None and (known.status, known.verified, known.emailed) == ("open", 0, 0)
    assert take(first) == known
    take(made(ahead=inviting.MAX_AHEAD_MS))
    for bad in (made(life=invitation_lifecycle.LIFETIME_MS + 1), made(ahead=inviting.MAX_AHEAD_MS + 1)):
        with pytest.raises(Invalid):
            take(bad)
    with pytest.raises(Conflict, match="token"):
        take(made(id=known.token, life=1_000))
    monkeypatch.setattr(inviting, "MAX_OPEN", 3)
    take(made())
    with pytest.raises(RateLimited):
        take(made())
    assert take(first) == known


def _device_set_of(person: Person, claimed: str) -> bytes:
    """A device-set with this person's device under somebody else's name, signed by this person's own root."""
    return person.device_set(listed(person.context.identity, user=claimed), issuer_user=claimed)


def test_a_device_set_is_the_issuers_and_lists_the_device_that_signed(pair: tuple[Clock, Person, Person]) -> None:
    _, alice, bob = pair
    token = invite(alice, bob)
    row = invitations.get(bob.db, token)
    assert row is not None
    invitation, _ = open_as(Invitation, row.raw)
    inviting.open_device_set(invitation.device_set, invitation)
    with pytest.raises(Invalid, match="another user's"):
        inviting.open_device_set(bob.context.identity.device_set, invitation)
    other = dataclasses.replace(invitation, issuer_device=bob.device)
    with pytest.raises(Invalid, match="does not list the device"):
        inviting.open_device_set(invitation.device_set, other)
