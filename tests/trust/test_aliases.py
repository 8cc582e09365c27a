"""Which contact may be meant by a name that nobody has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.trust import aliases

PEOPLE = [("bob@example.org", ""), ("carol@example.org", "Caz"), ("dora@example.net", "Dörte")]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("bob", ["bob@example.org"]),
        ("Bobb", ["bob@example.org"]),
        ("bob@exmaple.org", ["bob@example.org"]),
        ("bbo@example.org", ["bob@example.org"]),
        ("DÖRTE", ["dora@example.net"]),
        ("zoe", []),
        ("zoe@other.test", []),
    ],
)
def test_who_may_be_meant(name: str, meant: list[str]) -> None:
    assert aliases.likely(name, PEOPLE) == meant


@given(st.text(max_size=60), st.lists(st.tuples(st.emails(), st.text(max_size=40)), max_size=8))
def test_few_are_named_and_the_very_one_first(name: str, people: list[tuple[str, str]]) -> None:
    found = aliases.likely(name, people)
    assert len(found) <= 3 and set(found) <= {address for address, _ in people}
    for address, _ in people:
        assert aliases.likely(address, people)[0].casefold() == address.casefold()
