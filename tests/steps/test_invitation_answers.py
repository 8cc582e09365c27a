"""Answers to invitations: each counts once, in time, from whom and for whom it is; and the confirmation after it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from peer.protocol.errors import Conflict, DispatchError, Forbidden, Gone, Invalid, NotFound
from peer.protocol.signing import open_as
from peer.protocol.statements import Acceptance, Confirmation, Decline
from peer.steps import granting, invitation_answers, inviting
from peer.steps.effects import BrokerWriteQueued, Effects, PeopleChanged
from peer.steps.transaction import Transaction
from peer.store import edges, invitations
from tests.steps.people import (
    READ_ONLY,
    Clock,
    Person,
    accept_invitation,
    connect,
    invite,
    people,
    resigned,
    take_answer,
)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Clock, Person, Person]]:
    with people(tmp_path, "alice", "bob") as made:
        yield made


def status(person: Person, token: str) -> str | None:
    row = invitations.get(person.db, token)
    return row.status if row else None


def test_an_invitation_is_answered_once(pair: tuple[Clock, Person, Person]) -> None:
    _, alice, bob = pair
    token = invite(alice, bob)
    raw = accept_invitation(bob, token)
    with pytest.raises(Conflict):
        accept_invitation(bob, token)
    with pytest.raises(Conflict):
        bob.step(lambda tx: invitation_answers.decline(tx, token))
    assert take_answer(alice, raw) == take_answer(alice, raw) == 200
    assert len(edges.every(alice.db)) == 1
    with pytest.raises(Conflict):
        take_answer(alice, resigned(bob, raw, edge_id=bob.context.new_id()))


def _again(act: Callable[[Transaction, str], object], token: str, tx: Transaction) -> None:
    act(tx, token)


def test_a_confirmation_must_be_of_this_very_acceptance(pair: tuple[Clock, Person, Person]) -> None:
    _, alice, bob = pair
    raw = accept_invitation(bob, invite(alice, bob))
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
    bob.step(lambda tx: invitation_answers.decline(tx, token))
    (write,) = invitations.broker_writes(bob.db, "")
    sealed: Any = codec.decode(write.body)
    raw = SealedBox(PrivateKey(alice.context.identity.sealing_key)).decrypt(sealed[alice.device])
    assert take_answer(alice, raw) == 200
    assert invitations.get(alice.db, token).status == "declined"  # type: ignore[union-attr]


def test_a_scope_edited_before_the_confirmation_is_told_after_it(pair: tuple[Clock, Person, Person]) -> None:
    from peer.trust import scopes

    _, alice, bob = pair
    raw = accept_invitation(bob, invite(alice, bob))
    wider = scopes.Scope(tools=("Read", "Glob", "Grep", "Write"))
    bob.step(lambda tx: granting.edit(tx, alice.user, wider))
    take_answer(alice, raw)
    alice.deliver(bob)
    bob.deliver(alice)
    edge = edges.current(alice.db, bob.user, "outgoing")
    assert edge is not None
    assert "Write" in scopes.decode_summary(edge.scope).tools


def test_a_declined_invitation_is_answered(pair: tuple[Clock, Person, Person]) -> None:
    _, alice, bob = pair
    token = invite(alice, bob)
    bob.effects = Effects()
    bob.step(lambda tx: invitation_answers.decline(tx, token))
    assert status(bob, token) == "declined" and BrokerWriteQueued() in bob.effects
    answers: tuple[Callable[[Transaction, str], object], ...] = (
        invitation_answers.decline,
        lambda tx, token: invitation_answers.accept(tx, token, READ_ONLY),
    )
    for again in answers:
        with pytest.raises(Conflict):
            bob.step(partial(_again, again, token))


def decline_of(alice: Person, bob: Person, token: str) -> bytes:
    row = invitations.get(alice.db, token)
    assert row is not None
    return bob.context.sign_for(
        Decline, alice.user, alice.device, invitation_id=token, invitation_digest=hashlib.sha256(row.raw).digest()
    ).raw


@pytest.mark.parametrize("before", ["accepted", "withdrawn"])
def test_a_decline_that_comes_late_changes_nothing(pair: tuple[Clock, Person, Person], before: str) -> None:
    _, alice, bob = pair
    token = invite(alice, bob)
    if before == "accepted":
        assert take_answer(alice, accept_invitation(bob, token)) == 200
    else:
        alice.step(lambda tx: inviting.withdraw(tx.db, token))
    alice.effects = Effects()
    assert take_answer(alice, decline_of(alice, bob, token)) == 200
    assert status(alice, token) == before and not alice.effects


def test_a_decline_is_noted(pair: tuple[Clock, Person, Person]) -> None:
    _, alice, bob = pair
    token = invite(alice, bob)
    alice.effects = Effects()
    assert take_answer(alice, decline_of(alice, bob, token)) == 200
    assert status(alice, token) == "declined" and PeopleChanged() in alice.effects


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"audience_user": "carol@example.org"}, Forbidden),
        ({"audience_device": "12D3KooWother"}, Forbidden),
        ({"invitation_digest": bytes(32)}, Invalid),
        ({"invitation_id": "0192f0c1-7a3b-7c44-9d2e-5b6a7c8d9e0f"}, NotFound),
    ],
)
def test_an_answer_is_to_this_device_and_to_this_invitation(
    pair: tuple[Clock, Person, Person], change: dict[str, Any], error: type[DispatchError]
) -> None:
    _, alice, bob = pair
    raw = accept_invitation(bob, invite(alice, bob, by_address=False))
    if "audience_device" in change:
        change = {"audience_device": bob.device}
    before = alice.dump()
    with pytest.raises(error):
        take_answer(alice, resigned(bob, raw, **change))
    assert alice.dump() == before


def test_an_answer_is_an_acceptance_or_a_decline(pair: tuple[Clock, Person, Person]) -> None:
    _, alice, bob = pair
    row = alice.step(lambda tx: inviting.invite(tx, bob.user)).row
    with pytest.raises(Invalid, match="neither an acceptance"):
        take_answer(bob, row.raw)


def test_another_acceptance_under_a_known_edge_is_refused(pair: tuple[Clock, Person, Person]) -> None:
    _, alice, bob = pair
    raw = accept_invitation(bob, invite(alice, bob, by_address=False))
    assert take_answer(alice, raw) == 200
    before = alice.dump()
    with pytest.raises(Conflict, match="edge id"):
        take_answer(alice, resigned(bob, raw, created=alice.context.clock() + 1))
    assert alice.dump() == before


@pytest.mark.parametrize("late_by", [0, 1])
def test_an_acceptance_made_in_time_counts_though_it_comes_late(
    pair: tuple[Clock, Person, Person], late_by: int
) -> None:
    clock, alice, bob = pair
    token = invite(alice, bob, by_address=False)
    row = invitations.get(alice.db, token)
    assert row is not None
    raw = resigned(bob, accept_invitation(bob, token), created=row.expires - 1 + late_by)
    clock.now = row.expires
    alice.step(lambda tx: inviting.expire(tx.db, clock.now))
    if late_by:
        with pytest.raises(Gone):
            take_answer(alice, raw)
    else:
        assert take_answer(alice, raw) == 200
        assert status(alice, token) == "accepted"


def test_a_confirmation_is_the_inviters_and_counts_once(tmp_path: Path) -> None:
    with people(tmp_path, "alice", "bob", "mallory") as (_, alice, bob, mallory):
        connect(mallory, bob)
        edge_id = connect(alice, bob)
        made = edges.get(bob.db, edge_id)
        assert made is not None

        def confirm(author: Person, to: Person, edge: str) -> int:
            letter = author.context.sign_for(
                Confirmation,
                to.user,
                to.device,
                edge_id=edge,
                acceptance_digest=hashlib.sha256(made.acceptance).digest(),
                device_set=author.context.identity.device_set,
            )
            return to.receive(author, letter.raw).code

        assert confirm(alice, bob, edge_id) == 200
        bob.step(lambda tx: granting.revoke(tx, alice.user))
        assert confirm(alice, bob, edge_id) == 200
        assert edges.get(bob.db, edge_id).status == "revoked"  # type: ignore[union-attr]
        assert confirm(mallory, bob, edge_id) == 404
        assert confirm(alice, bob, alice.context.new_id()) == 404
        assert confirm(bob, alice, edge_id) == 404  # hers is the other end of it


def test_an_accepted_invitation_is_pinned_told_and_queued(pair: tuple[Clock, Person, Person]) -> None:
    _, alice, bob = pair
    token = invite(alice, bob)
    sent = invitations.get(alice.db, token)
    assert sent is not None and (sent.verified, sent.emailed) == (0, 0)
    with pytest.raises(NotFound):
        alice.step(lambda tx: invitation_answers.decline(tx, token))  # one's own is no received one
    bob.effects = Effects()
    scope = msgspec.structs.replace(READ_ONLY, mcp_servers=("mail",))
    edge = bob.step(lambda tx: invitation_answers.accept(tx, token, scope, mcp_commands={"mail": '["mail"]'}))
    assert set(edges.mcp_servers(bob.db, edge.edge_id)) == {"mail"}
    assert [write.action for write in invitations.broker_writes(bob.db, "")] == ["accepted"]
    assert BrokerWriteQueued() in bob.effects and PeopleChanged() in bob.effects
    alice.effects = Effects()
    assert take_answer(alice, edge.acceptance) == 200 and PeopleChanged() in alice.effects
