"""A broker, or a stranger through it, hands in invitations that were made to do harm."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from peer.protocol.documents import Document
from peer.protocol.errors import Conflict, Invalid, RateLimited
from peer.protocol.statements import Invitation
from peer.steps import inviting
from peer.store import invitations, trust_views
from peer.trust.invitation_lifecycle import LIFETIME_MS
from tests.steps.people import Clock, Person, people


@pytest.fixture
def three(tmp_path: Path) -> Iterator[tuple[Clock, Person, Person, Person]]:
    with people(tmp_path, "alice", "bob", "mallory") as made:
        yield made


def hand_in(victim: Person, author: Person, **content: Any) -> None:
    """Have an invitation to `victim`, signed by `author` with any fields, arrive from the broker."""
    facts = {
        "created": author.context.clock(),
        "expires": author.context.clock() + LIFETIME_MS,
        "audience_user": victim.user,
        "device_set": author.context.identity.device_set,
    }
    signed = author.context.sign(Invitation, **(facts | content))
    victim.step(lambda tx: inviting.on_invitation(tx, signed.raw))


def listed(person: Person) -> Document:
    return trust_views.invitation_rows(person.db, person.context.clock(), lambda _row: "", ended=True)


def test_an_invitation_from_the_future_is_not_kept(three: tuple[Clock, Person, Person, Person]) -> None:
    clock, _, bob, mallory = three
    later = clock.now + inviting.MAX_AHEAD_MS + 1
    with pytest.raises(Invalid, match="future"):
        hand_in(bob, mallory, created=later, expires=later + LIFETIME_MS)
    assert listed(bob)["received"] == []


def test_a_token_that_is_known_cannot_be_taken_over(three: tuple[Clock, Person, Person, Person]) -> None:
    _, alice, bob, mallory = three
    sent = bob.step(lambda tx: inviting.invite(tx, alice.user)).row
    before = bob.dump()
    with pytest.raises(Conflict):
        hand_in(bob, mallory, id=sent.token)
    assert bob.dump() == before
    hand_in(bob, alice)
    (honest,) = listed(bob)["received"]
    with pytest.raises(Conflict):
        hand_in(bob, mallory, id=honest["token"])
    assert listed(bob)["received"] == [honest]


def test_invitations_without_end_are_not_kept(
    three: tuple[Clock, Person, Person, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inviting, "MAX_OPEN", 3)
    clock, alice, bob, mallory = three
    for _ in range(3):
        hand_in(bob, mallory)
    with pytest.raises(RateLimited):
        hand_in(bob, alice)
    clock.pass_seconds(8 * 86_400)
    hand_in(bob, alice)  # the others ran out
    bob.step(lambda tx: inviting.expire(tx.db, tx.now))
    assert len(listed(bob)["received"]) == 4
    clock.pass_seconds(31 * 86_400)
    bob.step(lambda tx: inviting.expire(tx.db, tx.now))
    bob.step(lambda tx: inviting.expire(tx.db, tx.now))
    assert len(invitations.every(bob.db)) <= 1


def test_invitations_that_are_withdrawn_at_once_do_not_pile_up(
    three: tuple[Clock, Person, Person, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, only open ones were counted, and those that ended were kept for a month."""
    monkeypatch.setattr(inviting, "MAX_ENDED", 5)
    clock, alice, bob, mallory = three
    hand_in(bob, alice)
    (honest,) = listed(bob)["received"]
    for _ in range(30):
        clock.pass_seconds(1)
        hand_in(bob, mallory)
        (newest,) = [row.token for row in invitations.every(bob.db) if (row.peer, row.status) == (mallory.user, "open")]
        bob.step(partial(inviting.on_withdrawn, token=newest))
    kept = invitations.every(bob.db)
    assert len(kept) <= inviting.MAX_ENDED + 2
    assert [row.token for row in kept if row.status == "open"] == [honest["token"]]
