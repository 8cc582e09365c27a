"""SQL on users, their devices, used nonces and counted mails. Sign-ins under way: sign_ins.py."""

from __future__ import annotations

import sqlite3

from rendezvous.storage.errors import NonceUsed, UnknownDevice, UnknownUser
from rendezvous.storage.limits import DAY_MS
from rendezvous.storage.rows import Account, AccountClaim, Author, Caller
from rendezvous.storage.rules import check_claim, membership_holds


def account(db: sqlite3.Connection, user_id: str) -> Account | None:
    """Return the account of a user id, or None."""
    row = db.execute("SELECT root, epoch, device_set FROM users WHERE user_id = ?", (user_id,)).fetchone()
    return Account(*row) if row else None


def claim(db: sqlite3.Connection, wanted: AccountClaim, now: int) -> None:
    """Make the account, or bring its device-set up to date. Raises OtherRoot, OldDeviceSet before it writes."""
    check_claim(account(db, wanted.user_id), wanted)
    db.execute(
        "INSERT INTO users (user_id, root, epoch, device_set, created) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (user_id) DO UPDATE SET epoch = excluded.epoch, device_set = excluded.device_set",
        (wanted.user_id, wanted.root, wanted.epoch, wanted.device_set, now),
    )
    db.execute("DELETE FROM devices WHERE user_id = ?", (wanted.user_id,))
    for device, counter in wanted.devices.items():
        found = db.execute("SELECT user_id, counter FROM memberships WHERE device = ?", (device,)).fetchone()
        if not membership_holds(found and tuple(found), wanted.user_id, counter):
            continue  # it went over to another user since this device-set was signed
        db.execute(
            "INSERT INTO memberships (device, user_id, counter) VALUES (?, ?, ?) ON CONFLICT (device) DO UPDATE SET"
            " user_id = excluded.user_id, counter = excluded.counter",
            (device, wanted.user_id, counter),
        )
        db.execute("DELETE FROM devices WHERE device = ?", (device,))
        db.execute("DELETE FROM presence WHERE device = ? AND user_id != ?", (device, wanted.user_id))
        db.execute("INSERT INTO devices (user_id, device) VALUES (?, ?)", (wanted.user_id, device))
    db.execute(
        "DELETE FROM presence WHERE user_id = ?1 AND device NOT IN (SELECT device FROM devices WHERE user_id = ?1)",
        (wanted.user_id,),
    )


def require_device(db: sqlite3.Connection, caller: Caller | Author) -> None:
    """Raise UnknownUser for a user who never signed in here, UnknownDevice for a device that is not in their set."""
    member = "SELECT 1 FROM devices WHERE user_id = ? AND device = ?"
    if db.execute(member, (caller.user_id, caller.device)).fetchone():
        return
    if account(db, caller.user_id) is None:
        raise UnknownUser(caller.user_id)
    raise UnknownDevice(caller.user_id)


def use_nonce(db: sqlite3.Connection, author: Author) -> None:
    """Keep the author's nonce until it expires. Raises NonceUsed."""
    done = db.execute(
        "INSERT INTO nonces (device, nonce, expires) VALUES (?, ?, ?) ON CONFLICT DO NOTHING RETURNING 1",
        (author.device, author.nonce, author.nonce_expires),
    ).fetchone()
    if done is None:
        raise NonceUsed


def reserve_mail(
    db: sqlite3.Connection, *, recipient: str, sender: str, per_recipient: int, per_sender: int, now: int
) -> bool:
    """Count a mail and return True, or return False when one of the daily quotas is used up."""
    since = now - DAY_MS
    (to_them,) = db.execute("SELECT count(*) FROM mails WHERE recipient = ? AND at > ?", (recipient, since)).fetchone()
    (by_them,) = db.execute("SELECT count(*) FROM mails WHERE sender = ? AND at > ?", (sender, since)).fetchone()
    if to_them >= per_recipient or by_them >= per_sender:
        return False
    db.execute("INSERT INTO mails (recipient, sender, at) VALUES (?, ?, ?)", (recipient, sender, now))
    return True
