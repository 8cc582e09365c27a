"""Numbers that must never go back, whatever the clock does. SQL only."""

from __future__ import annotations

import sqlite3

PRESENCE = "presence"
HELLO = "hello"


def next_after(db: sqlite3.Connection, name: str, least: int) -> int:
    """Return a number above every one given out under this name before, and at least `least`; remember it."""
    row = db.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
    number = max(least, int(row[0]) + 1) if row else least
    db.execute(
        "INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, str(number)),
    )
    return number
