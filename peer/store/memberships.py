"""The newest membership that each device signed. SQL only; peer.steps decides which may be stored."""

from __future__ import annotations

import sqlite3

from peer.store.rows import Membership, one


def newest(db: sqlite3.Connection, device: str) -> Membership | None:
    """Return the stored membership of a device, the one with the highest counter."""
    return one(Membership, db.execute("SELECT * FROM memberships WHERE device = ?", (device,)).fetchone())


def keep(db: sqlite3.Connection, item: Membership) -> None:
    """Store a device's membership, replacing an earlier one."""
    db.execute(
        "INSERT INTO memberships (device, user_id, root, counter, standing, sealing_key, raw) "
        "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (device) DO UPDATE SET user_id = excluded.user_id, "
        "root = excluded.root, counter = excluded.counter, standing = excluded.standing, "
        "sealing_key = excluded.sealing_key, raw = excluded.raw",
        (item.device, item.user_id, item.root, item.counter, item.standing, item.sealing_key, item.raw),
    )
