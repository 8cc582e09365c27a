"""The durable outbox of statements for other devices, and the record of received statements. SQL only.

A statement enters the outbox in the transaction of the change that it reports, and leaves it with the final
acknowledgement. `seen` records every received statement with its acknowledgement, beyond its expiry: the same bytes get
the same acknowledgement again, and other bytes under the same id are refused. A record is only deleted once its
statement is too old to be accepted again.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection

from peer.store.rows import QueuedStatement, Seen, one


def put(
    db: sqlite3.Connection,
    *,
    device: str,
    kind: str,
    raw: bytes,
    now: int,
    priority: int = 1,
    ordering: str = "",
    edge_id: str = "",
    dispatch_id: str = "",
) -> None:
    """Queue a signed statement for a device."""
    db.execute(
        "INSERT INTO outbox (device, kind, priority, ordering, edge_id, dispatch_id, raw, created, head) "
        "VALUES (:device, :kind, :priority, :ordering, :edge_id, :dispatch_id, :raw, :created, "
        ":ordering = '' OR NOT EXISTS (SELECT 1 FROM outbox WHERE device = :device AND ordering = :ordering))",
        {
            "device": device,
            "kind": kind,
            "priority": priority,
            "ordering": ordering,
            "edge_id": edge_id,
            "dispatch_id": dispatch_id,
            "raw": raw,
            "created": now,
        },
    )


def next_for(
    db: sqlite3.Connection,
    device: str,
    *,
    excluded_numbers: Collection[int] = (),
    excluded_orderings: Collection[str] = (),
) -> QueuedStatement | None:
    """Return the next statement for a device: by priority, then by age, only the oldest of each ordering.

    Statements excluded by number or by ordering are in flight or waiting for a retry.
    """
    # Only heads are examined (`head` in rows.py), so the exclusions bound the work, not the queue's length.
    rows = db.execute(
        "SELECT * FROM outbox WHERE device = :device AND head = 1 "
        "AND n NOT IN (SELECT value FROM json_each(:numbers)) "
        "AND ordering NOT IN (SELECT value FROM json_each(:orderings)) "
        "ORDER BY priority, n LIMIT 1",
        {
            "device": device,
            "numbers": json.dumps(list(excluded_numbers)),
            "orderings": json.dumps(list(excluded_orderings)),
        },
    )
    return one(QueuedStatement, rows.fetchone())


def others_wait(db: sqlite3.Connection, device: str, numbers: Collection[int]) -> bool:
    """Return whether statements for a device are queued besides those with these numbers."""
    # One row more than the exclusions is looked at, at most.
    row = db.execute(
        "SELECT EXISTS (SELECT 1 FROM outbox WHERE device = ? AND n NOT IN (SELECT value FROM json_each(?)))",
        (device, json.dumps(list(numbers))),
    )
    return bool(row.fetchone()[0])


def get(db: sqlite3.Connection, n: int) -> QueuedStatement | None:
    """Return the queued statement with this number."""
    return one(QueuedStatement, db.execute("SELECT * FROM outbox WHERE n = ?", (n,)).fetchone())


def drop(db: sqlite3.Connection, n: int) -> None:
    """Remove a statement that was finally acknowledged."""
    db.execute("DELETE FROM outbox WHERE n = ?", (n,))


def waiting_devices(db: sqlite3.Connection) -> list[str]:
    """Return the devices with queued statements."""
    return [row[0] for row in db.execute("SELECT DISTINCT device FROM outbox")]


def purge_edge(db: sqlite3.Connection, edge_id: str) -> None:
    """Remove all queued statements of an edge; the caller queues the revocation afterwards."""
    db.execute("DELETE FROM outbox WHERE edge_id = ?", (edge_id,))


def purge_dispatch(db: sqlite3.Connection, dispatch_id: str) -> None:
    """Remove all queued statements about a dispatch."""
    db.execute("DELETE FROM outbox WHERE dispatch_id = ?", (dispatch_id,))


def purge_kind(db: sqlite3.Connection, dispatch_id: str, kind: str) -> None:
    """Remove the queued statements of one type about a dispatch."""
    db.execute("DELETE FROM outbox WHERE dispatch_id = ? AND kind = ?", (dispatch_id, kind))


def seen(db: sqlite3.Connection, device: str, statement_id: str) -> Seen | None:
    """Return the record of a statement that was received before."""
    rows = db.execute("SELECT * FROM seen WHERE device = ? AND statement_id = ?", (device, statement_id))
    return one(Seen, rows.fetchone())


def remember(db: sqlite3.Connection, entry: Seen) -> None:
    """Record a received statement and its acknowledgement."""
    db.execute(
        "INSERT INTO seen (device, statement_id, digest, code, message, fix, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (entry.device, entry.statement_id, entry.digest, entry.code, entry.message, entry.fix, entry.at),
    )


def remembered(db: sqlite3.Connection, device: str) -> int:
    """Return how many statements of a device are recorded."""
    row = db.execute("SELECT count FROM remembered WHERE device = ?", (device,)).fetchone()
    return 0 if row is None else int(row[0])


def forget(db: sqlite3.Connection, *, before: int, most: int) -> None:
    """Delete up to `most` records of statements received before this time, and up to `most` tombstones."""
    for table, key in (("seen", "statement_id"), ("tombstones", "dispatch_id")):
        db.execute(
            f"DELETE FROM {table} WHERE (device, {key}) IN (SELECT device, {key} FROM {table} WHERE at < ? LIMIT ?)",
            (before, most),
        )


def purge_device(db: sqlite3.Connection, device: str) -> None:
    """Remove all queued statements for a device."""
    db.execute("DELETE FROM outbox WHERE device = ?", (device,))
