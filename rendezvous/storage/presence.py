"""Sealed presence, one row a device. The box is opaque here."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from peer.protocol.errors import Conflict


@dataclass(frozen=True, slots=True)
class Present:
    """One device's announcement; `expires` in milliseconds since the epoch."""

    device: str
    seq: int
    expires: int
    box: bytes


def put(db: sqlite3.Connection, user_id: str, device: str, *, seq: int, expires: int, box: bytes | None) -> None:
    """Replace a device's announcement (None: withdraw it). Raises Conflict unless `seq` grew."""
    done = db.execute(
        "INSERT INTO presence (user_id, device, seq, expires, box) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (user_id, device) DO UPDATE SET seq = excluded.seq, expires = excluded.expires,"
        " box = excluded.box WHERE excluded.seq > presence.seq RETURNING 1",
        (user_id, device, seq, expires, box),
    ).fetchone()
    if done is None:
        raise Conflict("a newer announcement of this device is already here", fix="check this machine's clock")


def of_user(db: sqlite3.Connection, user_id: str, now: int) -> list[Present]:
    """Return the live announcements of a user's current devices."""
    rows = db.execute(
        "SELECT p.device, p.seq, p.expires, p.box FROM presence p JOIN devices d USING (user_id, device)"
        " WHERE p.user_id = ? AND p.expires > ? AND p.box IS NOT NULL ORDER BY p.device",
        (user_id, now),
    )
    return [Present(*row) for row in rows]
