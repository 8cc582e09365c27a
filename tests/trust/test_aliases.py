"""What may be a contact's alias, and which two are the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.protocol.errors import Invalid
from peer.trust import aliases


@pytest.mark.parametrize(
    "alias", ["", " ", "x" * 41, "bob@example.org", "a\nb", "a\x1b[2J", "a\u202eb", "a\u200bb", "\ud800"]
)
def test_refused(alias: str) -> None:
    with pytest.raises(Invalid) as error:
        aliases.check(alias)
    assert error.value.fix


@pytest.mark.parametrize(
    ("one", "other"), [("Bob", "bOB"), ("Straße", "STRASSE"), ("Zoë", "Zoe\u0308"), ("Kim", "\u212aim"), ("Al", " Al ")]
)
def test_the_same(one: str, other: str) -> None:
    assert aliases.key(one) == aliases.key(other)


@pytest.mark.parametrize("alias", ["x" * aliases.MAX_ALIAS, "Bob", "Zoë from work", "李"])
def test_taken(alias: str) -> None:
    assert aliases.check(f" {alias}\n") == alias


@given(st.text())
def test_what_is_taken_is_shown_as_it_is_and_checks_again(alias: str) -> None:
    try:
        chosen = aliases.check(alias)
    except Invalid:
        return
    assert chosen.isprintable() and 1 <= len(chosen) <= aliases.MAX_ALIAS and aliases.check(chosen) == chosen
    assert aliases.key(chosen) == aliases.key(alias)
