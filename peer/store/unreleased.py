"""What runs returned and nobody has sent yet: their results and events. SQL only; the steps: steps/releasing.py."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Literal

import msgspec


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended and what it tells its sender. Its files are in the table `files`, and served to nobody.

    `own_reason` and `fix` are for the person here. `bare_reason`: the reason without what names files.
    """

    status: Literal["completed", "failed", "declined", "cancelled"]
    reply: str = ""
    reason: str = ""
    code: int = 0
    fix: str = ""
    own_reason: str = ""
    bare_reason: str = ""
    usage: dict[str, int] = {}
    scope: str = ""
    sandbox: str = ""

    def content(self) -> dict[str, Any]:
        """Return the arguments of steps.ending.end, by name."""
        fields = msgspec.structs.asdict(self)
        return {name: value for name, value in fields.items() if name not in ("status", "bare_reason")}


_READER = msgspec.json.Decoder(RunResult)


def add(db: sqlite3.Connection, dispatch_id: str, result: RunResult, now: int) -> int:
    """Store what a dispatch's run returned; return the bytes that it takes."""
    raw = msgspec.json.encode(result)
    db.execute("INSERT INTO unreleased (dispatch_id, result, at) VALUES (?, ?, ?)", (dispatch_id, raw, now))
    return len(raw)


def get(db: sqlite3.Connection, dispatch_id: str) -> tuple[RunResult, int] | None:
    """Return what a dispatch's run returned and when (ms) it ended, None if nothing is held."""
    row = db.execute("SELECT result, at FROM unreleased WHERE dispatch_id = ?", (dispatch_id,)).fetchone()
    return None if row is None else (_READER.decode(row[0]), int(row[1]))


def add_events(db: sqlite3.Connection, dispatch_id: str, events: Sequence[str]) -> None:
    """Store events (JSON texts) behind those that are held already."""
    db.executemany(
        "INSERT INTO unreleased_events (dispatch_id, event) VALUES (?, ?)", [(dispatch_id, event) for event in events]
    )


def events(
    db: sqlite3.Connection, dispatch_id: str, *, after: int = 0, limit: int | None = None
) -> list[tuple[int, str]]:
    """Return (number, JSON) of the events that are held and have a number above `after`."""
    found = db.execute(
        "SELECT n, event FROM unreleased_events WHERE dispatch_id = ? AND n > ? ORDER BY n LIMIT ?",
        (dispatch_id, after, -1 if limit is None else limit),
    )
    return [(int(row[0]), str(row[1])) for row in found]


def count_of_events(db: sqlite3.Connection, dispatch_id: str) -> int:
    """Return how many events are held."""
    found = db.execute("SELECT count(*) FROM unreleased_events WHERE dispatch_id = ?", (dispatch_id,))
    return int(found.fetchone()[0])


def drop(db: sqlite3.Connection, dispatch_id: str) -> int:
    """Remove all that is held of a dispatch; return the bytes that it took."""
    freed = db.execute(
        "SELECT coalesce((SELECT length(result) FROM unreleased WHERE dispatch_id = :id), 0) + coalesce("
        "(SELECT sum(length(CAST(event AS BLOB))) FROM unreleased_events WHERE dispatch_id = :id), 0)",
        {"id": dispatch_id},
    ).fetchone()
    for table in ("unreleased", "unreleased_events"):
        db.execute(f"DELETE FROM {table} WHERE dispatch_id = ?", (dispatch_id,))
    return int(freed[0])
