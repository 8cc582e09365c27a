"""Dispatches and their files. SQL only; which state may follow which is the table in peer.dispatches."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from peer.protocol.statements import FileRef
from peer.store import history
from peer.store.rows import Dispatch, File, FileState, all_of, one

COLUMNS = (
    "dispatch_id, direction, edge_id, peer, device, state, raw, digest, task, created, expires, updated, attempt, "
    "interrupted, cwd, code, message, fix, decision, result"
)


def add(db: sqlite3.Connection, item: Dispatch) -> None:
    """Store a new dispatch, to be found by its words."""
    values = tuple(getattr(item, name) for name in COLUMNS.split(", "))
    marks = ", ".join("?" * len(values))
    db.execute(f"INSERT INTO dispatches ({COLUMNS}) VALUES ({marks})", values)
    history.add(db, item.dispatch_id, item.peer, item.task)


def get(db: sqlite3.Connection, dispatch_id: str) -> Dispatch | None:
    """Return the dispatch of this id."""
    return one(Dispatch, db.execute("SELECT * FROM dispatches WHERE dispatch_id = ?", (dispatch_id,)).fetchone())


def in_states(
    db: sqlite3.Connection, direction: str, states: Sequence[str], *, edge_id: str | None = None
) -> list[Dispatch]:
    """Return the dispatches of a direction that are in one of these states, oldest first."""
    marks = ", ".join("?" * len(states))
    where = " AND edge_id = ?" if edge_id else ""
    rows = db.execute(
        f"SELECT * FROM dispatches WHERE direction = ? AND state IN ({marks}){where} ORDER BY created",
        (direction, *states, *((edge_id,) if edge_id else ())),
    )
    return all_of(Dispatch, rows.fetchall())


def overdue(db: sqlite3.Connection, now: int) -> list[Dispatch]:
    """Return the dispatches that nobody accepted before they expired."""
    rows = db.execute(
        "SELECT * FROM dispatches WHERE state IN ('queued', 'arriving', 'pending') AND expires <= ? ORDER BY expires",
        (now,),
    )
    return all_of(Dispatch, rows.fetchall())


def next_expiry(db: sqlite3.Connection) -> int | None:
    """Return when (ms) the next undecided dispatch expires."""
    row = db.execute("SELECT min(expires) FROM dispatches WHERE state IN ('queued', 'arriving', 'pending')").fetchone()
    return None if row[0] is None else int(row[0])


def set_state(db: sqlite3.Connection, dispatch_id: str, state: str, now: int) -> None:
    """Set a dispatch's state; the caller asked the transition table."""
    db.execute("UPDATE dispatches SET state = ?, updated = ? WHERE dispatch_id = ?", (state, now, dispatch_id))


def set_reason(db: sqlite3.Connection, dispatch_id: str, *, code: int, message: str, fix: str) -> None:
    """Keep why a dispatch was rejected, declined or failed."""
    db.execute(
        "UPDATE dispatches SET code = ?, message = ?, fix = ? WHERE dispatch_id = ?", (code, message, fix, dispatch_id)
    )


def set_accepted(db: sqlite3.Connection, dispatch_id: str, *, attempt: int, cwd: str, decision: bytes) -> None:
    """Keep what an accept decided."""
    db.execute(
        "UPDATE dispatches SET attempt = ?, cwd = ?, decision = ? WHERE dispatch_id = ?",
        (attempt, cwd, decision, dispatch_id),
    )


def set_decision(db: sqlite3.Connection, dispatch_id: str, *, attempt: int, decision: bytes) -> None:
    """Keep the signed decision that decided it."""
    db.execute(
        "UPDATE dispatches SET attempt = ?, decision = ? WHERE dispatch_id = ?", (attempt, decision, dispatch_id)
    )


def set_result(db: sqlite3.Connection, dispatch_id: str, raw: bytes) -> None:
    """Keep the signed result, its reply to be found by its words."""
    db.execute("UPDATE dispatches SET result = ? WHERE dispatch_id = ?", (raw, dispatch_id))
    history.set_reply(db, dispatch_id, history.reply_of(raw))


def set_interrupted(db: sqlite3.Connection, dispatch_id: str, expires: int) -> None:
    """Note the interruption and the deadline that follows from it."""
    db.execute(
        "UPDATE dispatches SET interrupted = interrupted + 1, expires = ? WHERE dispatch_id = ?",
        (expires, dispatch_id),
    )


def set_expires(db: sqlite3.Connection, dispatch_id: str, expires: int) -> None:
    """Note the deadline that the other side told."""
    db.execute("UPDATE dispatches SET expires = ? WHERE dispatch_id = ?", (expires, dispatch_id))


def add_tombstone(db: sqlite3.Connection, device: str, dispatch_id: str, now: int) -> None:
    """Remember that a dispatch was cancelled before it came."""
    db.execute(
        "INSERT INTO tombstones (device, dispatch_id, at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (device, dispatch_id, now),
    )


def has_tombstone(db: sqlite3.Connection, device: str, dispatch_id: str) -> bool:
    """Say whether a dispatch was cancelled before it came."""
    found = db.execute("SELECT 1 FROM tombstones WHERE device = ? AND dispatch_id = ?", (device, dispatch_id))
    return found.fetchone() is not None


def add_files(
    db: sqlite3.Connection, dispatch_id: str, role: str, files: Sequence[FileRef], *, statement: str, ready: bool
) -> None:
    """Store the files that a statement names."""
    for position, item in enumerate(files):
        db.execute(
            "INSERT INTO files (dispatch_id, role, position, name, size, digest, statement, ready) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (dispatch_id, role, position, item.name, item.size, item.digest, statement, int(ready)),
        )


def files(db: sqlite3.Connection, dispatch_id: str, role: str) -> list[File]:
    """Return a dispatch's files of a role in order."""
    rows = db.execute("SELECT * FROM files WHERE dispatch_id = ? AND role = ? ORDER BY position", (dispatch_id, role))
    return all_of(File, rows.fetchall())


def awaited_files(db: sqlite3.Connection) -> list[tuple[str, File]]:
    """Return the files whose bytes are still to be pulled, each with the device to pull it from."""
    rows = db.execute(
        "SELECT d.device AS peer_device, f.* FROM files f JOIN dispatches d USING (dispatch_id) "
        f"WHERE f.ready = {FileState.AWAITED:d} "
        "AND d.state NOT IN ('cancelled', 'declined', 'expired', 'rejected') ORDER BY d.created, f.position"
    ).fetchall()
    return [
        (row["peer_device"], File(**{key: row[key] for key in row.keys() if key != "peer_device"}))  # noqa: SIM118
        for row in rows
    ]


def set_ready(db: sqlite3.Connection, item: File) -> int:
    """Note that a file's bytes are here; return how many of its role are still awaited."""
    db.execute(
        f"UPDATE files SET ready = {FileState.READY:d} WHERE dispatch_id = ? AND role = ? AND position = ?",
        (item.dispatch_id, item.role, item.position),
    )
    (left,) = db.execute(
        f"SELECT count(*) FROM files WHERE dispatch_id = ? AND role = ? AND ready = {FileState.AWAITED:d}",
        (item.dispatch_id, item.role),
    ).fetchone()
    return int(left)


def set_given_up(db: sqlite3.Connection, item: File) -> None:
    """Note that a file's bytes will not come."""
    db.execute(
        f"UPDATE files SET ready = {FileState.GIVEN_UP:d} "
        f"WHERE dispatch_id = ? AND role = ? AND position = ? AND ready = {FileState.AWAITED:d}",
        (item.dispatch_id, item.role, item.position),
    )


def give_up_awaited_returns(db: sqlite3.Connection, edge_id: str) -> None:
    """Note that what has not come yet of the files that were returned over an edge will not."""
    db.execute(
        f"UPDATE files SET ready = {FileState.GIVEN_UP:d} WHERE role = 'returned' AND ready = {FileState.AWAITED:d} "
        "AND dispatch_id IN (SELECT dispatch_id FROM dispatches WHERE edge_id = ? AND direction = 'sent')",
        (edge_id,),
    )


def may_pull(db: sqlite3.Connection, device: str, statement: str, digest: bytes) -> bool:
    """Say whether a statement that we signed to this device, and have not taken back, names this digest."""
    rows = db.execute(
        "SELECT 1 FROM files f JOIN dispatches d USING (dispatch_id) WHERE f.statement = ? AND f.digest = ? "
        f"AND d.device = ? AND f.ready = {FileState.READY:d} AND ((d.direction = 'sent' AND f.role = 'attachment' "
        "AND d.state NOT IN ('cancelled', 'rejected', 'declined')) "
        "OR (d.direction = 'received' AND f.role = 'returned'))",
        (statement, digest, device),
    )
    return rows.fetchone() is not None


def ready_digests(db: sqlite3.Connection) -> set[bytes]:
    """Return the digest of every file that a statement names and whose bytes are here, and worth their place.

    Attachments of what ended before it ran are not: its sender chose how much that is, and nobody will open them.
    """
    rows = db.execute(
        "SELECT DISTINCT f.digest FROM files f JOIN dispatches d USING (dispatch_id) "
        f"WHERE f.ready = {FileState.READY:d} AND NOT "
        "(d.direction = 'received' AND f.role = 'attachment' "
        "AND d.state IN ('cancelled', 'declined', 'expired', 'rejected'))"
    )
    return {bytes(row[0]) for row in rows}


def attached_bytes(db: sqlite3.Connection, edge_id: str, since: int) -> int:
    """Return how many bytes the dispatches of an edge carried that came since a time (ms) and never ran."""
    (found,) = db.execute(
        "SELECT sum(f.size) FROM dispatches d JOIN files f USING (dispatch_id) WHERE d.edge_id = ? "
        "AND d.direction = 'received' AND d.created >= ? AND d.attempt = 0 AND f.role = 'attachment'",
        (edge_id, since),
    ).fetchone()
    return int(found or 0)


def stop_serving_returned(db: sqlite3.Connection, dispatch_id: str) -> None:
    """Serve a dispatch's returned files to nobody any more; they stay here for this machine's person."""
    db.execute("UPDATE files SET statement = '' WHERE dispatch_id = ? AND role = 'returned'", (dispatch_id,))
