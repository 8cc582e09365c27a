"""The bounds of a dispatch's lifetime and the facts of its edge, to the millisecond; the order is in tests/steps."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from peer.dispatches import admission
from peer.dispatches.admission import CLOCK_SKEW_MS, EdgeFacts, NotYet
from peer.protocol.content import MAX_EXPIRES, MIN_EXPIRES, Content
from peer.protocol.errors import DispatchError, Forbidden, Gone, Invalid
from peer.protocol.statements import Dispatch, FileRef
from tests.protocol import examples

NOW = 1_795_000_000_000
ALICE = "alice@example.org"
EDGE = EdgeFacts(ALICE, "active", None, 5, ())


def dispatch(*, created: int = NOW, lifetime: int = MIN_EXPIRES * 1000, parent: str = "") -> Dispatch:
    made = next(s for _, s in examples.full_examples().values() if isinstance(s, Dispatch))
    return dataclasses.replace(
        made, created=created, expires=created + lifetime, issuer_user=ALICE, content=Content(task="go", parent=parent)
    )


def refusal(**fields: Any) -> type[DispatchError] | None:
    try:
        admission.check_lifetime(dispatch(**fields), now=NOW)
    except DispatchError as error:
        return type(error)
    return None


def test_a_clock_may_be_ahead_by_the_skew_and_no_further() -> None:
    assert refusal(created=NOW + CLOCK_SKEW_MS) is None
    assert refusal(created=NOW + CLOCK_SKEW_MS + 1) is Invalid


def test_a_dispatch_has_expired_at_the_time_it_names() -> None:
    assert refusal(created=NOW + 1 - MIN_EXPIRES * 1000) is None
    assert refusal(created=NOW - MIN_EXPIRES * 1000) is Gone


def test_both_bounds_of_a_lifetime_are_allowed_and_nothing_outside_them() -> None:
    for bound, beyond in ((MIN_EXPIRES * 1000, -1), (MAX_EXPIRES * 1000, 1)):
        assert refusal(lifetime=bound) is None
        assert refusal(lifetime=bound + beyond) is Invalid


def test_an_edge_is_the_senders_own_and_in_force() -> None:
    admission.check_edge(EDGE, user_id=ALICE, now=NOW)
    admission.check_edge(dataclasses.replace(EDGE, expires=NOW + 1), user_id=ALICE, now=NOW)
    for edge in (None, dataclasses.replace(EDGE, user_id="bob@example.org"), dataclasses.replace(EDGE, expires=NOW)):
        with pytest.raises(Forbidden):
            admission.check_edge(edge, user_id=ALICE, now=NOW)
    with pytest.raises(Forbidden):
        admission.check_edge(dataclasses.replace(EDGE, status="paused"), user_id=ALICE, now=NOW)
    with pytest.raises(NotYet) as later:
        admission.check_edge(dataclasses.replace(EDGE, status="offered"), user_id=ALICE, now=NOW)
    assert later.value.code == 425


def test_a_parent_is_an_id_or_nothing() -> None:
    admission.admit(dispatch(), EDGE, cancelled=False, now=NOW)
    with pytest.raises(Invalid):
        admission.admit(dispatch(parent="not an id"), EDGE, cancelled=False, now=NOW)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (Content(task=" \n"), 422),
        (Content(task="x" * 100_001), 413),
        (Content(task="go", links=("not a link",)), 422),
        (Content(task="go", meta={"k" * 200: "v"}), 413),
        (Content(task="go", files=(FileRef("a", 1, bytes(32)), FileRef("A", 1, bytes(32)))), 422),
        (Content(task="go", files=(FileRef("a", 0, bytes(32)),)), 422),
    ],
)
def test_what_a_sender_checks_is_checked_again(content: Content[FileRef], code: int) -> None:
    """A modified client signs what it likes."""
    arrived = dataclasses.replace(dispatch(), content=content)
    with pytest.raises(DispatchError) as refused:
        admission.admit(arrived, EDGE, cancelled=False, now=NOW)
    assert refused.value.code == code
