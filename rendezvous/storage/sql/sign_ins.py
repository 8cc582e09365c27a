"""SQL on sign-ins under way. The accounts they end in: accounts.py."""

# ruff: noqa: S608 - only column names of this file are put into SQL; values are always bound

from __future__ import annotations

from peer.protocol.errors import Conflict
from rendezvous.storage.errors import NoSuchSignIn, TooManySignIns, UserCodeTaken
from rendezvous.storage.limits import StorageLimits
from rendezvous.storage.rows import AccountClaim, Poll, PollOutcome, SignIn, SignInStatus
from rendezvous.storage.rules import poll_interval, sign_in_mail_quotas
from rendezvous.storage.sql import accounts
from rendezvous.storage.sql.connection import Connection, Row

COLUMNS = "user_code, user_id, device, device_name, device_set, address, state, reason, expires"


def open_one(
    db: Connection, sign_in: SignIn, *, device_code: bytes, interval: int, now: int, limits: StorageLimits
) -> None:
    """Insert a sign-in. Raises TooManySignIns, UserCodeTaken."""
    in_all, from_one = db.execute(
        "SELECT count(*), count(*) FILTER (WHERE user_id = ? AND address = ?) FROM logins WHERE expires > ?",
        (sign_in.user_id, sign_in.address, now),
    ).fetchone()
    if from_one >= limits.open_sign_ins_from_one:
        raise TooManySignIns
    if in_all >= limits.open_sign_ins:
        db.execute("DELETE FROM logins WHERE expires <= ?", (now,))
        db.execute(
            "DELETE FROM logins WHERE device_code = (SELECT device_code FROM logins WHERE address ="
            " (SELECT address FROM logins GROUP BY address ORDER BY count(*) DESC, min(created), address LIMIT 1)"
            " ORDER BY created, device_code LIMIT 1)"
        )
    stored = db.execute(
        f"INSERT INTO logins ({COLUMNS}, device_code, interval_ms, next_poll, created)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING 1",
        (
            sign_in.user_code,
            sign_in.user_id,
            sign_in.device,
            sign_in.device_name,
            sign_in.device_set,
            sign_in.address,
            sign_in.status.value,
            sign_in.reason,
            sign_in.expires,
            device_code,
            interval,
            now,
            now,
        ),
    ).fetchone()
    if stored is None:
        raise UserCodeTaken


def by_user_code(db: Connection, user_code: str, now: int) -> SignIn | None:
    """Return the unexpired sign-in with this user code."""
    found = db.execute(f"SELECT {COLUMNS} FROM logins WHERE user_code = ? AND expires > ?", (user_code, now))
    row = found.fetchone()
    return _sign_in(row) if row else None


def by_mail_token(db: Connection, mail_token: bytes, now: int) -> SignIn | None:
    """Return the unexpired sign-in with this mail token."""
    found = db.execute(f"SELECT {COLUMNS} FROM logins WHERE mail_token = ? AND expires > ?", (mail_token, now))
    row = found.fetchone()
    return _sign_in(row) if row else None


def reserve_mail(db: Connection, user_code: str, mail_token: bytes, now: int, *, limits: StorageLimits) -> bool:
    """Replace the mail token of a pending sign-in and count its mail. Raises NoSuchSignIn."""
    sign_in = by_user_code(db, user_code, now)
    if sign_in is None or sign_in.status is not SignInStatus.PENDING:
        raise NoSuchSignIn
    if not accounts.count_mail(db, sign_in_mail_quotas(sign_in, limits), now):
        mailed = "user_id = ? AND mail_token IS NOT NULL AND state = 'pending' AND expires > ?"
        if db.execute(f"SELECT 1 FROM logins WHERE {mailed}", (sign_in.user_id, now)).fetchone():
            return False
    db.execute("UPDATE logins SET mail_token = ? WHERE user_code = ?", (mail_token, user_code))
    return True


def forget_mail_token(db: Connection, mail_token: bytes) -> None:
    """Remove a mail token from its sign-in."""
    db.execute("UPDATE logins SET mail_token = NULL WHERE mail_token = ?", (mail_token,))


def count_wrong_code(db: Connection, mail_token: bytes, *, most: int) -> bool:
    """Count a wrong code, of which number `most` denies the sign-in; True when it is not pending afterwards."""
    row = db.execute(
        "UPDATE logins SET attempts = attempts + 1,"
        " state = CASE WHEN attempts + 1 >= ? THEN 'denied' ELSE state END,"
        " reason = CASE WHEN attempts + 1 >= ? THEN 'the code was mistyped too often' ELSE reason END"
        " WHERE mail_token = ? AND state = 'pending' RETURNING state",
        (most, most, mail_token),
    ).fetchone()
    return row is None or row["state"] != SignInStatus.PENDING.value


def approve(db: Connection, user_code: str, claim: AccountClaim, now: int) -> SignIn:
    """Approve a pending sign-in with its claim, or deny it when the claim is refused. Raises NoSuchSignIn."""
    sign_in = by_user_code(db, user_code, now)
    if sign_in is None:
        raise NoSuchSignIn
    if sign_in.status is not SignInStatus.PENDING:
        return sign_in
    status, reason = SignInStatus.APPROVED, ""
    try:
        accounts.claim(db, claim, now)
    except Conflict as refusal:
        status, reason = SignInStatus.DENIED, refusal.message
    row = db.execute(
        f"UPDATE logins SET state = ?, reason = ? WHERE user_code = ? RETURNING {COLUMNS}",
        (status.value, reason, user_code),
    ).fetchone()
    return _sign_in(row)


def deny(db: Connection, user_code: str, reason: str) -> None:
    """Deny a pending sign-in."""
    db.execute(
        "UPDATE logins SET state = 'denied', reason = ? WHERE user_code = ? AND state = 'pending'", (reason, user_code)
    )


def poll(db: Connection, device_code: bytes, now: int) -> Poll:
    """Answer a poll, and forget a sign-in that was decided."""
    row = db.execute(
        f"SELECT {COLUMNS}, interval_ms, next_poll FROM logins WHERE device_code = ? AND expires > ?",
        (device_code, now),
    ).fetchone()
    if row is None:
        return Poll(PollOutcome.EXPIRED_TOKEN, None)
    sign_in = _sign_in(row)
    if sign_in.status is not SignInStatus.PENDING:
        db.execute("DELETE FROM logins WHERE device_code = ?", (device_code,))
        approved = sign_in.status is SignInStatus.APPROVED
        return Poll(PollOutcome.APPROVED if approved else PollOutcome.ACCESS_DENIED, sign_in)
    early, interval = poll_interval(row["interval_ms"], next_poll=row["next_poll"], now=now)
    db.execute(
        "UPDATE logins SET interval_ms = ?, next_poll = ? WHERE device_code = ?",
        (interval, now + interval, device_code),
    )
    return Poll(PollOutcome.SLOW_DOWN if early else PollOutcome.AUTHORIZATION_PENDING, sign_in)


def _sign_in(row: Row) -> SignIn:
    return SignIn(
        user_code=row["user_code"],
        user_id=row["user_id"],
        device=row["device"],
        device_name=row["device_name"],
        device_set=row["device_set"],
        address=row["address"],
        status=SignInStatus(row["state"]),
        reason=row["reason"],
        expires=row["expires"],
    )
