"""SQL on sealed presence, one row a device."""

from __future__ import annotations

from rendezvous.storage.errors import OldAnnouncement
from rendezvous.storage.rows import Announcement, Author
from rendezvous.storage.sql.connection import Connection


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


def of_user(db: Connection, user_id: str, now: int) -> tuple[Announcement, ...]:
    """Return a user's unexpired announcements: those of current devices, since a claim deletes the others'."""
    rows = db.execute(
        "SELECT device, seq, expires, box FROM presence"
        " WHERE user_id = ? AND expires > ? AND box IS NOT NULL ORDER BY device",
        (user_id, now),
    )
    return tuple(Announcement(*row) for row in rows)
