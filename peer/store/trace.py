"""The trace of runs: signed event batches, single events for display, approvals. SQL only."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from peer.dispatches import reports
from peer.protocol.errors import NotFound
from peer.store.rows import Approval, all_of, one


def add_batch(db: sqlite3.Connection, dispatch_id: str, attempt: int, sequence: int, raw: bytes, digest: bytes) -> None:
    """Store a signed batch of events. What it takes is counted by charge()."""
    db.execute(
        "INSERT INTO event_batches (dispatch_id, attempt, sequence, raw, digest) VALUES (?, ?, ?, ?, ?)",
        (dispatch_id, attempt, sequence, raw, digest),
    )


def charge(db: sqlite3.Connection, dispatch_id: str, size: int) -> None:
    """Count what was stored of a dispatch's trace, in bytes."""
    db.execute("UPDATE dispatches SET trace_bytes = trace_bytes + ? WHERE dispatch_id = ?", (size, dispatch_id))


def head(db: sqlite3.Connection, dispatch_id: str, attempt: int) -> tuple[int, bytes]:
    """Return how many batches an attempt has, and the SHA-256 of the last one (32 zero bytes if there is none)."""
    row = db.execute(
        "SELECT count(*), max(sequence) FROM event_batches WHERE dispatch_id = ? AND attempt = ?",
        (dispatch_id, attempt),
    ).fetchone()
    if row[0] == 0:
        return 0, bytes(32)
    last = db.execute(
        "SELECT digest FROM event_batches WHERE dispatch_id = ? AND attempt = ? AND sequence = ?",
        (dispatch_id, attempt, row[1]),
    ).fetchone()
    return int(row[0]), bytes(last[0])


def batches(db: sqlite3.Connection, dispatch_id: str, attempt: int) -> list[bytes]:
    """Return the signed batches of an attempt in order."""
    rows = db.execute(
        "SELECT raw FROM event_batches WHERE dispatch_id = ? AND attempt = ? ORDER BY sequence", (dispatch_id, attempt)
    )
    return [bytes(row[0]) for row in rows]


def add_events(db: sqlite3.Connection, dispatch_id: str, attempt: int, events: Sequence[str]) -> None:
    """Store single events (JSON texts)."""
    db.executemany(
        "INSERT INTO trace (dispatch_id, attempt, event) VALUES (?, ?, ?)",
        [(dispatch_id, attempt, event) for event in events],
    )


def add_status(db: sqlite3.Connection, dispatch_id: str, attempt: int, status: str, detail: str) -> None:
    """Store an event that this machine adds for the person here. It is in no signed batch."""
    event = reports.status_event(status, detail)
    add_events(db, dispatch_id, attempt, [event])
    charge(db, dispatch_id, reports.stored_event(event))


def events(
    db: sqlite3.Connection, dispatch_id: str, *, after: int = 0, limit: int = 10_000
) -> list[tuple[int, int, str]]:
    """Return (number, attempt, JSON) of a dispatch's events with a number above `after`."""
    rows = db.execute(
        "SELECT n, attempt, event FROM trace WHERE dispatch_id = ? AND n > ? ORDER BY n LIMIT ?",
        (dispatch_id, after, limit),
    )
    return [(int(row[0]), int(row[1]), str(row[2])) for row in rows]


def details(db: sqlite3.Connection, dispatch_id: str, attempt: int, status: str) -> list[str]:
    """Return the details of an attempt's status events of this name, in order."""
    rows = db.execute(
        "SELECT json_extract(event, '$.detail') FROM trace WHERE dispatch_id = ? AND attempt = ? "
        "AND json_extract(event, '$.kind') = 'status' AND json_extract(event, '$.status') = ? ORDER BY n",
        (dispatch_id, attempt, status),
    )
    return [str(row[0]) for row in rows]


def step_of(db: sqlite3.Connection, dispatch_id: str, attempt: int, call_id: str) -> int:
    """Return the number of a call among those of its attempt, from 1; of one that is not there, of the newest."""
    of_attempt = "FROM trace WHERE dispatch_id = ?1 AND attempt = ?2 AND json_extract(event, '$.kind') = 'tool_call'"
    this = f"SELECT max(n) {of_attempt} AND json_extract(event, '$.call_id') = ?3"
    query = f"SELECT count(*) {of_attempt} AND n <= coalesce(({this}), n)"
    return int(db.execute(query, (dispatch_id, attempt, call_id)).fetchone()[0])


def add_approval(db: sqlite3.Connection, item: Approval) -> None:
    """Store an approval request; it replaces one of an earlier attempt with the same id."""
    db.execute(
        "INSERT INTO approvals (dispatch_id, request_id, attempt, call, asked, deadline) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (dispatch_id, request_id) DO UPDATE SET attempt = excluded.attempt, call = excluded.call, "
        "asked = excluded.asked, deadline = excluded.deadline, outcome = '', answer = '' "
        "WHERE attempt < excluded.attempt",
        (item.dispatch_id, item.request_id, item.attempt, item.call, item.asked, item.deadline),
    )


def approval(db: sqlite3.Connection, dispatch_id: str, request_id: str) -> Approval | None:
    """Return one approval request."""
    rows = db.execute("SELECT * FROM approvals WHERE dispatch_id = ? AND request_id = ?", (dispatch_id, request_id))
    return one(Approval, rows.fetchone())


def open_approvals(db: sqlite3.Connection) -> list[Approval]:
    """Return the open approval requests, oldest first."""
    return all_of(Approval, db.execute("SELECT * FROM approvals WHERE outcome = '' ORDER BY asked").fetchall())


def waiting_approvals(
    db: sqlite3.Connection, now: int, *, limit: int, before: tuple[str, str] | None = None
) -> list[Approval]:
    """Return at most `limit` open requests whose time is not over, oldest first.

    `before`: the (dispatch_id, request_id) of the last one of the page before, which may be decided by now. Raises
    NotFound if there was never such a request, or it was removed.
    """
    after = (-1, "", "")
    if before is not None:
        last = approval(db, *before)
        if last is None:
            raise NotFound(f"the list does not contain {' '.join(before)!r:.80}", fix="start again from its first page")
        after = (last.asked, *before)
    rows = db.execute(
        "SELECT * FROM approvals WHERE outcome = '' AND deadline > ? AND (asked, dispatch_id, request_id) > (?, ?, ?) "
        "ORDER BY asked, dispatch_id, request_id LIMIT ?",
        (now, *after, limit),
    )
    return all_of(Approval, rows.fetchall())


def close_approval(db: sqlite3.Connection, dispatch_id: str, request_id: str, outcome: str, answer: str) -> bool:
    """Decide an open request; False if it was decided before, so that a request takes one answer only.

    What was asked is not kept: a run may ask as often as it likes, and the trace has the call within its bound.
    """
    done = db.execute(
        "UPDATE approvals SET outcome = ?, answer = ?, call = '' "
        "WHERE dispatch_id = ? AND request_id = ? AND outcome = ''",
        (outcome, answer, dispatch_id, request_id),
    )
    return done.rowcount == 1


def close_approvals(db: sqlite3.Connection, dispatch_id: str | None, outcome: str) -> None:
    """Close the open requests of a dispatch, or of all dispatches (None), when the run has ended."""
    if dispatch_id is None:
        db.execute("UPDATE approvals SET outcome = ?, call = '' WHERE outcome = ''", (outcome,))
    else:
        db.execute(
            "UPDATE approvals SET outcome = ?, call = '' WHERE outcome = '' AND dispatch_id = ?",
            (outcome, dispatch_id),
        )
