"""SQL on users, their devices, used nonces and counted mails. Sign-ins under way: sign_ins.py."""

from __future__ import annotations

from collections.abc import Mapping

from rendezvous.storage.errors import NonceUsed, UnknownDevice, UnknownUser
from rendezvous.storage.limits import DAY_MS
from rendezvous.storage.rows import Account, AccountClaim, Author, Caller
from rendezvous.storage.rules import ROW_BYTES, check_claim, membership_holds
from rendezvous.storage.sql.connection import Connection

KEPT_BY_ACCOUNT = {
    "users": "SELECT coalesce(sum(? + length(device_set)), 0) FROM users WHERE user_id = ?",
    "presence": "SELECT coalesce(sum(? + coalesce(length(box), 0)), 0) FROM presence WHERE user_id = ?",
    "memberships": "SELECT ? * count(*) FROM memberships WHERE user_id = ?",
    "invitations": "SELECT coalesce(sum(? + length(statement)), 0) FROM invitations WHERE inviter = ?",
    "answers": "SELECT coalesce(sum(? + length(a.sealed)), 0)"
    " FROM invitations i JOIN answers a USING (token) WHERE i.invitee = ?",
}
"""By table, the bytes of a user's rows, given ROW_BYTES and the user id. Of a blob the length alone is read."""
BOUNDED_OTHERWISE = {
    "devices": "at most those of the device-set",
    "logins": "StorageLimits.open_sign_ins, for ten minutes each",
    "nonces": "a device's rate of writes, for ten minutes each",
    "mails": "the daily quotas",
    "versions": "one for each account and for whom an invitation that is kept names",
}
"""Every other table, with what bounds its rows."""


def account(db: Connection, user_id: str) -> Account | None:
    """Return the account of a user id, or None."""
    row = db.execute("SELECT root, epoch, device_set FROM users WHERE user_id = ?", (user_id,)).fetchone()
    return Account(*row) if row else None


def claim(db: Connection, wanted: AccountClaim, now: int) -> None:
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
        "DELETE FROM presence WHERE user_id = ? AND device NOT IN (SELECT device FROM devices WHERE user_id = ?)",
        (wanted.user_id, wanted.user_id),
    )


def require_device(db: Connection, caller: Caller | Author) -> None:
    """Raise UnknownUser for a user who never signed in here, UnknownDevice for a device that is not in their set."""
    member = "SELECT 1 FROM devices WHERE user_id = ? AND device = ?"
    if db.execute(member, (caller.user_id, caller.device)).fetchone():
        return
    if account(db, caller.user_id) is None:
        raise UnknownUser(caller.user_id)
    raise UnknownDevice(caller.user_id)


def use_nonce(db: Connection, author: Author) -> None:
    """Keep the author's nonce until it expires. Raises NonceUsed."""
    done = db.execute(
        "INSERT INTO nonces (device, nonce, expires) VALUES (?, ?, ?) ON CONFLICT DO NOTHING RETURNING 1",
        (author.device, author.nonce, author.nonce_expires),
    ).fetchone()
    if done is None:
        raise NonceUsed


def count_mail(db: Connection, quotas: Mapping[str, int], now: int) -> bool:
    """Count a mail under its quotas, each a number a day, and return True; or return False when one is used up."""
    used = "SELECT count(*) FROM mails WHERE quota = ? AND at > ?"
    if any(db.execute(used, (name, now - DAY_MS)).fetchone()[0] >= most for name, most in quotas.items()):
        return False
    db.executemany("INSERT INTO mails (quota, at) VALUES (?, ?)", [(name, now) for name in quotas])
    return True


def kept_bytes(db: Connection, user_id: str) -> int:
    """Return the bytes that are kept for an account (rules.check_kept)."""
    return int(db.execute(_KEPT_IN_ALL, (ROW_BYTES, user_id) * len(KEPT_BY_ACCOUNT)).fetchone()[0])


_KEPT_IN_ALL = f"SELECT {' + '.join(f'({query})' for query in KEPT_BY_ACCOUNT.values())}"
