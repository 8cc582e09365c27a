"""Invitations sent and received, and writes that the broker has not confirmed. SQL only."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from peer.store.rows import BrokerWrite, Invitation, all_of, one


def add(db: sqlite3.Connection, item: Invitation) -> None:
    """Store an invitation; an existing one is unchanged."""
    db.execute(
        "INSERT INTO invitations (token, direction, peer, raw, secret, verified, status, emailed, created, expires, "
        "broker) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
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
            item.broker,
        ),
    )


def get(db: sqlite3.Connection, token: str) -> Invitation | None:
    """Return the invitation with this token."""
    return one(Invitation, db.execute("SELECT * FROM invitations WHERE token = ?", (token,)).fetchone())


def every(db: sqlite3.Connection) -> list[Invitation]:
    """Return all invitations, newest first."""
    return all_of(Invitation, db.execute("SELECT * FROM invitations ORDER BY created DESC").fetchall())


def overdue(db: sqlite3.Connection, now: int) -> list[Invitation]:
    """Return the open invitations that have expired."""
    rows = db.execute("SELECT * FROM invitations WHERE status = 'open' AND expires <= ?", (now,))
    return all_of(Invitation, rows.fetchall())


def open_to(db: sqlite3.Connection, peer: str, now: int, at: Sequence[str] | None = None) -> Invitation | None:
    """Return the newest invitation to this user that is still open, at one of these brokers or (None) at any."""
    rows = db.execute(
        "SELECT * FROM invitations WHERE direction = 'sent' AND peer = ?1 AND status = 'open' AND expires > ?2 "
        "AND (?3 IS NULL OR broker IN (SELECT value FROM json_each(?3))) ORDER BY created DESC LIMIT 1",
        (peer, now, None if at is None else json.dumps(list(at))),
    )
    return one(Invitation, rows.fetchone())


def count_open_received(db: sqlite3.Connection, now: int, broker: str) -> int:
    """Return how many invitations that were received from a broker wait for an answer."""
    (count,) = db.execute(
        "SELECT count(*) FROM invitations WHERE direction = 'received' AND status = 'open' AND expires > ? "
        "AND broker = ?",
        (now, broker),
    ).fetchone()
    return int(count)


def met_at(db: sqlite3.Connection, peer: str) -> set[str]:
    """Return the brokers through which this user and a contact found each other."""
    found = db.execute(
        "SELECT DISTINCT broker FROM invitations WHERE peer = ? AND status = 'accepted' AND broker != ''", (peer,)
    )
    return {row[0] for row in found}


def assign_broker(db: sqlite3.Connection, broker: str) -> None:
    """Name the broker of what was stored while there could be one only."""
    db.execute("UPDATE invitations SET broker = ? WHERE broker = ''", (broker,))
    db.execute("UPDATE broker_outbox SET broker = ? WHERE broker = ''", (broker,))


def forget_received(db: sqlite3.Connection, *, before: int) -> None:
    """Delete received invitations that expired before this time and led to no edge."""
    db.execute(
        "DELETE FROM invitations WHERE direction = 'received' AND expires < ? "
        "AND status IN ('expired', 'withdrawn', 'declined')",
        (before,),
    )


def forget_ended(db: sqlite3.Connection, *, broker: str, keep: int) -> None:
    """Delete received invitations of a broker that led to no edge, but for the `keep` newest."""
    db.execute(
        "DELETE FROM invitations WHERE token IN (SELECT token FROM invitations WHERE direction = 'received' "
        "AND status IN ('expired', 'withdrawn', 'declined') AND broker = ? ORDER BY created DESC LIMIT -1 OFFSET ?)",
        (broker, keep),
    )


def set_status(db: sqlite3.Connection, token: str, status: str) -> None:
    """Set an invitation's status; the caller has checked the transition."""
    db.execute("UPDATE invitations SET status = ? WHERE token = ?", (status, token))


def set_mailed(db: sqlite3.Connection, token: str, *, emailed: bool) -> None:
    """Record whether the broker mailed a sent invitation."""
    db.execute("UPDATE invitations SET emailed = ? WHERE token = ?", (int(emailed), token))


def set_fetched(db: sqlite3.Connection, token: str, at: int) -> None:
    """Record when (ms) a device of the invited person first fetched a sent invitation."""
    db.execute("UPDATE invitations SET fetched = ? WHERE token = ?", (at, token))


def set_other_key(db: sqlite3.Connection, token: str) -> None:
    """Record that a sent invitation was answered under another root key than the pinned one."""
    db.execute("UPDATE invitations SET other_key = 1 WHERE token = ?", (token,))


def set_secret(db: sqlite3.Connection, token: str, secret: bytes) -> None:
    """Store the secret of a received invitation that was opened by its address, after the digest was checked."""
    db.execute("UPDATE invitations SET secret = ?, verified = 1 WHERE token = ?", (secret, token))


def queue_broker_write(db: sqlite3.Connection, broker: str, action: str, token: str, body: bytes, now: int) -> None:
    """Queue a write for a broker until that broker confirms it."""
    db.execute(
        "INSERT INTO broker_outbox (broker, action, token, body, created) VALUES (?, ?, ?, ?, ?)",
        (broker, action, token, body, now),
    )


def broker_writes(db: sqlite3.Connection, broker: str) -> list[BrokerWrite]:
    """Return the writes that a broker has not confirmed, oldest first."""
    return all_of(
        BrokerWrite,
        db.execute("SELECT * FROM broker_outbox WHERE broker = ? ORDER BY n LIMIT 100", (broker,)).fetchall(),
    )


def drop_broker_write(db: sqlite3.Connection, n: int) -> None:
    """Remove a write that its broker confirmed or refused finally."""
    db.execute("DELETE FROM broker_outbox WHERE n = ?", (n,))


def drop_writes_of(db: sqlite3.Connection, token: str) -> None:
    """Remove all writes about an invitation that wait for its broker."""
    db.execute("DELETE FROM broker_outbox WHERE token = ?", (token,))


def waiting_at(db: sqlite3.Connection) -> dict[str, int]:
    """Return how many writes wait for each broker."""
    return dict(db.execute("SELECT broker, count(*) FROM broker_outbox GROUP BY broker").fetchall())


def drop_writes_to(db: sqlite3.Connection, broker: str) -> None:
    """Remove all writes that wait for a broker."""
    db.execute("DELETE FROM broker_outbox WHERE broker = ?", (broker,))


def drop_writes_to_others(db: sqlite3.Connection, brokers: Sequence[str], *, before: int) -> None:
    """Remove the writes from before this time that wait for brokers other than these."""
    db.execute(
        "DELETE FROM broker_outbox WHERE created < ? AND broker NOT IN (SELECT value FROM json_each(?))",
        (before, json.dumps(list(brokers))),
    )


def open_at(db: sqlite3.Connection, broker: str, now: int) -> list[Invitation]:
    """Return the invitations that were posted at a broker and are still open, sent and received."""
    found = db.execute(
        "SELECT * FROM invitations WHERE broker = ? AND status = 'open' AND expires > ? ORDER BY created", (broker, now)
    )
    return all_of(Invitation, found.fetchall())
