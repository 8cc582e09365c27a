"""Deleting what is past its time, and counting what is left."""

# ruff: noqa: S608 - only table and column names of this file are put into SQL; values are always bound

from __future__ import annotations

from rendezvous.storage.limits import DAY_MS, StorageLimits
from rendezvous.storage.rows import Counts
from rendezvous.storage.sql.connection import Connection


def purge(db: Connection, now: int, *, limits: StorageLimits) -> int:
    """Delete expired rows and return how many."""
    deleted = sum(
        db.execute(f"DELETE FROM {table} WHERE {column} <= ?", (limit,)).rowcount
        for table, column, limit in (
            ("logins", "expires", now),
            ("nonces", "expires", now),
            ("presence", "expires", now - limits.presence_kept),
            ("invitations", "purge_after", now),
            ("mails", "at", now - DAY_MS),
        )
    )
    # An account's version stays: its devices know it, and one that began anew would hide changes from them.
    return (
        deleted
        + db.execute(
            "DELETE FROM versions WHERE NOT EXISTS (SELECT 1 FROM users u WHERE u.user_id = versions.user_id)"
            " AND NOT EXISTS (SELECT 1 FROM invitations i WHERE i.inviter = versions.user_id)"
            " AND NOT EXISTS (SELECT 1 FROM invitations i WHERE i.invitee = versions.user_id)"
        ).rowcount
    )


def counts(db: Connection, now: int) -> Counts:
    """Return the numbers that /metrics shows."""

    def count(what: str, *values: int) -> int:
        return int(db.execute(f"SELECT count(*) FROM {what}", values).fetchone()[0])

    return Counts(
        users=count("users"),
        devices=count("devices"),
        devices_present=count("presence WHERE box IS NOT NULL AND expires > ?", now),
        invitations_open=count("invitations WHERE status = 'pending' AND expires > ?", now),
        sign_ins_pending=count("logins WHERE state = 'pending' AND expires > ?", now),
    )
