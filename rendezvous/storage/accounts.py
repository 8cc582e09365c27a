"""Users and their device-sets, sign-ins under way, used nonces, mails sent. No invitations, no presence."""

# ruff: noqa: S608 - only column and table names of this file are put into SQL; values are always bound

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any, Literal

from peer.protocol.errors import Conflict, Forbidden, RateLimited, Unauthorized

MAX_OPEN_LOGINS = 10_000
MAX_OPEN_LOGINS_FROM_ONE = 10
"""For one user from one address: counted by user alone, anybody could keep somebody else from signing in."""
MAX_CODE_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Account:
    """A user whose e-mail is claimed: root public key (32 bytes), device-set epoch and bytes."""

    user_id: str
    root: bytes
    epoch: int
    device_set: bytes


@dataclass(frozen=True, slots=True)
class Claim:
    """What a device asks for at sign-in, taken from its checked device-set."""

    user_id: str
    root: bytes
    epoch: int
    device_set: bytes
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Login:
    """One sign-in under way. Times in milliseconds since the epoch."""

    user_code: str
    user_id: str
    device: str
    device_name: str
    device_set: bytes
    address: str
    state: Literal["pending", "approved", "denied"]
    reason: str
    expires: int


LOGIN_COLUMNS = "user_code, user_id, device, device_name, device_set, address, state, reason, expires"


def account(db: sqlite3.Connection, user_id: str) -> Account | None:
    """Return the account of a user id, or None."""
    row = db.execute("SELECT user_id, root, epoch, device_set FROM users WHERE user_id = ?", (user_id,)).fetchone()
    return Account(*row) if row else None


def check_claim(db: sqlite3.Connection, claim: Claim) -> None:
    """Raise Conflict when another root holds the e-mail, or when the device-set is older than, or a fork of, ours."""
    known = account(db, claim.user_id)
    if known is None:
        return
    if known.root != claim.root:
        raise Conflict(
            f"{claim.user_id} is already claimed by another root key: a first sign-in on another device made one",
            fix="sign in on the device that made it; a second device joins there, it is never a second identity",
        )
    if claim.epoch < known.epoch or (claim.epoch == known.epoch and claim.device_set != known.device_set):
        raise Conflict(
            f"this device brings an older list of {claim.user_id}'s devices than the broker has",
            fix="let this device meet your other devices once, then sign in again",
        )


def claim(db: sqlite3.Connection, wanted: Claim, now: int) -> None:
    """Make the account, or bring its device-set up to date. Raises Conflict as `check_claim`."""
    check_claim(db, wanted)
    db.execute(
        "INSERT INTO users (user_id, root, epoch, device_set, created) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (user_id) DO UPDATE SET epoch = excluded.epoch, device_set = excluded.device_set",
        (wanted.user_id, wanted.root, wanted.epoch, wanted.device_set, now),
    )
    db.execute("DELETE FROM devices WHERE user_id = ?", (wanted.user_id,))
    db.executemany("INSERT INTO devices (user_id, device) VALUES (?, ?)", [(wanted.user_id, d) for d in wanted.devices])
    db.execute(
        "DELETE FROM presence WHERE user_id = ?1 AND device NOT IN (SELECT device FROM devices WHERE user_id = ?1)",
        (wanted.user_id,),
    )


def require_device(db: sqlite3.Connection, user_id: str, device: str) -> None:
    """Raise Unauthorized for a user who never signed in here, Forbidden for a device that is not in their set."""
    if db.execute("SELECT 1 FROM devices WHERE user_id = ? AND device = ?", (user_id, device)).fetchone():
        return
    if account(db, user_id) is None:
        raise Unauthorized(f"{user_id} has not signed in at this broker")
    raise Forbidden(
        f"this device is not among {user_id}'s devices any more", fix="sign in again, or look at `dispatch whoami`"
    )


def use_nonce(db: sqlite3.Connection, device: str, nonce: str, expires: int) -> None:
    """Remember a nonce until `expires`. Raises Conflict when it was used before."""
    done = db.execute(
        "INSERT INTO nonces (device, nonce, expires) VALUES (?, ?, ?) ON CONFLICT DO NOTHING RETURNING 1",
        (device, nonce, expires),
    ).fetchone()
    if done is None:
        raise Conflict("this request was already used once", fix="the client makes a fresh one: repeat the command")


def open_login(
    db: sqlite3.Connection,
    login: Login,
    *,
    device_code: bytes,
    interval_ms: int,
    now: int,
) -> bool:
    """Store a new sign-in; False when its user code is taken (the caller draws another). Raises RateLimited."""
    open_now, mine = db.execute(
        "SELECT count(*), coalesce(sum(user_id = ? AND address = ?), 0) FROM logins WHERE expires > ?",
        (login.user_id, login.address, now),
    ).fetchone()
    if open_now >= MAX_OPEN_LOGINS or mine >= MAX_OPEN_LOGINS_FROM_ONE:
        raise RateLimited("too many sign-ins are waiting for approval", fix="try again in ten minutes")
    stored = db.execute(
        f"INSERT INTO logins ({LOGIN_COLUMNS}, device_code, interval_ms, next_poll, created)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING 1",
        (
            login.user_code,
            login.user_id,
            login.device,
            login.device_name,
            login.device_set,
            login.address,
            login.state,
            login.reason,
            login.expires,
            device_code,
            interval_ms,
            now,
            now,
        ),
    ).fetchone()
    return stored is not None


def login_by_user_code(db: sqlite3.Connection, user_code: str, now: int) -> Login | None:
    """Return the unexpired sign-in with this user code."""
    row = db.execute(f"SELECT {LOGIN_COLUMNS} FROM logins WHERE user_code = ? AND expires > ?", (user_code, now))
    return _login(row.fetchone())


def login_by_mail_token(db: sqlite3.Connection, mail_token: bytes, now: int) -> Login | None:
    """Return the unexpired sign-in that was mailed with this token (its SHA-256)."""
    row = db.execute(f"SELECT {LOGIN_COLUMNS} FROM logins WHERE mail_token = ? AND expires > ?", (mail_token, now))
    return _login(row.fetchone())


def set_mail_token(db: sqlite3.Connection, user_code: str, mail_token: bytes) -> None:
    """Let the mailed page of this token, and no earlier one, approve the sign-in."""
    db.execute("UPDATE logins SET mail_token = ? WHERE user_code = ? AND state = 'pending'", (mail_token, user_code))


def count_attempt(db: sqlite3.Connection, mail_token: bytes) -> bool:
    """Count one wrong code on a mailed page; at the last allowed one the sign-in is denied and True returned."""
    row = db.execute(
        "UPDATE logins SET attempts = attempts + 1,"
        " state = CASE WHEN attempts + 1 >= ?1 THEN 'denied' ELSE state END,"
        " reason = CASE WHEN attempts + 1 >= ?1 THEN 'the code was mistyped too often' ELSE reason END"
        " WHERE mail_token = ?2 AND state = 'pending' RETURNING attempts",
        (MAX_CODE_ATTEMPTS, mail_token),
    ).fetchone()
    return row is None or row["attempts"] >= MAX_CODE_ATTEMPTS


def approve(db: sqlite3.Connection, user_code: str, wanted: Claim, now: int) -> str:
    """Approve a pending sign-in and claim the e-mail with it; return "" or the reason why it is denied instead."""
    try:
        claim(db, wanted, now)
        state, reason = "approved", ""
    except Conflict as conflict:
        # check_claim raises before anything is written, so the refusal itself can be stored here.
        state, reason = "denied", conflict.message
    db.execute(
        "UPDATE logins SET state = ?, reason = ? WHERE user_code = ? AND state = 'pending'", (state, reason, user_code)
    )
    return reason


def deny(db: sqlite3.Connection, user_code: str, reason: str) -> None:
    """Deny a pending sign-in."""
    db.execute(
        "UPDATE logins SET state = 'denied', reason = ? WHERE user_code = ? AND state = 'pending'", (reason, user_code)
    )


def poll(db: sqlite3.Connection, device_code: bytes, now: int) -> tuple[str, Login | None]:
    """Answer one poll of RFC 8628 3.5: ("ok" | an error code of that RFC, the sign-in or None).

    An approved or denied sign-in is handed out once and forgotten.
    """
    row = db.execute(
        f"SELECT {LOGIN_COLUMNS}, interval_ms, next_poll FROM logins WHERE device_code = ?", (device_code,)
    ).fetchone()
    if row is None or row["expires"] <= now:
        return "expired_token", None
    login = _login(row[:9])
    if row["state"] != "pending":
        db.execute("DELETE FROM logins WHERE device_code = ?", (device_code,))
        return ("ok" if row["state"] == "approved" else "access_denied"), login
    # 200 ms of grace: a client that waits exactly the interval must not be told to slow down for timer noise.
    early = now + 200 < row["next_poll"]
    interval = row["interval_ms"] + (5_000 if early else 0)
    db.execute(
        "UPDATE logins SET interval_ms = ?, next_poll = ? WHERE device_code = ?",
        (interval, now + interval, device_code),
    )
    return ("slow_down" if early else "authorization_pending"), login


def may_mail(
    db: sqlite3.Connection, *, recipient: str, sender: str, now: int, per_recipient: int, per_sender: int
) -> bool:
    """Record a mail about to be sent and return True, unless one of the daily limits is reached."""
    since = now - 24 * 3600 * 1000
    (to_them,) = db.execute("SELECT count(*) FROM mails WHERE recipient = ? AND at > ?", (recipient, since)).fetchone()
    (by_them,) = db.execute("SELECT count(*) FROM mails WHERE sender = ? AND at > ?", (sender, since)).fetchone()
    if to_them >= per_recipient or by_them >= per_sender:
        return False
    db.execute("INSERT INTO mails (recipient, sender, at) VALUES (?, ?, ?)", (recipient, sender, now))
    return True


def _login(row: Any) -> Login | None:
    return Login(*row) if row else None
