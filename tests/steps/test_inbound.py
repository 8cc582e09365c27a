"""Whose word is taken in at all: the device at the other end, the user it is pinned for, and to whom it speaks.

Each docstring says without which check of peer/steps/inbound.py its test was seen to fail.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from peer.protocol import names
from peer.protocol.signing import open_statement, sign_by_device
from peer.protocol.statements import Addressed, Cancel
from peer.steps import granting, inbound
from peer.store import outbox
from tests.steps.people import Clock, Person, connect, people


@pytest.fixture
def four(tmp_path: Path) -> Iterator[tuple[Clock, Person, Person, Person, Person]]:
    """Bob, whom Alice and Mallory may send to; and Carol, whom nobody knows."""
    with people(tmp_path, "bob", "alice", "mallory", "carol") as made:
        clock, bob, alice, mallory, carol = made
        connect(alice, bob)
        connect(mallory, bob)
        yield clock, bob, alice, mallory, carol


def word(author: Person, to: Person, **changes: Any) -> bytes:
    """A cancellation of a dispatch that never was, which anybody's device may send, signed with any fields."""
    unknown = names.uuid7(author.context.clock(), author.random(10))
    letter: Addressed = author.context.sign_for(Cancel, to.user, to.device, dispatch_id=unknown).statement
    return sign_by_device(dataclasses.replace(letter, **changes), author.context.identity.seed).raw


def test_a_statement_is_brought_by_its_own_device(four: tuple[Clock, Person, Person, Person, Person]) -> None:
    """Also where both are one user's. Seen to fail without the comparison with the connection: Alice's laptop brought,
    and could so hold back or repeat, what only her phone had said.
    """
    _, bob, alice, mallory, carol = four
    raw = word(alice, bob)
    bob.db.execute(
        "INSERT INTO contact_devices (device, user_id, sealing_key, name) VALUES (?, ?, ?, 'laptop')",
        (carol.device, alice.user, bytes(32)),
    )
    before = bob.dump()
    assert bob.receive(mallory, raw).code == 403
    assert bob.receive(carol, raw).code == 403
    assert bob.dump() == before
    assert bob.receive(alice, raw).code == 200


def test_a_device_speaks_for_the_user_it_is_pinned_for(four: tuple[Clock, Person, Person, Person, Person]) -> None:
    """Seen to fail without the comparison with the pinned user: Mallory's device spoke as Alice."""
    _, bob, alice, mallory, _ = four
    before = bob.dump()
    assert bob.receive(mallory, word(mallory, bob, issuer_user=alice.user)).code == 403
    assert bob.dump() == before


def test_a_device_that_nobody_pinned_says_nothing(four: tuple[Clock, Person, Person, Person, Person]) -> None:
    """Seen to fail with only pinned devices compared: Carol's word was taken in."""
    _, bob, alice, _, carol = four
    before = bob.dump()
    assert bob.receive(carol, word(carol, bob)).code == 403
    assert bob.receive(carol, word(carol, bob, issuer_user=alice.user)).code == 403
    assert bob.dump() == before


def test_somebody_blocked_says_nothing(four: tuple[Clock, Person, Person, Person, Person]) -> None:
    """Seen to fail without the look at who is blocked: her cancellations were remembered on."""
    _, bob, _, mallory, _ = four
    assert bob.receive(mallory, word(mallory, bob)).code == 200
    bob.step(lambda tx: granting.block(tx, mallory.user))
    before = bob.dump()
    assert bob.receive(mallory, word(mallory, bob)).code == 403
    assert bob.dump() == before


@pytest.mark.parametrize("field", ["audience_user", "audience_device"])
def test_what_is_said_to_somebody_else_is_not_heard(
    four: tuple[Clock, Person, Person, Person, Person], field: str
) -> None:
    """Seen to fail without the look at the audience, and at its user alone: what was said to Carol was taken in."""
    _, bob, alice, _, carol = four
    other = carol.user if field == "audience_user" else carol.device
    before = bob.dump()
    assert bob.receive(alice, word(alice, bob, **{field: other})).code == 403
    assert bob.dump() == before


def test_other_bytes_under_a_known_id_are_refused(four: tuple[Clock, Person, Person, Person, Person]) -> None:
    """Seen to fail without the comparison of digests: they got the first one's answer."""
    _, bob, alice, _, _ = four
    raw = word(alice, bob)
    assert bob.receive(alice, raw).code == 200
    said = open_statement(raw).statement
    first = outbox.seen(bob.db, alice.device, said.id)
    assert bob.receive(alice, word(alice, bob, id=said.id)).code == 409
    assert outbox.seen(bob.db, alice.device, said.id) == first
    assert bob.receive(alice, raw).code == 200


def test_what_is_remembered_of_a_device_is_bounded(
    four: tuple[Clock, Person, Person, Person, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail without the bound."""
    _, bob, alice, mallory, _ = four
    count = outbox.remembered(bob.db, mallory.device)
    monkeypatch.setattr(inbound, "MAX_REMEMBERED", count + 2)
    assert [bob.receive(mallory, word(mallory, bob)).code for _ in range(3)] == [200, 200, 503]
    assert outbox.remembered(bob.db, mallory.device) == count + 2
    assert bob.receive(alice, word(alice, bob)).code == 200  # another device's memory is its own
