"""What is kept of dispatches, counted, and its removal from those that have ended. SQL only.

Which of them: peer/dispatches/retention.py. The table `held` is kept by triggers (schema/009_retention.sql).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from peer.dispatches.retention import Ended
from peer.protocol.documents import Direction
from peer.store import change_sets
from peer.store.rows import FileState


def held(db: sqlite3.Connection, peer: str, direction: str) -> int:
    """Return the bytes kept of all dispatches from (received) or to (sent) a user."""
    rows = db.execute("SELECT sum(bytes) FROM held WHERE peer = ? AND direction = ?", (peer, direction))
    return int(rows.fetchone()[0] or 0)


def held_of_ended(db: sqlite3.Connection) -> int:
    """Return the bytes kept of all dispatches that have ended."""
    return int(db.execute("SELECT sum(bytes) FROM held WHERE ended = 1").fetchone()[0] or 0)


def held_by_contact(db: sqlite3.Connection, *, more_than: int) -> list[tuple[str, Direction, int]]:
    """Return (user, direction, bytes) where more than so many bytes are kept."""
    rows = db.execute(
        "SELECT peer, direction, sum(bytes) FROM held GROUP BY peer, direction HAVING sum(bytes) > ?", (more_than,)
    )
    return rows.fetchall()


def ended(db: sqlite3.Connection, *, peer: str, direction: Direction) -> Iterator[Ended]:
    """Yield what has ended and can be thinned, oldest first: of one user and direction, or (`peer` "") of all.

    What has a statement in the outbox, a file that is awaited, or changes that wait for the person is left out. Read it
    before you write.
    """
    where = " AND d.peer = :peer AND d.direction = :direction" if peer else ""
    rows = db.execute(
        "SELECT d.dispatch_id, d.closed, d.trace_bytes + d.kept_bytes, d.direction = 'received' AND EXISTS ("
        "SELECT 1 FROM files f WHERE f.dispatch_id = d.dispatch_id AND f.role = 'returned' "
        f"AND f.ready = {FileState.READY:d} AND f.statement <> '') "
        f"FROM dispatches d WHERE d.closed > 0 AND d.trace_bytes + d.kept_bytes > 0{where} "
        "AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.dispatch_id = d.dispatch_id) "
        "AND NOT EXISTS (SELECT 1 FROM change_sets c WHERE c.dispatch_id = d.dispatch_id AND c.state = 'waiting') "
        "AND NOT EXISTS ("
        f"SELECT 1 FROM files f WHERE f.dispatch_id = d.dispatch_id AND f.ready = {FileState.AWAITED:d}) "
        "ORDER BY d.closed",
        {"peer": peer, "direction": direction},
    )
    for dispatch_id, closed, size, returned in rows:
        yield Ended(dispatch_id, closed, size, bool(returned))


def thin(db: sqlite3.Connection, dispatch_id: str, now: int) -> None:
    """Remove a dispatch's events and approvals, and record that the bytes of its files and change sets go."""
    change_sets.let_go(db, dispatch_id)
    for table in ("trace", "event_batches", "approvals"):
        db.execute(f"DELETE FROM {table} WHERE dispatch_id = ?", (dispatch_id,))
    db.execute(
        f"UPDATE files SET ready = {FileState.REMOVED:d} WHERE dispatch_id = ? AND ready = {FileState.READY:d}",
        (dispatch_id,),
    )
    # Both: what still counted after this would be chosen again, without end.
    db.execute(
        "UPDATE dispatches SET trace_bytes = 0, kept_bytes = 0, thinned = ? WHERE dispatch_id = ?", (now, dispatch_id)
    )
