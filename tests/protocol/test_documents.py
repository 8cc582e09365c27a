"""Lists by pages: nothing is left out and nothing comes twice, whatever the size of a page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.protocol.documents import page_of
from peer.protocol.errors import NotFound


@given(st.integers(0, 12), st.integers(1, 13))
def test_the_pages_are_the_list(count: int, limit: int) -> None:
    rows = [{"id": str(number)} for number in range(count)]
    found, before, pages = [], None, 0
    while True:
        page, rest = page_of(rows, lambda row: str(row["id"]), limit=limit, before=before)
        found += page
        pages += 1
        assert rest["more"] is (len(found) < count) and (rest["next"] is None) is not rest["more"]
        if not rest["more"]:
            break
        before = rest["next"]
    assert found == rows and pages == max(1, -(-count // limit))


def test_without_a_limit_it_is_all_that_is_left() -> None:
    rows = [{"id": name} for name in "abc"]
    assert page_of(rows, lambda row: str(row["id"]), limit=None, before="a") == (
        rows[1:],
        {"more": False, "next": None},
    )


def test_a_page_begins_after_a_row_that_is_there() -> None:
    with pytest.raises(NotFound, match=r"the list no longer contains .d."):
        page_of([{"id": "a"}], lambda row: str(row["id"]), limit=1, before="d")
