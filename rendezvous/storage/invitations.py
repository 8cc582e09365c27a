"""Invitations and their sealed answers. A user's `version` grows with every change that concerns them."""

# ruff: noqa: S608 - only column and table names of this file are put into SQL; values are always bound

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from peer.protocol.errors import Conflict, Gone, NotFound, RateLimited

MAX_OPEN_SENT = 50
MAX_OPEN_RECEIVED = 200
PAGE = 25
KEPT_MS = 30 * 24 * 3600 * 1000

Status = Literal["pending", "accepted", "declined", "withdrawn"]


@dataclass(frozen=True, slots=True)
class Stored:
    """One invitation as the broker keeps it. `sealed` is the answer for the asking device, if there is one."""

    token: str
    inviter: str
    invitee: str
    statement: bytes
    status: Status
    created: int
    expires: int
    answered: int | None
    sealed: bytes | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """What changed for a user after a version. `more` says that the next page starts at `version`."""

    version: int
    more: bool
    sent: list[Stored]
    received: list[Stored]


COLUMNS = "token, inviter, invitee, statement, status, created, expires, answered"


def post(
    db: sqlite3.Connection,
    *,
    token: str,
    inviter: str,
    invitee: str,
    statement: bytes,
    created: int,
    expires: int,
    now: int,
) -> tuple[str, bool]:
    """Store an invitation; return (token, True), or (the token of the one that is already open, False).

    Raises Conflict for a token used before, RateLimited over the bounds of open ones.
    """
    row = db.execute("SELECT statement, status, expires FROM invitations WHERE token = ?", (token,)).fetchone()
    if row is not None:
        if row["statement"] == statement:
            return token, False
        raise Conflict("another invitation has that id", fix="make a new invitation")
    row = db.execute(
        "SELECT token FROM invitations WHERE inviter = ? AND invitee = ? AND status = 'pending' AND expires > ?",
        (inviter, invitee, now),
    ).fetchone()
    if row is not None:
        return row["token"], False
    open_sent, open_received = (
        db.execute(
            f"SELECT count(*) FROM invitations WHERE {side} = ? AND status = 'pending' AND expires > ?", (who, now)
        ).fetchone()[0]
        for side, who in (("inviter", inviter), ("invitee", invitee))
    )
    if open_sent >= MAX_OPEN_SENT:
        raise RateLimited(
            f"{MAX_OPEN_SENT} of your invitations are still open", fix="withdraw some: `dispatch invitations`"
        )
    if open_received >= MAX_OPEN_RECEIVED:
        raise RateLimited(f"{invitee} has too many open invitations", fix="ask them to answer some first")
    db.execute(
        "INSERT INTO invitations (token, inviter, invitee, statement, status, created, expires, inviter_version,"
        " invitee_version, purge_after) VALUES (?, ?, ?, ?, 'pending', ?, ?, ?, ?, ?)",
        (
            token,
            inviter,
            invitee,
            statement,
            created,
            expires,
            _next_version(db, inviter),
            _next_version(db, invitee),
            expires + KEPT_MS,
        ),
    )
    return token, True


def answer(
    db: sqlite3.Connection,
    *,
    token: str,
    invitee: str,
    status: Literal["accepted", "declined"],
    sealed: Mapping[str, bytes],
    digest: bytes,
    now: int,
) -> Stored:
    """Answer a pending invitation, once; the same answer again is taken as done.

    Raises NotFound for one that is not addressed to `invitee`, Gone when expired or withdrawn, Conflict when it has
    another answer.
    """
    done = db.execute(
        f"UPDATE invitations SET status = ?, answered = ?, answer_digest = ?, purge_after = ?"
        f" WHERE token = ? AND invitee = ? AND status = 'pending' AND expires > ? RETURNING {COLUMNS}",
        (status, now, digest, now + KEPT_MS, token, invitee, now),
    ).fetchone()
    if done is not None:
        db.executemany(
            "INSERT INTO answers (token, device, sealed) VALUES (?, ?, ?)",
            [(token, device, box) for device, box in sealed.items()],
        )
        _touch(db, token, done["inviter"], invitee)
        return _stored(done)
    row = db.execute(
        f"SELECT {COLUMNS}, answer_digest FROM invitations WHERE token = ? AND invitee = ?", (token, invitee)
    ).fetchone()
    if row is None:
        raise _unknown()
    if row["answer_digest"] == digest:
        return _stored(row)
    if row["answer_digest"] is not None:
        raise Conflict("that invitation was already answered", fix="see `dispatch invitations`")
    raise _over(row["status"])


def withdraw(db: sqlite3.Connection, *, token: str, inviter: str, now: int) -> str:
    """Take a pending invitation back (again: done already) and return the invitee. Raises NotFound, Conflict, Gone."""
    row = db.execute("SELECT invitee, status FROM invitations WHERE token = ? AND inviter = ?", (token, inviter))
    known = row.fetchone()
    if known is None:
        raise _unknown()
    if known["status"] == "withdrawn":
        return str(known["invitee"])
    if known["status"] != "pending":
        raise Conflict("that invitation was already answered", fix="see `dispatch contacts`")
    done = db.execute(
        "UPDATE invitations SET status = 'withdrawn', purge_after = ? WHERE token = ? AND expires > ? RETURNING 1",
        (now + KEPT_MS, token, now),
    ).fetchone()
    if done is None:
        raise _over("pending")
    _touch(db, token, inviter, known["invitee"])
    return str(known["invitee"])


def one(db: sqlite3.Connection, token: str, user_id: str, device: str) -> Stored:
    """Return an invitation to its inviter or invitee. Raises NotFound for anybody else."""
    row = db.execute(
        f"SELECT {COLUMNS} FROM invitations WHERE token = ?1 AND ?2 IN (inviter, invitee)", (token, user_id)
    ).fetchone()
    if row is None:
        raise _unknown()
    sealed = db.execute("SELECT sealed FROM answers WHERE token = ? AND device = ?", (token, device)).fetchone()
    return _stored(row, sealed["sealed"] if sealed and row["inviter"] == user_id else None)


def changed(db: sqlite3.Connection, user_id: str, device: str, after: int) -> Page:
    """Return what changed for a user after a version, at most PAGE rows, oldest change first."""
    rows = db.execute(
        f"SELECT {COLUMNS}, inviter_version AS version, 1 AS mine FROM invitations"
        " WHERE inviter = ?1 AND inviter_version > ?2"
        f" UNION ALL SELECT {COLUMNS}, invitee_version, 0 FROM invitations WHERE invitee = ?1 AND invitee_version > ?2"
        " ORDER BY version LIMIT ?3",
        (user_id, after, PAGE + 1),
    ).fetchall()
    more = len(rows) > PAGE
    rows = rows[:PAGE]
    boxes = dict(
        db.execute(
            "SELECT a.token, a.sealed FROM answers a JOIN invitations i USING (token)"
            " WHERE i.inviter = ?1 AND i.inviter_version > ?2 AND i.inviter_version <= ?3 AND a.device = ?4",
            (user_id, after, rows[-1]["version"] if rows else after, device),
        ).fetchall()
    )
    sent = [_stored(row, boxes.get(row["token"])) for row in rows if row["mine"]]
    received = [_stored(row) for row in rows if not row["mine"]]
    return Page(rows[-1]["version"] if more else version(db, user_id), more, sent, received)


def version(db: sqlite3.Connection, user_id: str) -> int:
    """Return a user's version: 0 before anything concerned them."""
    row = db.execute("SELECT version FROM versions WHERE user_id = ?", (user_id,)).fetchone()
    return int(row["version"]) if row else 0


def _stored(row: sqlite3.Row, sealed: bytes | None = None) -> Stored:
    return Stored(**{name: row[name] for name in COLUMNS.split(", ")}, sealed=sealed)


def _next_version(db: sqlite3.Connection, user_id: str) -> int:
    row = db.execute(
        "INSERT INTO versions (user_id, version) VALUES (?, 1)"
        " ON CONFLICT (user_id) DO UPDATE SET version = version + 1 RETURNING version",
        (user_id,),
    ).fetchone()
    return int(row["version"])


def _touch(db: sqlite3.Connection, token: str, inviter: str, invitee: str) -> None:
    db.execute(
        "UPDATE invitations SET inviter_version = ?, invitee_version = ? WHERE token = ?",
        (_next_version(db, inviter), _next_version(db, invitee), token),
    )


def _unknown() -> NotFound:
    return NotFound("no such invitation for you here", fix="see `dispatch invitations`, or ask for a new one")


def _over(status: str) -> Gone:
    what = "was withdrawn" if status == "withdrawn" else "expired"
    return Gone(f"that invitation {what}", fix="ask the person who invited you for a new one")
