"""Throwing away what is past its time, and counting what is left."""

# ruff: noqa: S608 - only column and table names of this file are put into SQL; values are always bound

from __future__ import annotations

import sqlite3

DAY_MS = 24 * 3600 * 1000
PRESENCE_KEPT_MS = 15 * 60 * 1000
"""A withdrawn or expired announcement leaves its seq behind for longer than a signed request can be replayed."""


def purge(db: sqlite3.Connection, now: int) -> int:
    """Delete expired rows and return how many."""
    return sum(
        db.execute(f"DELETE FROM {table} WHERE {column} <= ?", (limit,)).rowcount
        for table, column, limit in (
            ("logins", "expires", now),
            ("nonces", "expires", now),
            ("presence", "expires", now - PRESENCE_KEPT_MS),
            ("invitations", "purge_after", now),
            ("mails", "at", now - DAY_MS),
        )
    )


def counts(db: sqlite3.Connection, now: int) -> dict[str, int]:
    """Return the numbers that /metrics shows."""
    queries = {
        "users": "SELECT count(*) FROM users",
        "devices": "SELECT count(*) FROM devices",
        "devices_present": "SELECT count(*) FROM presence WHERE box IS NOT NULL AND expires > ?",
        "invitations_open": "SELECT count(*) FROM invitations WHERE status = 'pending' AND expires > ?",
        "logins_pending": "SELECT count(*) FROM logins WHERE state = 'pending' AND expires > ?",
    }
    return {
        name: int(db.execute(query, (now,) if "?" in query else ()).fetchone()[0]) for name, query in queries.items()
    }
