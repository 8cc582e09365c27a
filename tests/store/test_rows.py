"""Rows of the store become typed values by the names of their columns, in whatever order these come."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

import pytest

from peer.store.rows import all_of, one


@dataclass(frozen=True, slots=True)
class Kind:
    a: int
    b: str
    c: int = 7


def select(columns: str) -> list[sqlite3.Row]:
    db = sqlite3.connect(":memory:")
    db.row_factory = sqlite3.Row
    return db.execute(f"SELECT {columns}").fetchall()


def test_columns_are_taken_by_name() -> None:
    """Seen to fail by place alone, as migrations add columns behind the others."""
    assert all_of(Kind, select("'x' AS b, 1 AS c, 2 AS a")) == [Kind(2, "x", 1)]
    assert one(Kind, select("2 AS a, 'x' AS b, 1 AS c")[0]) == Kind(2, "x", 1)
    assert one(Kind, select("'x' AS b, 2 AS a")[0]) == Kind(2, "x", 7)
    assert all_of(Kind, []) == [] and one(Kind, None) is None


@pytest.mark.parametrize("columns", ["1 AS a", "1 AS a, 'x' AS b, 3 AS c, 4 AS d"])
def test_a_query_of_other_columns_is_a_defect(columns: str) -> None:
    with pytest.raises(TypeError):
        one(Kind, select(columns)[0])
