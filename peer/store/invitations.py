"""Invitations sent and received, and writes that the broker has not confirmed. SQL only."""

from __future__ import annotations

import sqlite3

from peer.store.rows import BrokerWrite, Invitation, all_of, one


def add(db: sqlite3.Connection, item: Invitation) -> None:
    """Store an invitation; an existing one is unchanged."""
    db.execute(
        "INSERT INTO invitations (token, direction, peer, raw, secret, verified, status, emailed, created, expires) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            item.token,
            item.direction,
            item.peer,
            item.raw,
            item.secret,
            item.verified,
            item.status,
            item.emailed,
            item.created,
            item.expires,
        ),
    )


def get(db: sqlite3.Connection, token: str) -> Invitation | None:
    """Return the invitation with this token."""
    return one(Invitation, db.execute("SELECT * FROM invitations WHERE token = ?", (token,)).fetchone())


def every(db: sqlite3.Connection) -> list[Invitation]:
    """Return all invitations, newest first."""
    return all_of(Invitation, db.execute("SELECT * FROM invitations ORDER BY created DESC").fetchall())


def open_to(db: sqlite3.Connection, peer: str, now: int) -> Invitation | None:
    """Return the invitation to this user that is still open."""
    rows = db.execute(
        "SELECT * FROM invitations WHERE direction = 'sent' AND peer = ? AND status = 'open' AND expires > ? LIMIT 1",
        (peer, now),
    )
    return one(Invitation, rows.fetchone())


def count_open_received(db: sqlite3.Connection, now: int) -> int:
    """Return how many received invitations wait for an answer."""
    (count,) = db.execute(
        "SELECT count(*) FROM invitations WHERE direction = 'received' AND status = 'open' AND expires > ?", (now,)
    ).fetchone()
    return int(count)


def forget_received(db: sqlite3.Connection, *, before: int) -> None:
    """Delete received invitations that expired before this time and led to no edge."""
    db.execute(
        "DELETE FROM invitations WHERE direction = 'received' AND expires < ? "
        "AND status IN ('expired', 'withdrawn', 'declined')",
        (before,),
    )


def forget_ended(db: sqlite3.Connection, *, keep: int) -> None:
    """Delete received invitations that led to no edge, but for the `keep` newest."""
    db.execute(
        "DELETE FROM invitations WHERE token IN (SELECT token FROM invitations WHERE direction = 'received' "
        "AND status IN ('expired', 'withdrawn', 'declined') ORDER BY created DESC LIMIT -1 OFFSET ?)",
        (keep,),
    )


def set_status(db: sqlite3.Connection, token: str, status: str) -> None:
    """Set an invitation's status; the caller has checked the transition."""
    db.execute("UPDATE invitations SET status = ? WHERE token = ?", (status, token))


def set_mailed(db: sqlite3.Connection, token: str, *, emailed: bool) -> None:
    """Record whether the broker mailed a sent invitation."""
    db.execute("UPDATE invitations SET emailed = ? WHERE token = ?", (int(emailed), token))


def set_secret(db: sqlite3.Connection, token: str, secret: bytes) -> None:
    """Store the secret of a received invitation that was opened by its address, after the digest was checked."""
    db.execute("UPDATE invitations SET secret = ?, verified = 1 WHERE token = ?", (secret, token))


def queue_broker_write(db: sqlite3.Connection, action: str, token: str, body: bytes, now: int) -> None:
    """Queue a write for the broker until the broker confirms it."""
    db.execute(
        "INSERT INTO broker_outbox (action, token, body, created) VALUES (?, ?, ?, ?)", (action, token, body, now)
    )


def broker_writes(db: sqlite3.Connection) -> list[BrokerWrite]:
    """Return the writes that the broker has not confirmed, oldest first."""
    return all_of(BrokerWrite, db.execute("SELECT * FROM broker_outbox ORDER BY n LIMIT 100").fetchall())


def drop_broker_write(db: sqlite3.Connection, n: int) -> None:
    """Remove a write that the broker confirmed or refused finally."""
    db.execute("DELETE FROM broker_outbox WHERE n = ?", (n,))
