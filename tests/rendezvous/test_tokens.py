"""Tokens that were checked before are checked the same way again."""

from __future__ import annotations

import jwt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from peer.protocol.errors import Unauthorized
from rendezvous import tokens
from rendezvous.tokens import LIFE_SECONDS, LONGEST_SECONDS, Bearer, Tokens, TokenSecrets

DAY_MS = 24 * 3600 * 1000


class Clock:
    def __init__(self) -> None:
        self.now = 400 * DAY_MS

    def __call__(self) -> int:
        return self.now


def at(clock: Clock, secret: bytes = b"s" * 32) -> Tokens:
    return Tokens(TokenSecrets(secret), origin="https://broker.example", clock=clock)


def found(checking: Tokens, authorization: str) -> Bearer | str:
    try:
        return checking.check(authorization)
    except Unauthorized as refused:
        return refused.message


EDGES_S = (0, 1, LIFE_SECONDS // 2, LIFE_SECONDS, LIFE_SECONDS - LONGEST_SECONDS)
MOVES = st.one_of(
    st.integers(-70 * DAY_MS, 70 * DAY_MS),
    st.builds(lambda edge, by: edge * 1000 + by, st.sampled_from(EDGES_S), st.integers(-2000, 2000)),
)


@example([(0, 0), (20 * DAY_MS, 0), (40 * DAY_MS, 0)])
@example([(0, 0), (-40 * DAY_MS, 0)])
@given(st.lists(st.tuples(MOVES, st.integers(0, 1)), min_size=1, max_size=12))
def test_what_is_remembered_is_what_would_be_found(steps: list[tuple[int, int]]) -> None:
    """Seen to fail where an entry is used until the token ends (no renewal), or before the time it was made."""
    clock = Clock()
    issued = [
        at(clock).issue("alice@example.org", "12D3KooWA"),
        at(clock, b"t" * 32).issue("m@example.org", "12D3KooWM"),
    ]
    remembering, began = at(clock), clock.now
    for moved, which in steps:
        clock.now = began + moved
        authorization = f"Bearer {issued[which]}"
        assert found(remembering, authorization) == found(at(clock), authorization)
        assert found(remembering, authorization) == found(at(clock), authorization)


def test_the_tokens_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "REMEMBERED", 3)
    clock = Clock()
    checking = at(clock)
    for number in range(10):
        authorization = f"Bearer {checking.issue(f'u{number}@example.org', '12D3KooWA')}"
        assert checking.check(authorization) == checking.check(authorization)
        assert checking.check(authorization).user_id == f"u{number}@example.org"
        assert found(checking, authorization + "x") != checking.check(authorization)
    assert len(checking._checked) == 3
    assert found(checking, "Bearer " + "x" * 1_000_000) == "the Authorization header is not `Bearer TOKEN`"


def test_a_token_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    checking = at(Clock())
    authorization = f"Bearer {checking.issue('alice@example.org', '12D3KooWA')}"
    checking.check(authorization)
    monkeypatch.setattr(jwt, "decode", lambda *_given, **_more: pytest.fail("it was checked again"))
    checking.check(authorization)
