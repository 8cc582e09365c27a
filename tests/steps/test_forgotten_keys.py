"""A contact who lost every device: their old root key is forgotten by hand, and only then is a new one taken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from peer.protocol.errors import Conflict, DispatchError, Forbidden, NotFound
from peer.steps import granting, inviting, running
from peer.steps.effects import Effects, InvitationsChanged, PeopleChanged, StopRunsOfEdge
from peer.store import contacts, edges, invitations, outbox
from peer.store.receipts import gather
from peer.store.trust_views import invitation_rows
from peer.trust import receipts
from tests.steps.people import (
    Clock,
    Person,
    accept,
    accept_invitation,
    connect,
    invite,
    people,
    send,
    take_answer,
)

World = tuple[Clock, Person, Person, Person]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Alice and Bob may send to each other. `again` is Bob on a new device, under a new root key."""
    with people(tmp_path, "alice", "bob") as (clock, alice, bob):
        connect(alice, bob)
        connect(bob, alice)
        again = Person(tmp_path / "later", "bob", clock)
        try:
            assert again.user == bob.user and again.context.identity.root != bob.context.identity.root
            yield clock, alice, bob, again
        finally:
            again.db.close()


def forget(person: Person, other: Person) -> None:
    clock = person.context.clock
    assert isinstance(clock, Clock)
    clock.pass_seconds(1)
    person.effects = Effects()
    person.step(lambda tx: granting.forget_key(tx, other.user))
    clock.pass_seconds(1)


def undo(person: Person, other: Person) -> None:
    person.step(lambda tx: granting.believe_key_again(tx, other.user))


def root_of(person: Person, other: Person) -> bytes:
    found = contacts.get(person.db, other.user)
    assert found is not None
    return found.root


def completed(sender: Person, recipient: Person) -> str:
    """A dispatch that ran; both ends have its result."""
    dispatch_id = send(sender, recipient)
    sender.deliver(recipient)
    row = accept(recipient, dispatch_id)
    recipient.step(lambda tx: running.start(tx, dispatch_id, row.attempt))
    recipient.step(lambda tx: running.finish(tx, dispatch_id, row.attempt, "completed", reply="done", usage={}))
    recipient.deliver(sender)
    return dispatch_id


def progress(person: Person, token: str) -> Any:
    sent = invitation_rows(person.db, person.context.clock(), lambda _: "", ended=True)["sent"]
    return next(row["progress"] for row in sent if row["token"] == token)


def test_another_key_is_refused_until_the_old_one_is_forgotten(world: World) -> None:
    """Whoever is invited: the person who lost their devices, or their contact."""
    _, alice, bob, again = world
    token = invite(again, alice)
    before = alice.dump()
    with pytest.raises(Forbidden, match="different root key") as refused:
        accept_invitation(alice, token)
    assert f"dispatch trust forget-key {bob.user}" in refused.value.fix
    assert alice.dump() == before
    forget(alice, bob)
    assert take_answer(again, accept_invitation(alice, token)) == 200
    assert root_of(alice, bob) == again.context.identity.root
    assert [each.device for each in contacts.devices(alice.db, bob.user)] == [again.device]


def test_an_answer_under_another_key_is_told_to_who_invited_and_taken_once_the_old_one_is_forgotten(
    world: World,
) -> None:
    """Seen to fail with the refusal raised: what is raised leaves no trace."""
    _, alice, bob, again = world
    ended(alice, bob)
    token = invite(alice, again)
    answer = accept_invitation(again, token)
    alice.effects = Effects()
    assert take_answer(alice, answer) == 403
    assert InvitationsChanged() in alice.effects
    assert progress(alice, token) == "other_key"
    assert root_of(alice, bob) == bob.context.identity.root
    forget(alice, bob)
    assert take_answer(alice, answer) == 200
    assert progress(alice, token) == "accepted"
    alice.deliver(again)
    dispatch_id = send(alice, again)
    assert [code.code for _, code in alice.deliver(again)] == [200]
    assert again.row(dispatch_id).state == "pending"


def outgoing(person: Person, other: Person) -> Any:
    found = edges.current(person.db, other.user, "outgoing")
    assert found is not None
    return found


def test_forgetting_ends_all_that_the_old_devices_could_do_and_tells_them_nothing(world: World) -> None:
    _, alice, bob, _ = world
    theirs, mine, unsent = send(bob, alice), send(alice, bob), ""
    bob.deliver(alice)
    alice.deliver(bob)
    accept(alice, theirs)
    granted = edges.current(alice.db, bob.user, "incoming")
    assert granted is not None
    unsent = send(alice, bob)
    forget(alice, bob)
    assert {edge.status for edge in edges.every(alice.db)} == {"revoked"}
    assert (alice.row(theirs).state, alice.row(mine).state, alice.row(unsent).state) == (
        "cancelled",
        "cancelled",
        "rejected",
    )
    assert StopRunsOfEdge(granted.edge_id) in alice.effects and PeopleChanged() in alice.effects
    assert "forgot the key" in alice.row(mine).message and "forgot the key" in alice.row(unsent).message
    assert not alice.waiting(bob) and not outbox.waiting_devices(alice.db)
    assert not contacts.devices(alice.db, bob.user)
    late = send(bob, alice)
    assert [answer.code for _, answer in bob.deliver(alice)][-1] == 403, late


def test_a_forgotten_key_comes_back_only_by_hand(world: World) -> None:
    """Whoever found the laptop answers an old invitation, or sends one. Seen to fail without the check in pin."""
    _, alice, bob, _ = world
    ended(alice, bob)
    bob.step(lambda tx: granting.revoke(tx, alice.user))
    earlier = invite(alice, bob)
    answer = accept_invitation(bob, earlier)
    forget(alice, bob)
    with pytest.raises(DispatchError, match="withdrawn"):
        take_answer(alice, answer)
    bob.step(lambda tx: granting.revoke(tx, alice.user))
    later = accept_invitation(bob, invite(alice, bob))
    assert take_answer(alice, later) == 403
    assert not contacts.devices(alice.db, bob.user)
    assert progress(alice, _newest(alice)) == "other_key"
    with pytest.raises(Forbidden, match="that you forgot") as refused:
        accept_invitation(alice, _invited_anew(bob, alice))
    assert "--undo" in refused.value.fix
    undo(alice, bob)
    assert take_answer(alice, later) == 200


def test_an_answer_under_another_key_that_is_not_wanted_is_in_nobodys_way(world: World) -> None:
    """Seen to fail with the answered invitation given again: its address could be answered by nobody."""
    _, alice, bob, again = world
    ended(alice, bob)
    token = invite(alice, again)
    assert take_answer(alice, accept_invitation(again, token)) == 403
    with pytest.raises(Forbidden, match="answered your invitation under a different root key"):
        send(alice, bob)
    made = alice.step(lambda tx: inviting.invite(tx, bob.user))
    assert made.fresh and made.row.token != token
    assert progress(alice, token) == "withdrawn"


def test_an_invitation_under_another_key_is_shown_as_such(world: World) -> None:
    _, alice, bob, again = world
    theirs, others = _invited_anew(bob, alice), invite(again, alice)
    received = invitation_rows(alice.db, alice.context.clock(), lambda _: "", ended=False)["received"]
    assert {row["token"]: row["other_key"] for row in received} == {theirs: False, others: True}


def test_a_key_that_was_verified_before_is_shown_as_verified(world: World) -> None:
    """Until it is forgotten; and another key is not, with its address or without."""
    _, alice, bob, again = world
    alice.step(lambda tx: granting.revoke(tx, bob.user))
    ended(bob, alice)
    theirs, others = invite(bob, alice, by_address=False), invite(again, alice)

    def verified() -> dict[str, bool]:
        received = invitation_rows(alice.db, alice.context.clock(), lambda _: "", ended=False)["received"]
        return {row["token"]: row["verified"] for row in received}

    assert verified() == {theirs: True, others: False}
    forget(alice, bob)
    assert verified() == {theirs: False, others: True}


def ended(person: Person, other: Person) -> None:
    """End what somebody was granted, so that they may be invited again."""
    person.step(lambda tx: edges.set_status(tx.db, outgoing(person, other).edge_id, "revoked", tx.now))


def test_what_the_old_device_saw_helps_nobody_who_has_it(world: World) -> None:
    """Not the secret of an open invitation, and not an acceptance on its way to it. Seen to fail with these left."""
    _, alice, bob, thief = world
    ended(alice, bob)
    token = invite(alice, bob)
    seen = invitations.get(bob.db, token)
    assert seen is not None and seen.secret
    alice.step(lambda tx: granting.revoke(tx, bob.user))
    accept_invitation(alice, _invited_anew(bob, alice))
    forget(alice, bob)
    thief.step(lambda tx: inviting.on_invitation(tx, seen.raw))
    thief.step(lambda tx: invitations.set_secret(tx.db, token, seen.secret))
    with pytest.raises(DispatchError, match="withdrawn"):
        take_answer(alice, accept_invitation(thief, token))
    assert [write.action for write in invitations.broker_writes(alice.db, "")] == ["withdraw"]
    assert alice.step(lambda tx: inviting.invite(tx, bob.user)).fresh


def test_a_key_before_the_last_one_comes_back_only_by_an_invitation_that_is_accepted_by_hand(world: World) -> None:
    """Not by an answer, which nobody looks at. The key in between may have been a thief's."""
    _, alice, bob, thief = world
    forget(alice, bob)
    connect(thief, alice)
    with pytest.raises(Forbidden, match="different root key"):
        accept_invitation(alice, _invited_anew(bob, alice))
    forget(alice, thief)
    bob.step(lambda tx: granting.revoke(tx, alice.user))
    answer = accept_invitation(bob, invite(alice, bob))
    assert take_answer(alice, answer) == 403
    with pytest.raises(Forbidden, match="that you forgot"):
        accept_invitation(alice, _invited_anew(thief, alice))
    accept_invitation(alice, _invited_anew(bob, alice))
    assert root_of(alice, bob) == bob.context.identity.root
    assert take_answer(alice, answer) == 200


def _newest(person: Person) -> str:
    return next(row.token for row in invitations.every(person.db) if row.direction == "sent" and row.status == "open")


def _invited_anew(inviter: Person, invited: Person) -> str:
    edge = edges.current(inviter.db, invited.user, "outgoing")
    if edge is not None and edge.status in edges.OPEN:
        inviter.step(lambda tx: edges.set_status(tx.db, edge.edge_id, "revoked", tx.now))
    return invite(inviter, invited)


def test_undone_what_they_granted_is_in_force_again_and_they_hear_that_theirs_ended(world: World) -> None:
    """Seen to fail with all left ended: each had an edge that the other lacked, and neither could be invited."""
    _, alice, bob, _ = world
    before = contacts.get(alice.db, bob.user)
    forget(alice, bob)
    undo(alice, bob)
    assert contacts.get(alice.db, bob.user) == before
    assert [each.device for each in contacts.devices(alice.db, bob.user)] == [bob.device]
    assert [kind for kind, _ in alice.deliver(bob)] == ["revocation"]
    for one, other in ((alice, bob), (bob, alice)):
        assert {edge.direction: edge.status for edge in edges.every(one.db)}["outgoing"] == (
            "active" if one is alice else "revoked"
        ), other.name
    dispatch_id = send(alice, bob)
    alice.deliver(bob)
    assert bob.row(dispatch_id).state == "pending"
    connect(bob, alice)
    with pytest.raises(Conflict):
        undo(alice, bob)


def test_it_is_refused_with_a_reason_where_there_is_nothing_to_forget(world: World) -> None:
    _, alice, bob, again = world
    with pytest.raises(NotFound):
        alice.step(lambda tx: granting.forget_key(tx, "nobody@example.org"))
    forget(alice, bob)
    with pytest.raises(Conflict):
        forget(alice, bob)
    connect(again, alice)
    with pytest.raises(Conflict):
        undo(alice, bob)


def test_a_new_key_is_unverified_whatever_the_old_one_was(world: World) -> None:
    _, alice, bob, again = world
    assert contacts.get(alice.db, bob.user).verified  # type: ignore[union-attr]
    forget(alice, bob)
    connect(again, alice, by_address=False)
    assert not contacts.get(alice.db, bob.user).verified  # type: ignore[union-attr]


def test_receipts_of_before_verify_under_the_old_key_and_later_ones_under_the_new(world: World) -> None:
    """Seen to fail with the contact's device-set for all."""
    _, alice, bob, again = world
    own = alice.context.identity.device_set
    first = completed(alice, bob)
    came = completed(bob, alice)
    forget(alice, bob)
    assert receipts.verify(gather(alice.db, own, first)).recipient.root == bob.context.identity.root
    connect(alice, again)
    second = completed(alice, again)
    roots = {each: receipts.verify(gather(alice.db, own, each)) for each in (first, came, second)}
    assert roots[first].recipient.root == roots[came].sender.root == bob.context.identity.root
    assert roots[second].recipient.root == again.context.identity.root


def test_an_answer_from_before_the_forgetting_proves_nothing_by_its_secret(world: World) -> None:
    """Whoever has the old device may have seen it. Seen to fail with it taken as a proof."""
    _, alice, bob, again = world
    ended(alice, bob)
    answer = accept_invitation(again, invite(alice, again))
    assert take_answer(alice, answer) == 403
    forget(alice, bob)
    assert take_answer(alice, answer) == 200
    assert not contacts.get(alice.db, bob.user).verified  # type: ignore[union-attr]


def test_an_answer_of_somebody_blocked_is_refused(world: World) -> None:
    _, alice, bob, _ = world
    ended(alice, bob)
    bob.step(lambda tx: granting.revoke(tx, alice.user))
    answer = accept_invitation(bob, invite(alice, bob))
    alice.step(lambda tx: granting.block(tx, bob.user))
    with pytest.raises(Forbidden, match="blocked"):
        take_answer(alice, answer)


def test_blocked_stays_blocked(world: World) -> None:
    _, alice, bob, again = world
    alice.step(lambda tx: granting.block(tx, bob.user))
    forget(alice, bob)
    made = again.step(lambda tx: inviting.invite(tx, alice.user))
    assert alice.step(lambda tx: inviting.on_invitation(tx, made.row.raw)) is None
    assert invitations.get(alice.db, made.row.token) is None


def test_the_alias_goes_on_to_the_new_key(world: World) -> None:
    _, alice, bob, again = world
    alice.step(lambda tx: granting.set_alias(tx, bob.user, "Bobby"))
    forget(alice, bob)
    connect(again, alice)
    assert contacts.user_named(alice.db, "Bobby") == again.user
