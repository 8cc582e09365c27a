"""SQL on whole accounts, for the operator: listing, removing, releasing. What people do with theirs: accounts.py."""

from __future__ import annotations

from rendezvous.storage.errors import NoSuchAccount
from rendezvous.storage.limits import StorageLimits
from rendezvous.storage.rows import AccountSummary, Removed
from rendezvous.storage.sql import accounts, invitations
from rendezvous.storage.sql.connection import Connection


def summaries(db: Connection, *, after: str, most: int, now: int) -> tuple[AccountSummary, ...]:
    """Return accounts in the order of their user ids."""
    rows = db.execute(
        "SELECT user_id, created FROM users WHERE user_id > ? ORDER BY user_id LIMIT ?", (after, most)
    ).fetchall()
    return tuple(_summary(db, user_id, created, now) for user_id, created in rows)


def summary(db: Connection, user_id: str, now: int) -> AccountSummary | None:
    """Return one account."""
    row = db.execute("SELECT created FROM users WHERE user_id = ?", (user_id,)).fetchone()
    return None if row is None else _summary(db, user_id, row["created"], now)


def _summary(db: Connection, user_id: str, created: int, now: int) -> AccountSummary:
    devices = db.execute(
        "SELECT d.device, p.expires FROM devices d LEFT JOIN presence p ON p.user_id = d.user_id"
        " AND p.device = d.device AND p.box IS NOT NULL AND p.expires > ? WHERE d.user_id = ? ORDER BY d.device",
        (now, user_id),
    ).fetchall()
    return AccountSummary(
        user_id=user_id,
        created=created,
        devices={row["device"]: row["expires"] for row in devices},
        kept_bytes=accounts.kept_bytes(db, user_id),
    )


def remove(db: Connection, user_id: str) -> Removed:
    """Delete what is kept for an address, and what names it."""
    devices = db.execute("SELECT count(*) FROM devices WHERE user_id = ?", (user_id,)).fetchone()[0]
    sent = db.execute("DELETE FROM invitations WHERE inviter = ?", (user_id,)).rowcount
    received = db.execute("DELETE FROM invitations WHERE invitee = ?", (user_id,)).rowcount
    _end_sign_ins_and_presence(db, user_id)
    db.execute("DELETE FROM memberships WHERE user_id = ?", (user_id,))
    db.execute("DELETE FROM versions WHERE user_id = ?", (user_id,))
    account = db.execute("DELETE FROM users WHERE user_id = ?", (user_id,)).rowcount
    db.note_change(user_id)
    return Removed(account=bool(account), devices=devices, invitations_sent=sent, invitations_received=received)


def release(db: Connection, user_id: str, now: int, *, limits: StorageLimits) -> tuple[str, ...]:
    """Free an address for another root key."""
    if accounts.account(db, user_id) is None:
        raise NoSuchAccount(user_id)
    # An acceptance of one of these would be sealed to devices that nobody has any more.
    pending = db.execute(
        "SELECT token FROM invitations WHERE inviter = ? AND status = 'pending' AND expires > ? ORDER BY token",
        (user_id, now),
    ).fetchall()
    withdrawn = tuple(invitations.withdraw(db, user_id, token, now, limits=limits).invitee for (token,) in pending)
    _end_sign_ins_and_presence(db, user_id)
    db.execute("DELETE FROM users WHERE user_id = ?", (user_id,))
    db.note_change(user_id)
    return withdrawn


def _end_sign_ins_and_presence(db: Connection, user_id: str) -> None:
    db.execute("DELETE FROM logins WHERE user_id = ?", (user_id,))
    db.execute("DELETE FROM presence WHERE user_id = ?", (user_id,))
