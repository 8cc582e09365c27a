"""The word for how much of a run's changes is in place: what it means, and which numbers agree with it."""

from __future__ import annotations

import dataclasses
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.protocol import landed
from peer.protocol.errors import Invalid
from peer.protocol.outcomes import Landed
from peer.protocol.statements import LandingReport
from tests.protocol.examples import a_digest, full_examples

WORDS = get_args(Landed)


def report(word: Landed, in_place: int, in_all: int, *, counted: bool = True) -> LandingReport:
    example = full_examples()["landing-report"][1]
    assert isinstance(example, LandingReport)
    change_set = a_digest("changes") if counted else b""
    return dataclasses.replace(example, landed=word, in_place=in_place, in_all=in_all, change_set=change_set)


@pytest.mark.parametrize(
    ("in_place", "in_all", "waits", "word", "said"),
    [
        (0, 5, 5, "waiting", "none of 5 applied yet"),
        (0, 5, 1, "waiting", "none of 5 applied yet"),
        (3, 5, 2, "part", "3 of 5 applied"),
        (3, 5, 0, "part", "3 of 5 applied"),  # the others were thrown away
        (5, 5, 0, "all", "5 of 5 applied"),
        (1, 1, 0, "all", "1 of 1 applied"),
        (0, 5, 0, "none", "none applied"),
        (0, 0, 0, "none", "none applied"),  # nothing of it can be put in place
        (1_200, 3_000, 9, "part", "1,200 of 3,000 applied"),
    ],
)
def test_the_word_and_the_line(in_place: int, in_all: int, waits: int, word: Landed, said: str) -> None:
    assert landed.landed(in_place=in_place, in_all=in_all, waits=waits) == word
    assert landed.in_words(word, in_place=in_place, in_all=in_all) == said


def test_the_word_alone_has_a_line_too() -> None:
    said = [landed.in_words(word, in_place=None, in_all=None) for word in WORDS]
    assert said == ["none applied yet", "all applied", "some applied, not all", "none applied"]


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_what_is_told_is_believed_and_the_line_has_no_surprise(in_place: int, waits: int, thrown_away: int) -> None:
    in_all = in_place + waits + thrown_away
    word = landed.landed(in_place=in_place, in_all=in_all, waits=waits)
    landed.check(report(word, in_place, in_all))
    landed.check(report(word, 0, 0, counted=False))
    assert landed.in_words(word, in_place=in_place, in_all=in_all).startswith((f"{in_place} of ", "none"))


@given(st.sampled_from(WORDS), st.integers(0, 4), st.integers(0, 4))
def test_numbers_that_no_change_set_has_are_refused(word: Landed, in_place: int, in_all: int) -> None:
    """Exactly those are taken that a change set can have. Seen to fail with each side of each comparison left out."""
    left = range(in_all - in_place + 1)
    possible = {landed.landed(in_place=in_place, in_all=in_all, waits=waits) for waits in left}
    if word in possible:
        landed.check(report(word, in_place, in_all))
    else:
        with pytest.raises(Invalid):
            landed.check(report(word, in_place, in_all))


@pytest.mark.parametrize(("in_place", "in_all"), [(0, 5), (1, 0), (3, 5)])
def test_a_word_alone_comes_without_numbers(in_place: int, in_all: int) -> None:
    with pytest.raises(Invalid):
        landed.check(report("part", in_place, in_all, counted=False))
