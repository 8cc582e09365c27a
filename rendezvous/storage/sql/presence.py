"""SQL on sealed presence, one row a device."""

from __future__ import annotations

from collections.abc import Iterable

from rendezvous.storage.errors import OldAnnouncement
from rendezvous.storage.rows import Announcement, Author
from rendezvous.storage.sql.connection import Connection, Row


def put(db: Connection, author: Author, *, seq: int, expires: int, box: bytes | None) -> None:
    """Replace a device's announcement. Withdrawn (None), its row stays, so that `seq` cannot go back."""
    done = db.execute(
        "INSERT INTO presence (user_id, device, seq, expires, box) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (user_id, device) DO UPDATE SET seq = excluded.seq, expires = excluded.expires,"
        " box = excluded.box WHERE excluded.seq > presence.seq RETURNING 1",
        (author.user_id, author.device, seq, expires, box),
    ).fetchone()
    if done is None:
        raise OldAnnouncement


OF_USER = (
    "SELECT p.device, p.seq, p.expires, p.box FROM devices d"
    " LEFT JOIN presence p ON p.user_id = ? AND p.expires > ? AND p.box IS NOT NULL"
    " WHERE d.user_id = ? AND d.device = ? ORDER BY p.device"
)
"""A user's unexpired announcements: those of current devices, since a claim deletes the others'. One row without a
device where there is none; no row at all unless the caller's device is a user's. Values: the user, the time, the
caller's user and device."""


def announcements(rows: Iterable[Row]) -> tuple[Announcement, ...]:
    """Return what OF_USER found."""
    return tuple(Announcement(*row) for row in rows if row[0] is not None)
