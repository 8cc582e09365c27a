"""Dispatches and their files. SQL only; the transition tables are in peer/dispatches/lifecycle.py."""

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
    """Store a new dispatch and index its text."""
    values = tuple(getattr(item, name) for name in COLUMNS.split(", "))
    marks = ", ".join("?" * len(values))
    db.execute(f"INSERT INTO dispatches ({COLUMNS}) VALUES ({marks})", values)
    history.add(db, item.dispatch_id, item.peer, item.task)


def get(db: sqlite3.Connection, dispatch_id: str) -> Dispatch | None:
    """Return the dispatch with this id."""
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
    """Return the undecided dispatches whose deadline has passed."""
    rows = db.execute(
        "SELECT * FROM dispatches WHERE state IN ('queued', 'arriving', 'pending') AND expires <= ? ORDER BY expires",
        (now,),
    )
    return all_of(Dispatch, rows.fetchall())


def next_expiry(db: sqlite3.Connection) -> int | None:
    """Return when (ms) the next undecided dispatch expires."""
    row = db.execute("SELECT min(expires) FROM dispatches WHERE state IN ('queued', 'arriving', 'pending')").fetchone()
    return None if row[0] is None else int(row[0])


def set_state(db: sqlite3.Connection, dispatch_id: str, state: str, now: int, *, ended: bool) -> None:
    """Set a dispatch's state; the caller has checked the transition. `ended`: whether it is a final one."""
    # Reports that arrive after the end do not make it later: they would keep a dispatch from ever growing old.
    db.execute(
        "UPDATE dispatches SET state = :state, updated = :now, "
        "closed = CASE WHEN :ended THEN CASE closed WHEN 0 THEN :now ELSE closed END ELSE 0 END "
        "WHERE dispatch_id = :dispatch_id",
        {"state": state, "now": now, "ended": ended, "dispatch_id": dispatch_id},
    )


def set_result_delivered(db: sqlite3.Connection, dispatch_id: str, now: int) -> None:
    """Record that the sender has the result of an ended dispatch: from now on it may fetch the returned files."""
    db.execute("UPDATE dispatches SET closed = ? WHERE dispatch_id = ? AND closed > 0", (now, dispatch_id))


def set_reason(db: sqlite3.Connection, dispatch_id: str, *, code: int, message: str, fix: str) -> None:
    """Store why a dispatch was rejected, declined or failed."""
    db.execute(
        "UPDATE dispatches SET code = ?, message = ?, fix = ? WHERE dispatch_id = ?", (code, message, fix, dispatch_id)
    )


def set_accepted(
    db: sqlite3.Connection, dispatch_id: str, *, attempt: int, cwd: str, git_folder: str, decision: bytes
) -> None:
    """Store the attempt, the folders (see rows.Dispatch) and the signed decision of an accept."""
    db.execute(
        "UPDATE dispatches SET attempt = ?, cwd = ?, git_folder = ?, decision = ? WHERE dispatch_id = ?",
        (attempt, cwd, git_folder, decision, dispatch_id),
    )


def set_decision(db: sqlite3.Connection, dispatch_id: str, *, attempt: int, decision: bytes) -> None:
    """Store the attempt and the signed decision."""
    db.execute(
        "UPDATE dispatches SET attempt = ?, decision = ? WHERE dispatch_id = ?", (attempt, decision, dispatch_id)
    )


def set_result(db: sqlite3.Connection, dispatch_id: str, raw: bytes) -> None:
    """Store the signed result and index its reply."""
    db.execute("UPDATE dispatches SET result = ? WHERE dispatch_id = ?", (raw, dispatch_id))
    history.set_reply(db, dispatch_id, history.reply_of(raw))


def set_interrupted(db: sqlite3.Connection, dispatch_id: str, expires: int) -> None:
    """Count an interruption and store the new deadline."""
    db.execute(
        "UPDATE dispatches SET interrupted = interrupted + 1, expires = ? WHERE dispatch_id = ?",
        (expires, dispatch_id),
    )


def set_expires(db: sqlite3.Connection, dispatch_id: str, expires: int) -> None:
    """Store the deadline that the other side reported."""
    db.execute("UPDATE dispatches SET expires = ? WHERE dispatch_id = ?", (expires, dispatch_id))


def add_tombstone(db: sqlite3.Connection, device: str, dispatch_id: str, now: int) -> None:
    """Record that a dispatch was cancelled before it arrived."""
    db.execute(
        "INSERT INTO tombstones (device, dispatch_id, at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (device, dispatch_id, now),
    )


def has_tombstone(db: sqlite3.Connection, device: str, dispatch_id: str) -> bool:
    """Return whether a dispatch was cancelled before it arrived."""
    found = db.execute("SELECT 1 FROM tombstones WHERE device = ? AND dispatch_id = ?", (device, dispatch_id))
    return found.fetchone() is not None


def add_files(
    db: sqlite3.Connection, dispatch_id: str, role: str, files: Sequence[FileRef], *, statement: str, ready: bool
) -> None:
    """Store the files that a statement refers to."""
    for position, item in enumerate(files):
        db.execute(
            "INSERT INTO files (dispatch_id, role, position, name, size, digest, statement, ready) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (dispatch_id, role, position, item.name, item.size, item.digest, statement, int(ready)),
        )


def files(db: sqlite3.Connection, dispatch_id: str, role: str) -> list[File]:
    """Return a dispatch's files with this role (attachment or returned), in order."""
    rows = db.execute("SELECT * FROM files WHERE dispatch_id = ? AND role = ? ORDER BY position", (dispatch_id, role))
    return all_of(File, rows.fetchall())


def awaited_files(db: sqlite3.Connection) -> list[tuple[str, File]]:
    """Return the files whose bytes are still to be fetched, each with the device to fetch it from."""
    rows = db.execute(
        "SELECT d.device AS peer_device, f.* FROM files f JOIN dispatches d USING (dispatch_id) "
        f"WHERE f.ready = {FileState.AWAITED:d} "
        "AND d.state NOT IN ('cancelled', 'declined', 'expired', 'rejected') ORDER BY d.created, f.position"
    ).fetchall()
    return [
        (row["peer_device"], File(**{key: row[key] for key in row.keys() if key != "peer_device"}))  # noqa: SIM118
        for row in rows
    ]


def set_ready(db: sqlite3.Connection, item: File) -> int | None:
    """Record that a file's bytes are here; return how many files of its role are still awaited.

    None, and nothing is recorded, if this one is not awaited any more: then its bytes are let go.
    """
    changed = db.execute(
        f"UPDATE files SET ready = {FileState.READY:d} "
        f"WHERE dispatch_id = ? AND role = ? AND position = ? AND ready = {FileState.AWAITED:d}",
        (item.dispatch_id, item.role, item.position),
    )
    if not changed.rowcount:
        db.execute("INSERT INTO freed_blobs (digest) VALUES (?) ON CONFLICT (digest) DO NOTHING", (item.digest,))
        return None
    (left,) = db.execute(
        f"SELECT count(*) FROM files WHERE dispatch_id = ? AND role = ? AND ready = {FileState.AWAITED:d}",
        (item.dispatch_id, item.role),
    ).fetchone()
    return int(left)


def let_go_attachments(db: sqlite3.Connection, dispatch_id: str) -> None:
    """Record that a dispatch's attachments will not be opened any more. Their bytes: freed()."""
    db.execute(
        f"UPDATE files SET ready = CASE ready WHEN {FileState.READY:d} THEN {FileState.REMOVED:d} "
        f"ELSE {FileState.GIVEN_UP:d} END WHERE dispatch_id = ? AND role = 'attachment' AND ready >= 0",
        (dispatch_id,),
    )


def freed(db: sqlite3.Connection, most: int) -> list[tuple[bytes, bool]]:
    """Return digests that a row has let go, and of each whether another row still needs it."""
    rows = db.execute(
        "SELECT digest, EXISTS (SELECT 1 FROM files f WHERE f.digest = g.digest AND f.ready >= 0) "
        "FROM freed_blobs g LIMIT ?",
        (most,),
    )
    return [(bytes(digest), bool(needed)) for digest, needed in rows]


def drop_freed(db: sqlite3.Connection, digest: bytes) -> None:
    """Record that a digest was looked at."""
    db.execute("DELETE FROM freed_blobs WHERE digest = ?", (digest,))


def set_given_up(db: sqlite3.Connection, item: File) -> None:
    """Record that an awaited file will not be fetched any more."""
    db.execute(
        f"UPDATE files SET ready = {FileState.GIVEN_UP:d} "
        f"WHERE dispatch_id = ? AND role = ? AND position = ? AND ready = {FileState.AWAITED:d}",
        (item.dispatch_id, item.role, item.position),
    )


def give_up_awaited_returns(db: sqlite3.Connection, edge_id: str) -> None:
    """Record that the awaited returned files of an edge's dispatches will not be fetched any more."""
    db.execute(
        f"UPDATE files SET ready = {FileState.GIVEN_UP:d} WHERE role = 'returned' AND ready = {FileState.AWAITED:d} "
        "AND dispatch_id IN (SELECT dispatch_id FROM dispatches WHERE edge_id = ? AND direction = 'sent')",
        (edge_id,),
    )


def may_pull(db: sqlite3.Connection, device: str, statement: str, digest: bytes) -> bool:
    """Return whether a statement of ours to this device, that is still in force, refers to this digest."""
    rows = db.execute(
        "SELECT 1 FROM files f JOIN dispatches d USING (dispatch_id) WHERE f.statement = ? AND f.statement <> '' "
        "AND f.digest = ? "
        f"AND d.device = ? AND f.ready = {FileState.READY:d} AND ((d.direction = 'sent' AND f.role = 'attachment' "
        "AND d.state NOT IN ('cancelled', 'rejected', 'declined')) "
        "OR (d.direction = 'received' AND f.role = 'returned'))",
        (statement, digest, device),
    )
    return rows.fetchone() is not None


def ready_digests(db: sqlite3.Connection) -> set[bytes]:
    """Return the digests of all files whose bytes are here."""
    rows = db.execute(f"SELECT DISTINCT digest FROM files WHERE ready = {FileState.READY:d}")
    return {bytes(row[0]) for row in rows}


def attached_bytes(db: sqlite3.Connection, edge_id: str, since: int) -> int:
    """Return the total size of the attachments of an edge's dispatches since a time (ms) that have not run."""
    (found,) = db.execute(
        "SELECT sum(f.size) FROM dispatches d JOIN files f USING (dispatch_id) WHERE d.edge_id = ? "
        "AND d.direction = 'received' AND d.created >= ? AND d.attempt = 0 AND f.role = 'attachment'",
        (edge_id, since),
    ).fetchone()
    return int(found or 0)


def take_returned(db: sqlite3.Connection, dispatch_id: str) -> list[FileRef]:
    """Remove the rows of a dispatch's returned files, and return what they say.

    Their bytes go unless the transaction stores the files again.
    """
    found = files(db, dispatch_id, "returned")
    db.execute("DELETE FROM files WHERE dispatch_id = ? AND role = 'returned'", (dispatch_id,))
    return [FileRef(item.name, item.size, item.digest) for item in found]


def stop_serving_returned(db: sqlite3.Connection, dispatch_id: str) -> None:
    """Stop serving a dispatch's returned files to its sender; they stay on this machine."""
    db.execute("UPDATE files SET statement = '' WHERE dispatch_id = ? AND role = 'returned'", (dispatch_id,))
