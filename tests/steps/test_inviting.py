"""Two strangers become contacts, by link and by mail, and everybody who would come between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from peer.protocol.errors import Conflict, DispatchError, Forbidden, Gone, Invalid, NotFound
from peer.protocol.statements import (
    Acceptance,
    Confirmation,
    Invitation,
    open_as,
    sign_by_device,
)
from peer.steps import granting, inviting
from peer.steps.effects import Effects, PeopleChanged
from peer.store import contacts, edges, invitations
from tests.protocol.examples import listed
from tests.steps.people import READ_ONLY, Clock, Person, connect, invite, people, send


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Clock, Person, Person]]:
    with people(tmp_path, "alice", "bob") as made:
        yield made  # type: ignore[misc]


def accept(person: Person, token: str) -> bytes:
    """Accept an invitation; return the signed acceptance."""
    edge = person.step(lambda tx: inviting.accept(tx, token, READ_ONLY))
    return edge.acceptance


def answer(person: Person, raw: bytes) -> int:
    return person.step(lambda tx: inviting.on_answer(tx, raw)).code


def resigned(person: Person, raw: bytes, **changes: Any) -> bytes:
    """The acceptance with other fields, signed by this person's device."""
    acceptance, _ = open_as(Acceptance, raw)
    changes.setdefault("issuer_device", person.device)
    return sign_by_device(dataclasses.replace(acceptance, **changes), person.context.identity.seed).raw


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
    raw = accept(bob, invite(alice, bob))
    answer(alice, raw)
    send(alice, bob)
    confirmation, dispatch = alice.waiting(bob)
    assert bob.receive(alice, dispatch.raw).code == 425
    assert bob.receive(alice, confirmation.raw).code == 200
    assert bob.receive(alice, dispatch.raw).code == 200


def test_an_invitation_is_answered_once(pair: tuple[Clock, Person, Person]) -> None:
    _, alice, bob = pair
    token = invite(alice, bob)
    raw = accept(bob, token)
    with pytest.raises(Conflict):
        accept(bob, token)
    with pytest.raises(Conflict):
        bob.step(lambda tx: inviting.decline(tx, token))
    assert answer(alice, raw) == answer(alice, raw) == 200
    assert len(edges.every(alice.db)) == 1
    with pytest.raises(Conflict):
        answer(alice, resigned(bob, raw, edge_id=bob.context.new_id()))


def test_an_acceptance_made_without_the_links_secret_is_refused(pair: tuple[Clock, Person, Person]) -> None:
    _, alice, bob = pair
    raw = accept(bob, invite(alice, bob, by_address=False))
    with pytest.raises(Forbidden, match="address"):
        answer(alice, resigned(bob, raw, proof=bytes(32)))
    assert edges.every(alice.db) == []
    assert answer(alice, raw) == 200  # without any proof it counts, as unverified
    assert contacts.get(alice.db, bob.user).verified == 0  # type: ignore[union-attr]


def test_a_lying_broker_cannot_slip_in_another_device(tmp_path: Path) -> None:
    with people(tmp_path, "alice", "bob", "mallory") as (_, alice, bob, mallory):
        raw = accept(bob, invite(alice, bob))
        genuine, _ = open_as(Acceptance, raw)
        forged_set = _device_set_of(mallory, bob.user)
        forged = resigned(mallory, raw, device_set=forged_set)
        with pytest.raises(Forbidden):
            answer(alice, forged)  # the proof covers Bob's own device-set
        with pytest.raises(Forbidden, match="went to"):
            answer(alice, resigned(mallory, raw, issuer_user=mallory.user))
        with pytest.raises(DispatchError):
            answer(alice, resigned(mallory, raw))  # Mallory's device is not in Bob's set
        assert contacts.every(alice.db) == []
        assert genuine.proof
        assert answer(alice, raw) == 200


def test_an_address_for_another_invitation_is_refused(tmp_path: Path) -> None:
    from peer.trust.invitation_address import Address

    with people(tmp_path, "alice", "bob") as (_, alice, bob):
        token = invite(alice, bob, by_address=False)
        row = invitations.get(bob.db, token)
        assert row is not None
        wrong = Address("http://127.0.0.1", token, bytes(32), bytes(32))
        with pytest.raises(Invalid, match="not the one"):
            bob.step(lambda tx: inviting.open_address(tx.db, wrong))
        assert not invitations.get(bob.db, token).verified  # type: ignore[union-attr]


def test_another_root_key_for_a_known_contact_is_refused(tmp_path: Path) -> None:
    with people(tmp_path, "alice", "bob") as (_, alice, bob):
        connect(alice, bob)
        (tmp_path / "elsewhere").mkdir()
        with people(tmp_path / "elsewhere", "alice") as (_, impostor):
            made = impostor.step(lambda tx: inviting.invite(tx, bob.user))
            bob.step(lambda tx: granting.revoke(tx, alice.user))
            bob.step(lambda tx: inviting.take_in(tx, made.row.raw))
            with pytest.raises(Forbidden, match="another root key"):
                accept(bob, made.row.token)
        assert contacts.get(bob.db, alice.user).root == alice.context.identity.root  # type: ignore[union-attr]


def test_invitations_for_somebody_else_or_from_somebody_blocked_are_ignored(tmp_path: Path) -> None:
    with people(tmp_path, "alice", "bob", "carol") as (_, alice, bob, carol):
        made = alice.step(lambda tx: inviting.invite(tx, bob.user))
        assert carol.step(lambda tx: inviting.take_in(tx, made.row.raw)) is None
        bob.step(lambda tx: granting.block(tx, alice.user))
        assert bob.step(lambda tx: inviting.take_in(tx, made.row.raw)) is None


def test_two_contacts_have_two_aliases(tmp_path: Path) -> None:
    """Seen to fail with aliases compared as they are written."""
    with people(tmp_path, "alice", "bob", "carol") as (_, alice, bob, carol):
        connect(alice, bob)
        connect(alice, carol)

        def call(person: Person, alias: str) -> None:
            alice.step(lambda tx: granting.set_alias(tx, person.user, alias))

        call(bob, "Bo")
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
    assert contacts.blocked_with_outbox(bob.db) == [alice.device]
    assert contacts.devices(bob.db) == []
    bob.effects = Effects()
    assert [(kind, answer.code) for kind, answer in bob.deliver(alice)] == [("revocation", 200)]
    assert edges.get(alice.db, change.edge_id).status == "revoked"  # type: ignore[union-attr]
    assert contacts.blocked_with_outbox(bob.db) == [] and PeopleChanged() in bob.effects
    # What she still says is not taken in.
    with pytest.raises(Forbidden):
        send(alice, bob, "Hello?", expires=60)


def test_the_broker_decides_whether_a_withdrawal_was_in_time(pair: tuple[Clock, Person, Person]) -> None:
    """Nothing is noted before the broker's word; what it did while this device was down is learned from its list."""
    _, alice, bob = pair
    token = invite(alice, bob)
    alice.step(lambda tx: inviting.check_withdrawable(tx.db, token))
    raw = accept(bob, token)
    assert alice.receive(bob, raw).code == 403  # not a contact yet: it comes by the broker
    alice.step(lambda tx: inviting.on_answer(tx, raw))
    for late in (inviting.check_withdrawable, inviting.withdraw):
        with pytest.raises(Conflict):
            alice.step(lambda tx, late=late: late(tx.db, token))
    alice.step(lambda tx: inviting.reconcile_withdrawn(tx.db, token))  # the broker lies
    assert invitations.get(alice.db, token).status == "accepted"  # type: ignore[union-attr]
    bob.step(lambda tx: granting.revoke(tx, alice.user))
    alice.receive(bob, bob.waiting(alice)[0].raw)
    later = alice.step(lambda tx: inviting.invite(tx, bob.user)).row.token
    assert later != token
    alice.step(lambda tx: inviting.reconcile_withdrawn(tx.db, later))
    assert invitations.get(alice.db, later).status == "withdrawn"  # type: ignore[union-attr]
    # The list was quicker than the answer to the withdrawal itself: no error. Seen to fail as "withdrawn already".
    alice.step(lambda tx: inviting.withdraw(tx.db, later))
    with pytest.raises(Conflict, match="withdrawn already"):
        alice.step(lambda tx: inviting.check_withdrawable(tx.db, later))


def test_one_open_invitation_a_person_and_none_to_oneself(pair: tuple[Clock, Person, Person]) -> None:
    clock, alice, bob = pair
    first = alice.step(lambda tx: inviting.invite(tx, bob.user))
    again = alice.step(lambda tx: inviting.invite(tx, bob.user))
    assert (first.fresh, again.fresh) == (True, False)
    assert first.row.token == again.row.token
    with pytest.raises(Invalid, match="yourself"):
        alice.step(lambda tx: inviting.invite(tx, alice.user))
    clock.pass_seconds(7 * 86_400)
    bob.step(lambda tx: inviting.take_in(tx, first.row.raw))
    with pytest.raises(Gone):
        accept(bob, first.row.token)
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
        bob.step(lambda tx: inviting.take_in(tx, signed.raw))


def test_a_confirmation_must_be_of_this_very_acceptance(pair: tuple[Clock, Person, Person]) -> None:
    _, alice, bob = pair
    raw = accept(bob, invite(alice, bob))
    acceptance, _ = open_as(Acceptance, raw)
    letter = alice.context.sign_for(
        Confirmation,
        bob.user,
        bob.device,
        edge_id=acceptance.edge_id,
        acceptance_digest=bytes(32),
        device_set=alice.context.identity.device_set,
    )
    assert bob.receive(alice, letter.raw).code == 409
    assert edges.get(bob.db, acceptance.edge_id).status == "offered"  # type: ignore[union-attr]


def test_a_decline_reaches_the_inviter(pair: tuple[Clock, Person, Person]) -> None:
    from nacl.public import PrivateKey, SealedBox

    from peer.protocol import codec

    _, alice, bob = pair
    token = invite(alice, bob)
    bob.step(lambda tx: inviting.decline(tx, token))
    (write,) = invitations.broker_writes(bob.db)
    sealed = codec.decode(write.body)
    raw = SealedBox(PrivateKey(alice.context.identity.sealing_key)).decrypt(sealed[alice.device])  # type: ignore[index, call-overload]
    assert answer(alice, raw) == 200
    assert invitations.get(alice.db, token).status == "declined"  # type: ignore[union-attr]


def test_a_scope_edited_before_the_confirmation_is_told_after_it(pair: tuple[Clock, Person, Person]) -> None:
    from peer.trust import scopes

    _, alice, bob = pair
    raw = accept(bob, invite(alice, bob))
    wider = scopes.Scope(tools=("Read", "Glob", "Grep", "Write"))
    bob.step(lambda tx: granting.edit(tx, alice.user, wider))
    answer(alice, raw)
    alice.deliver(bob)
    bob.deliver(alice)
    edge = edges.current(alice.db, bob.user, "outgoing")
    assert edge is not None
    assert "Write" in scopes.decode_summary(edge.scope).tools


def _device_set_of(person: Person, claimed: str) -> bytes:
    """A device-set with this person's device under somebody else's name, signed by this person's own root."""
    return person.device_set(listed(person.context.identity, user=claimed), issuer_user=claimed)
