"""Whose device is whose: nobody takes another's by listing it, and a device's own newest signature holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from peer.protocol.errors import DispatchError, Forbidden
from peer.protocol.signing import open_as, open_statement, sign_by_device
from peer.protocol.statements import Acceptance, Device, DeviceSet, Invitation, Membership
from peer.steps import granting, invitation_answers, inviting, memberships
from peer.steps.effects import Effects, PeopleChanged
from peer.store import contacts, edges, trust_views
from tests.protocol.examples import listed
from tests.steps.people import READ_ONLY, Clock, Person, accept_invitation, connect, invite, people, send

LATER = 2_000_000_000_000
"""A counter above that of any membership that `people` made."""


@pytest.fixture
def four(tmp_path: Path) -> Iterator[tuple[Clock, Person, Person, Person, Person]]:
    """Alice may send to Bob. Mallory and Carol are strangers to everybody."""
    with people(tmp_path, "alice", "bob", "mallory", "carol") as made:
        clock, alice, bob, mallory, carol = made
        connect(alice, bob)
        yield clock, alice, bob, mallory, carol


def entry_of(person: Person) -> Device:
    """A person's device as their own device-set lists it."""
    return open_as(DeviceSet, person.context.identity.device_set)[0].devices[0]


def pin(person: Person, device_set: bytes, issuer: Person) -> None:
    """Pin a device-set that a device of it brought."""
    statement, signed = open_as(DeviceSet, device_set)
    person.step(lambda tx: memberships.pin(tx, statement, signed, issuer=issuer.device, verified=False))


def owner(person: Person, device: Person) -> str | None:
    found = contacts.device(person.db, device.device)
    return None if found is None else found.user_id


def says(device: Person, **changes: object) -> bytes:
    """A membership of a person's device, signed with any fields."""
    own, _ = open_as(Membership, entry_of(device).membership)
    changes.setdefault("id", device.context.new_id())
    return sign_by_device(dataclasses.replace(own, **changes), device.context.identity.seed).raw  # type: ignore[arg-type]


# -- a contact that lists another person's device -----------------------------------------------------------------


def hostile_sets(mallory: Person, alice: Person) -> list[bytes]:
    """Mallory's device-sets with Alice's device: with what Alice's device signed for Alice, with what Mallory's signed
    for Mallory, and with nothing."""
    own, theirs = listed(mallory.context.identity), entry_of(alice)
    return [
        mallory.device_set(own, theirs),
        mallory.device_set(own, dataclasses.replace(theirs, membership=own.membership)),
        mallory.device_set(own, dataclasses.replace(theirs, membership=b"none")),
    ]


@pytest.mark.parametrize("way", range(3))
def test_a_contact_that_lists_another_persons_device_changes_nothing_for_others(
    four: tuple[Clock, Person, Person, Person, Person], way: int
) -> None:
    """By invitation, acceptance and confirmation. Seen to fail with open_statement not looking at memberships."""
    _, alice, bob, mallory, _ = four
    hostile = hostile_sets(mallory, alice)[way]
    before = bob.dump()

    invitation = mallory.context.sign(
        Invitation,
        audience_user=bob.user,
        expires=mallory.context.clock() + 86_400_000,
        device_set=hostile,
    )
    with pytest.raises(DispatchError, match="lists a device"):
        bob.step(lambda tx: inviting.on_invitation(tx, invitation.raw))
    assert bob.dump() == before

    token = invite(bob, mallory)
    before = bob.dump()
    edge = mallory.step(lambda tx: invitation_answers.accept(tx, token, READ_ONLY))
    genuine, _ = open_as(Acceptance, edge.acceptance)
    letter = sign_by_device(dataclasses.replace(genuine, device_set=hostile), mallory.context.identity.seed)
    with pytest.raises(DispatchError, match="lists a device"):
        bob.step(lambda tx: invitation_answers.on_answer(tx, letter.raw))
    assert bob.dump() == before

    assert owner(bob, alice) == alice.user and owner(alice, bob) == bob.user
    send(alice, bob)
    assert [answer.code for _, answer in alice.deliver(bob)] == [200]


def test_listing_a_device_before_its_owner_is_known_keeps_nobody_out(
    four: tuple[Clock, Person, Person, Person, Person],
) -> None:
    _, _, bob, mallory, carol = four
    for hostile in hostile_sets(mallory, carol):
        with pytest.raises(DispatchError):
            pin(bob, hostile, mallory)
    connect(mallory, bob)
    connect(carol, bob)
    assert (owner(bob, mallory), owner(bob, carol)) == (mallory.user, carol.user)
    send(carol, bob)
    assert [answer.code for _, answer in carol.deliver(bob)] == [200]


def test_pins_of_one_contact_do_not_touch_anothers_whatever_its_set_says(
    four: tuple[Clock, Person, Person, Person, Person],
) -> None:
    """The store by itself: a listed device becomes a contact's only by its membership."""
    clock, alice, bob, mallory, _ = four
    connect(mallory, bob)
    own, theirs = listed(mallory.context.identity), entry_of(alice)
    statement, _ = open_as(DeviceSet, mallory.context.identity.device_set)
    forged = dataclasses.replace(statement, devices=(own, theirs), epoch=2)
    before = contacts.devices(bob.db, alice.user)
    bob.step(lambda tx: contacts.pin(tx.db, forged, b"forged", verified=False, now=clock.now))
    assert contacts.devices(bob.db, alice.user) == before
    assert [row.device for row in contacts.devices(bob.db, mallory.user)] == [mallory.device]


# -- the newest membership ----------------------------------------------------------------------------------------


def test_a_device_that_changed_hands_is_its_new_owners_for_good(
    four: tuple[Clock, Person, Person, Person, Person],
) -> None:
    """Seen to fail without the counter: with the former owner's next device-set the device was theirs again."""
    _, alice, bob, mallory, laptop = four
    hers = listed(laptop.context.identity, user=alice.user, root=alice.context.identity.root, counter=1)
    pin(bob, alice.device_set(entry_of(alice), hers, epoch=2), alice)
    assert owner(bob, laptop) == alice.user
    his = listed(laptop.context.identity, user=mallory.user, root=mallory.context.identity.root, counter=2)
    pin(bob, mallory.device_set(entry_of(mallory), his), mallory)
    assert (owner(bob, laptop), owner(bob, alice)) == (mallory.user, alice.user)
    pin(bob, alice.device_set(entry_of(alice), hers, epoch=3), alice)
    assert (owner(bob, laptop), owner(bob, alice)) == (mallory.user, alice.user)
    pin(bob, mallory.device_set(entry_of(mallory), his, epoch=2), mallory)
    assert owner(bob, laptop) == mallory.user


def test_a_device_that_left_is_nobodys_and_stays_so(four: tuple[Clock, Person, Person, Person, Person]) -> None:
    """Seen to fail without the row that remembers the leave."""
    _, alice, bob, _, _ = four
    connect(bob, alice)
    alice.step(lambda tx: granting.set_paused(tx, bob.user, paused=True))
    sent = send(alice, bob)
    edge_id = edges.current(alice.db, bob.user, "outgoing").edge_id  # type: ignore[union-attr]
    left = says(bob, counter=LATER, standing="left")
    alice.effects = Effects()
    assert alice.receive(bob, left).code == 200
    assert owner(alice, bob) is None and PeopleChanged() in alice.effects
    assert (edges.get(alice.db, edge_id).status, alice.row(sent).state) == ("revoked", "rejected")  # type: ignore[union-attr]
    assert alice.waiting(bob) == []
    with pytest.raises(Forbidden, match="no longer one of"):
        pin(alice, bob.device_set(entry_of(bob), epoch=2), bob)
    assert owner(alice, bob) is None
    assert alice.receive(bob, says(bob, counter=LATER + 1)).code == 403, "a device of nobody's says nothing more"


def test_an_edge_that_had_ended_stays_as_it_ended_when_its_device_leaves(
    four: tuple[Clock, Person, Person, Person, Person],
) -> None:
    _, alice, bob, _, _ = four
    edge_id = edges.current(alice.db, bob.user, "outgoing").edge_id  # type: ignore[union-attr]
    alice.step(lambda tx: edges.set_status(tx.db, edge_id, "expired", tx.now))
    before = edges.get(alice.db, edge_id)
    assert alice.receive(bob, says(bob, counter=LATER, standing="left")).code == 200
    assert edges.get(alice.db, edge_id) == before


def test_of_two_memberships_the_lower_counter_changes_nothing(
    four: tuple[Clock, Person, Person, Person, Person],
) -> None:
    _, alice, bob, _, _ = four
    key = bytes(range(32))
    assert alice.receive(bob, says(bob, counter=LATER, sealing_key=key)).code == 200
    assert contacts.device(alice.db, bob.device).sealing_key == key  # type: ignore[union-attr]
    before = contacts.devices(alice.db)
    assert alice.receive(bob, says(bob, counter=LATER - 1, standing="left")).code == 200
    assert alice.receive(bob, says(bob, counter=LATER, standing="left")).code == 409
    assert alice.receive(bob, says(bob, counter=LATER + 1, standing="left", root=bytes(32))).code == 403
    assert contacts.devices(alice.db) == before
    pin(alice, bob.context.identity.device_set, bob)  # its old membership, once more
    assert contacts.devices(alice.db) == before


def test_a_membership_is_brought_by_its_own_device(four: tuple[Clock, Person, Person, Person, Person]) -> None:
    _, alice, bob, mallory, _ = four
    connect(mallory, alice)
    left = says(bob, counter=LATER, standing="left")
    assert alice.receive(mallory, left).code == 403
    forged = says(mallory, counter=LATER, standing="left", issuer_user=bob.user)
    assert alice.receive(mallory, forged).code == 403
    assert (owner(alice, bob), owner(alice, mallory)) == (bob.user, mallory.user)


def test_the_trustor_of_a_person_without_a_device_can_still_change_the_edge(
    four: tuple[Clock, Person, Person, Person, Person],
) -> None:
    """Seen to fail with the first of no devices asked for."""
    _, alice, bob, _, _ = four
    assert bob.receive(alice, says(alice, counter=LATER, standing="left")).code == 200
    bob.step(lambda tx: granting.set_paused(tx, alice.user, paused=True))
    edge = bob.step(lambda tx: granting.revoke(tx, alice.user))
    assert edge.status == "revoked" and bob.waiting(alice) == []


def test_a_device_revoked_in_a_later_set_accepts_nothing_with_an_earlier_one(
    four: tuple[Clock, Person, Person, Person, Person],
) -> None:
    """Seen to fail with the signer looked for in the set that it brings alone, not in what is pinned after it."""
    _, _, bob, carol, phone = four
    identity = carol.context.identity
    new = listed(phone.context.identity, user=carol.user, root=identity.root)
    pin(bob, carol.device_set(new, epoch=2), phone)
    token = invite(bob, carol)
    edge = carol.step(lambda tx: invitation_answers.accept(tx, token, READ_ONLY))
    before = bob.dump()
    with pytest.raises(Forbidden, match="no longer one of"):
        bob.step(lambda tx: invitation_answers.on_answer(tx, edge.acceptance))
    assert bob.dump() == before
    assert open_statement(edge.acceptance).statement.device_set == identity.device_set


def test_a_membership_of_nobody_known_is_refused(four: tuple[Clock, Person, Person, Person, Person]) -> None:
    """Whatever looks at who may send before: a step asks by itself."""
    _, _, bob, mallory, _ = four
    signed = open_statement(entry_of(mallory).membership)
    with pytest.raises(Forbidden, match="a different root key"):
        bob.step(lambda tx: memberships.on_membership(tx, signed))


def test_an_invitation_by_a_device_that_left_is_refused_before_anybody_is_asked(
    four: tuple[Clock, Person, Person, Person, Person],
) -> None:
    """And never shown as verified, as that of a contact's other devices is. Seen to fail without the look at it."""
    _, alice, bob, *_ = four
    token = invite(bob, alice, by_address=False)
    row = inviting.get_known(alice.db, token, "received")
    invitation_answers.check_inviter(alice.db, row)
    assert trust_views.inviter_key(alice.db, row).verified
    assert alice.receive(bob, says(bob, standing="left", counter=LATER)).code == 200
    assert not trust_views.inviter_key(alice.db, row).verified
    with pytest.raises(Forbidden, match="no longer one of"):
        invitation_answers.check_inviter(alice.db, row)
    with pytest.raises(Forbidden, match="no longer one of"):
        accept_invitation(alice, token)
