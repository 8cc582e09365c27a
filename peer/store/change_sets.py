"""Change sets of runs, and the landings of their entries. SQL only; what may follow what is steps/change_sets.py's."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from peer.store.rows import ChangeSetRow, Landing, LandingState, all_of, one


def add(db: sqlite3.Connection, item: ChangeSetRow) -> None:
    """Store a change set. Its key is new."""
    db.execute(
        "INSERT INTO change_sets (dispatch_id, attempt, digest, entries, decidable, bytes, waits, state, created) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            item.dispatch_id,
            item.attempt,
            item.digest,
            item.entries,
            item.decidable,
            item.bytes,
            item.waits,
            item.state,
            item.created,
        ),
    )


def get(db: sqlite3.Connection, dispatch_id: str, attempt: int) -> ChangeSetRow | None:
    """Return the change set of one attempt."""
    found = db.execute("SELECT * FROM change_sets WHERE dispatch_id = ? AND attempt = ?", (dispatch_id, attempt))
    return one(ChangeSetRow, found.fetchone())


def of_dispatch(db: sqlite3.Connection, dispatch_id: str) -> list[ChangeSetRow]:
    """Return the change sets of a dispatch, one for each attempt that had a view, oldest first."""
    found = db.execute("SELECT * FROM change_sets WHERE dispatch_id = ? ORDER BY attempt", (dispatch_id,))
    return all_of(ChangeSetRow, found.fetchall())


def set_decided(db: sqlite3.Connection, item: ChangeSetRow, *, waits: int, size: int, now: int) -> None:
    """Record a decision of the person: how many entries still wait, and the bytes that are kept from now on."""
    db.execute(
        "UPDATE change_sets SET waits = ?, bytes = ?, decided = ?, state = ? WHERE dispatch_id = ? AND attempt = ?",
        (waits, size, now, "waiting" if waits else "closed", item.dispatch_id, item.attempt),
    )


def let_go(db: sqlite3.Connection, dispatch_id: str, attempt: int | None = None) -> None:
    """Record that the contents of one change set, or of all of a dispatch, are to be removed; see `kept`."""
    where, values = ("", (dispatch_id,)) if attempt is None else (" AND attempt = ?", (dispatch_id, attempt))
    db.execute(f"UPDATE change_sets SET state = 'removed', waits = 0 WHERE dispatch_id = ?{where}", values)


def kept(db: sqlite3.Connection) -> frozenset[tuple[str, int]]:
    """Return the (dispatch, attempt) whose contents are needed."""
    found = db.execute("SELECT dispatch_id, attempt FROM change_sets WHERE state <> 'removed'").fetchall()
    return frozenset((row[0], row[1]) for row in found)


def landings(db: sqlite3.Connection, dispatch_id: str, attempt: int) -> list[Landing]:
    """Return the landings of a change set, oldest first."""
    found = db.execute(
        "SELECT * FROM landings WHERE dispatch_id = ? AND attempt = ? ORDER BY number", (dispatch_id, attempt)
    )
    return all_of(Landing, found.fetchall())


def landed(db: sqlite3.Connection, dispatch_id: str, attempt: int) -> frozenset[int]:
    """Return the numbers of the entries that are in place."""
    done = landings(db, dispatch_id, attempt)
    return frozenset[int]().union(*(each.numbers for each in done if each.state == "landed"))


def unfinished(db: sqlite3.Connection) -> list[Landing]:
    """Return the landings that a crash may have interrupted."""
    found = db.execute("SELECT * FROM landings WHERE state IN ('begun', 'undoing') ORDER BY at")
    return all_of(Landing, found.fetchall())


def begin(db: sqlite3.Connection, item: ChangeSetRow, entries: Sequence[int], now: int, *, unasked: bool) -> int:
    """Store a landing that begins, `unasked` if by the end of its run; return its number."""
    row = db.execute(
        "SELECT coalesce(max(number), 0) + 1 FROM landings WHERE dispatch_id = ? AND attempt = ?",
        (item.dispatch_id, item.attempt),
    ).fetchone()
    number = int(row[0])
    db.execute(
        "INSERT INTO landings (dispatch_id, attempt, number, entries, state, at, unasked) "
        "VALUES (?, ?, ?, ?, 'begun', ?, ?)",
        (item.dispatch_id, item.attempt, number, msgspec.json.encode(list(entries)).decode(), now, unasked),
    )
    return number


def set_landing(db: sqlite3.Connection, item: Landing, state: LandingState, *, entries: Sequence[int]) -> None:
    """Set a landing's state, and the entries that it stands for from now on."""
    db.execute(
        "UPDATE landings SET state = ?, entries = ? WHERE dispatch_id = ? AND attempt = ? AND number = ?",
        (state, msgspec.json.encode(list(entries)).decode(), item.dispatch_id, item.attempt, item.number),
    )


def forget(db: sqlite3.Connection, item: Landing) -> None:
    """Remove a landing that put nothing in place."""
    db.execute(
        "DELETE FROM landings WHERE dispatch_id = ? AND attempt = ? AND number = ?",
        (item.dispatch_id, item.attempt, item.number),
    )
