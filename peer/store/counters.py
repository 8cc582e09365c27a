"""Counters that never decrease, whatever the clock does. SQL only."""

from __future__ import annotations

import sqlite3

PRESENCE = "presence"
HELLO = "hello"


def next_after(db: sqlite3.Connection, name: str, least: int) -> int:
    """Return and store a number that is at least `least` and above all earlier ones of this counter."""
    row = db.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
    number = max(least, int(row[0]) + 1) if row else least
    db.execute(
        "INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, str(number)),
    )
    return number
