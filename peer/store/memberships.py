"""The newest membership that each device signed. SQL only; which one may be kept is decided in steps."""

from __future__ import annotations

import sqlite3

from peer.store.rows import Membership, one


def newest(db: sqlite3.Connection, device: str) -> Membership | None:
    """Return the membership with the highest counter that is known of a device."""
    return one(Membership, db.execute("SELECT * FROM memberships WHERE device = ?", (device,)).fetchone())


def keep(db: sqlite3.Connection, item: Membership) -> None:
    """Store a device's membership in the place of an earlier one."""
    db.execute(
        "INSERT INTO memberships (device, user_id, root, counter, standing, sealing_key, raw) "
        "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (device) DO UPDATE SET user_id = excluded.user_id, "
        "root = excluded.root, counter = excluded.counter, standing = excluded.standing, "
        "sealing_key = excluded.sealing_key, raw = excluded.raw",
        (item.device, item.user_id, item.root, item.counter, item.standing, item.sealing_key, item.raw),
    )
