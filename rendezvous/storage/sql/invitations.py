"""SQL on invitations, their sealed answers, and users' versions, which grow with every change to one of theirs."""

# ruff: noqa: S608 - only column names of this file are put into SQL; values are always bound

from __future__ import annotations

from collections.abc import Sequence

from rendezvous.storage.errors import (
    AlreadyAnswered,
    InvitationExpired,
    InvitationIdTaken,
    InvitationWithdrawn,
    NoSuchInvitation,
    OtherDeviceSet,
    TooManyInvitationsReceived,
    TooManyInvitationsSent,
)
from rendezvous.storage.limits import StorageLimits
from rendezvous.storage.rows import (
    Caller,
    InvitationAnswer,
    InvitationChanges,
    InvitationStatus,
    NewInvitation,
    PostedInvitation,
    StoredInvitation,
)
from rendezvous.storage.sql import accounts
from rendezvous.storage.sql.connection import Connection, Row

COLUMNS = "token, inviter, invitee, statement, status, created, expires, answered, mailed, fetched"


def post(
    db: Connection, inviter: str, invitation: NewInvitation, now: int, *, limits: StorageLimits
) -> PostedInvitation:
    """Insert an invitation, unless one is open already or a bound is reached."""
    known = accounts.account(db, inviter)
    if known is None or known.device_set != invitation.device_set:
        raise OtherDeviceSet
    row = db.execute("SELECT statement FROM invitations WHERE token = ?", (invitation.token,)).fetchone()
    if row is not None:
        if row["statement"] == invitation.statement:
            return PostedInvitation(invitation.token, new=False)
        raise InvitationIdTaken
    row = db.execute(
        "SELECT token FROM invitations WHERE inviter = ? AND invitee = ? AND status = 'pending' AND expires > ?",
        (inviter, invitation.invitee, now),
    ).fetchone()
    if row is not None:
        return PostedInvitation(row["token"], new=False)
    open_sent, open_received = (
        db.execute(
            f"SELECT count(*) FROM invitations WHERE {side} = ? AND status = 'pending' AND expires > ?", (who, now)
        ).fetchone()[0]
        for side, who in (("inviter", inviter), ("invitee", invitation.invitee))
    )
    if open_sent >= limits.open_invitations_sent:
        raise TooManyInvitationsSent(limits.open_invitations_sent)
    if open_received >= limits.open_invitations_received:
        raise TooManyInvitationsReceived(invitation.invitee)
    db.execute(
        "INSERT INTO invitations (token, inviter, invitee, statement, status, created, expires, inviter_version,"
        " invitee_version, purge_after) VALUES (?, ?, ?, ?, 'pending', ?, ?, ?, ?, ?)",
        (
            invitation.token,
            inviter,
            invitation.invitee,
            invitation.statement,
            invitation.created,
            invitation.expires,
            _next_version(db, inviter, now),
            _next_version(db, invitation.invitee, now),
            invitation.expires + limits.invitation_kept,
        ),
    )
    return PostedInvitation(invitation.token, new=True)


def answer(
    db: Connection, invitee: str, given: InvitationAnswer, now: int, *, limits: StorageLimits
) -> StoredInvitation:
    """Answer a pending invitation, once."""
    done = db.execute(
        "UPDATE invitations SET status = ?, answered = ?, answer_digest = ?, purge_after = ?"
        f" WHERE token = ? AND invitee = ? AND status = 'pending' AND expires > ? RETURNING {COLUMNS}",
        (given.decision.value, now, given.digest, now + limits.invitation_kept, given.token, invitee, now),
    ).fetchone()
    if done is not None:
        db.executemany(
            "INSERT INTO answers (token, device, sealed) VALUES (?, ?, ?)",
            [(given.token, device, box) for device, box in given.sealed.items()],
        )
        _touch(db, given.token, done["inviter"], invitee, now)
        return _invitation(done)
    row = db.execute(
        f"SELECT {COLUMNS}, answer_digest FROM invitations WHERE token = ? AND invitee = ?", (given.token, invitee)
    ).fetchone()
    if row is None:
        raise NoSuchInvitation
    if row["answer_digest"] == given.digest:
        return _invitation(row)
    if row["answer_digest"] is not None:
        raise AlreadyAnswered
    if row["status"] == InvitationStatus.WITHDRAWN.value:
        raise InvitationWithdrawn
    raise InvitationExpired


def withdraw(db: Connection, inviter: str, token: str, now: int, *, limits: StorageLimits) -> StoredInvitation:
    """Withdraw a pending invitation."""
    row = db.execute(f"SELECT {COLUMNS} FROM invitations WHERE token = ? AND inviter = ?", (token, inviter)).fetchone()
    if row is None:
        raise NoSuchInvitation
    known = _invitation(row)
    if known.status is InvitationStatus.WITHDRAWN:
        return known
    if known.status is not InvitationStatus.PENDING:
        raise AlreadyAnswered(fix="see `dispatch contacts`")
    if known.expires <= now:
        raise InvitationExpired
    row = db.execute(
        f"UPDATE invitations SET status = 'withdrawn', purge_after = ? WHERE token = ? RETURNING {COLUMNS}",
        (now + limits.invitation_kept, token),
    ).fetchone()
    _touch(db, token, inviter, known.invitee, now)
    return _invitation(row)


def one(db: Connection, caller: Caller, token: str) -> StoredInvitation:
    """Return an invitation to its inviter or its invitee."""
    row = db.execute(
        f"SELECT {COLUMNS} FROM invitations WHERE token = ? AND ? IN (inviter, invitee)", (token, caller.user_id)
    ).fetchone()
    if row is None:
        raise NoSuchInvitation
    sealed = db.execute("SELECT sealed FROM answers WHERE token = ? AND device = ?", (token, caller.device)).fetchone()
    return _invitation(row, sealed["sealed"] if sealed and row["inviter"] == caller.user_id else None)


def by_token(db: Connection, token: str) -> StoredInvitation | None:
    """Return an invitation to whoever has its token, without an answer."""
    row = db.execute(f"SELECT {COLUMNS} FROM invitations WHERE token = ?", (token,)).fetchone()
    return None if row is None else _invitation(row)


def note_mail(db: Connection, token: str, now: int, *, mailed: bool) -> None:
    """Note what became of an invitation's mail."""
    row = db.execute(
        "UPDATE invitations SET mailed = ? WHERE token = ? RETURNING inviter", (int(mailed), token)
    ).fetchone()
    if row is not None:
        _touch_inviter(db, token, row["inviter"], now)


def note_fetched(db: Connection, invitee: str, tokens: Sequence[str], now: int) -> frozenset[str]:
    """Note that a device of the invitee fetched these pending invitations; return the inviters to whom that is new."""
    inviters = set()
    for token in tokens:
        row = db.execute(
            "UPDATE invitations SET fetched = ? WHERE token = ? AND invitee = ? AND status = 'pending' AND expires > ?"
            " AND fetched IS NULL RETURNING inviter",
            (now, token, invitee, now),
        ).fetchone()
        if row is not None:
            _touch_inviter(db, token, row["inviter"], now)
            inviters.add(row["inviter"])
    return frozenset(inviters)


def changes(db: Connection, caller: Caller, after: int, *, limits: StorageLimits) -> InvitationChanges:
    """Return what changed for the caller's user after a version, oldest change first."""
    current = version(db, caller.user_id)
    if after > current:
        after = 0
    rows = db.execute(
        f"SELECT {COLUMNS}, inviter_version AS version, 1 AS mine FROM invitations"
        " WHERE inviter = ? AND inviter_version > ?"
        f" UNION ALL SELECT {COLUMNS}, invitee_version, 0 FROM invitations WHERE invitee = ? AND invitee_version > ?"
        " ORDER BY version LIMIT ?",
        (caller.user_id, after, caller.user_id, after, limits.changes_at_once + 1),
    ).fetchall()
    more = len(rows) > limits.changes_at_once
    rows = rows[: limits.changes_at_once]
    boxes = dict(
        db.execute(
            "SELECT a.token, a.sealed FROM answers a JOIN invitations i USING (token)"
            " WHERE i.inviter = ? AND i.inviter_version > ? AND i.inviter_version <= ? AND a.device = ?",
            (caller.user_id, after, rows[-1]["version"] if rows else after, caller.device),
        ).fetchall()
    )
    return InvitationChanges(
        version=rows[-1]["version"] if more else current,
        more=more,
        sent=tuple(_invitation(row, boxes.get(row["token"])) for row in rows if row["mine"]),
        received=tuple(_invitation(row) for row in rows if not row["mine"]),
    )


OF_CALLER = (
    "SELECT coalesce(v.version, 0), coalesce(p.seq, 0) FROM devices d LEFT JOIN versions v ON v.user_id = d.user_id"
    " LEFT JOIN presence p ON p.user_id = d.user_id AND p.device = d.device AND p.expires > ? AND p.box IS NOT NULL"
    " WHERE d.user_id = ? AND d.device = ?"
)
"""The version of the caller's user and the number of the device's unexpired announcement; no row unless the device is
that user's. One statement, since every device asks for both twice in half a minute. Values: the time, the caller's user
and device."""


def version(db: Connection, user_id: str) -> int:
    """Return a user's version: 0 before any invitation of theirs."""
    row = db.execute("SELECT version FROM versions WHERE user_id = ?", (user_id,)).fetchone()
    return int(row["version"]) if row else 0


def _invitation(row: Row, sealed: bytes | None = None) -> StoredInvitation:
    return StoredInvitation(
        token=row["token"],
        inviter=row["inviter"],
        invitee=row["invitee"],
        statement=row["statement"],
        status=InvitationStatus(row["status"]),
        created=row["created"],
        expires=row["expires"],
        answered=row["answered"],
        sealed=sealed,
        mailed=None if row["mailed"] is None else bool(row["mailed"]),
        fetched=row["fetched"],
    )


def _next_version(db: Connection, user_id: str, now: int) -> int:
    # At least the time: what is restored from a backup, or begins anew, goes on above each version that a device knows.
    row = db.execute(
        "INSERT INTO versions (user_id, version) VALUES (?, ?) ON CONFLICT (user_id) DO UPDATE SET version ="
        " CASE WHEN versions.version < excluded.version THEN excluded.version ELSE versions.version + 1 END"
        " RETURNING version",
        (user_id, now),
    ).fetchone()
    db.note_change(user_id)
    return int(row["version"])


def _touch_inviter(db: Connection, token: str, inviter: str, now: int) -> None:
    db.execute("UPDATE invitations SET inviter_version = ? WHERE token = ?", (_next_version(db, inviter, now), token))


def _touch(db: Connection, token: str, inviter: str, invitee: str, now: int) -> None:
    db.execute(
        "UPDATE invitations SET inviter_version = ?, invitee_version = ? WHERE token = ?",
        (_next_version(db, inviter, now), _next_version(db, invitee, now), token),
    )
