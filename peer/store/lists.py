"""The lists of dispatches, `inbox` and `sent`, as the JSON of the loopback API. A whole dispatch: views.py.

Reads only the columns that lists show, never a signed statement (up to 1 MiB each), and imports only what that needs:
if no daemon runs, `dispatch inbox` calls this directly.
"""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from peer.protocol.documents import Direction, Document
from peer.protocol.landed import in_words

if TYPE_CHECKING:
    from peer.protocol.outcomes import Landed
    from peer.store.rows import Dispatch


LISTED_TASK = 2_000
"""Characters of a task in a list. With whole tasks, a page of 500 was measured as a document of 300 MB."""


LISTED_BYTES = 4 * LISTED_TASK
"""Of a task, what is read for a list: enough for LISTED_TASK characters in UTF-8."""


class Listed(NamedTuple):
    """The columns of a dispatch that lists show, with their names in the table."""

    dispatch_id: str
    direction: str
    peer: str
    state: str
    task: bytes
    """The first bytes of the task: SQLite's text functions end at a NUL character, and hide what follows."""
    created: int
    expires: int
    updated: int
    attempt: int
    code: int
    message: str
    fix: str
    task_bytes: int
    waits: int
    """Changes of its runs that wait for the person here."""
    landing: str | None
    """What its recipient has said of the changes of its run, as JSON."""


def columns(table: str = "") -> str:
    """Return the SQL of the columns of Listed; `table` is the alias of `dispatches` in the query."""
    at = f"{table}." if table else ""
    whole = f"CAST({at}task AS BLOB)"
    waits = (
        f"SELECT coalesce(sum(c.waits), 0) FROM change_sets c WHERE c.dispatch_id = {at or 'dispatches.'}dispatch_id"
    )
    told = (
        "SELECT json_object('landed', l.landed, 'in_place', l.in_place, 'in_all', l.in_all, 'at', l.at) "
        f"FROM landing_reports l WHERE l.dispatch_id = {at or 'dispatches.'}dispatch_id"
    )
    special = {
        "task": f"substr({whole}, 1, {LISTED_BYTES})",
        "task_bytes": f"length({whole})",
        "waits": f"({waits} AND c.state = 'waiting')",
        "landing": f"({told} AND {at}direction = 'sent')",
    }
    return ", ".join(special.get(name, f"{at}{name}") for name in Listed._fields)


def rfc3339(ms: int) -> str:
    """Return ms since the epoch as RFC 3339 in UTC, with milliseconds."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def dispatch_row(row: Listed | Dispatch, me: str, now: int) -> Document:
    """Return one row of a list. A longer task ends in an ellipsis, and `task_cut` says how long it is."""
    received = row.direction == "received"
    status = row.state
    if status in ("queued", "pending", "arriving") and row.expires <= now:
        status = "expired"
    task, size = _task_of(row)
    cut = len(task) > LISTED_TASK or size > LISTED_BYTES
    document: Document = {
        "dispatch_id": row.dispatch_id,
        "status": status,
        "direction": row.direction,
        "peer": row.peer,
        "sender_id": row.peer if received else me,
        "recipient_id": me if received else row.peer,
        "task": task[:LISTED_TASK] + ("…" if cut else ""),
        "created": rfc3339(row.created),
        "expires_at": rfc3339(row.expires),
        "updated": rfc3339(row.updated),
        "attempt": row.attempt,
    }
    if cut:
        document["task_cut"] = (
            f"the first {LISTED_TASK:,} characters of {size:,} bytes; all of it: `dispatch status {row.dispatch_id}`"
        )
    if isinstance(row, Listed):
        if row.waits:
            document["changes_waiting"] = row.waits
        if row.landing:
            document["landing"] = landing_document(**json.loads(row.landing))
    if row.code:
        document["code"] = row.code
    if row.message:
        document["message"] = row.message
    if row.fix:
        document["fix"] = row.fix
    return document


def landing_document(landed: Landed, in_place: int | None, in_all: int | None, at: int) -> Document:
    """Return what a sender was told of the changes of its run: {landed, in_place, in_all, words, at}.

    `landed`: waiting, all, part or none. The numbers are null where only that was told.
    """
    words = in_words(landed, in_place=in_place, in_all=in_all)
    return {"landed": landed, "in_place": in_place, "in_all": in_all, "words": words, "at": rfc3339(at)}


def _task_of(row: Listed | Dispatch) -> tuple[str, int]:
    """Return the task, or its beginning, and its size in bytes."""
    if isinstance(row, Listed):
        return row.task.decode("utf-8", "ignore"), row.task_bytes
    return row.task, len(row.task.encode("utf-8", "replace"))


def dispatch_list(
    db: sqlite3.Connection,
    me: str,
    now: int,
    *,
    direction: Direction,
    status: str | None,
    limit: int,
    before: str | None,
) -> Document:
    """Return {dispatches: [row], more, next}, newest first, older than the dispatch `before`. Received: the inbox.

    `more` is true if there are older ones; `next` is then the `before` of the next page, else null.
    """
    wheres, values = ["direction = ?"], [str(direction)]
    if direction == "received":
        # Its files are still on their way: not in the inbox yet.
        wheres.append("state != 'arriving'")
    if status:
        wheres.append("state = ?")
        values.append(status)
    if before:
        wheres.append("(created, dispatch_id) < (SELECT created, dispatch_id FROM dispatches WHERE dispatch_id = ?)")
        values.append(before)
    found = db.execute(
        f"SELECT {columns()} FROM dispatches WHERE {' AND '.join(wheres)} "
        "ORDER BY created DESC, dispatch_id DESC LIMIT ?",
        (*values, limit + 1),
    ).fetchall()
    page = [dispatch_row(Listed(*row), me, now) for row in found[:limit]]
    more = len(found) > limit
    return {"dispatches": page, "more": more, "next": page[-1]["dispatch_id"] if more else None}


WAITS_HERE = (
    "direction = 'received' AND ((state = 'pending' AND expires > ?) OR state = 'held' "
    "OR dispatch_id IN (SELECT dispatch_id FROM change_sets WHERE state = 'waiting'))"
)
"""Of a dispatch: this person has to decide something, apart from tool calls. Its parameter is the time now."""


def waiting_list(db: sqlite3.Connection, me: str, now: int, *, limit: int) -> Document:
    """Return {dispatches: [row], more, any}: those that wait for the person here, undecided ones first, newest first.

    `any` says whether there is a dispatch at all.
    """
    found = db.execute(
        f"SELECT {columns()} FROM dispatches WHERE {WAITS_HERE} "
        "ORDER BY state != 'pending', created DESC, dispatch_id DESC LIMIT ?",
        (now, limit + 1),
    ).fetchall()
    any_at_all = db.execute("SELECT EXISTS (SELECT 1 FROM dispatches WHERE state != 'arriving')").fetchone()[0]
    return {
        "dispatches": [dispatch_row(Listed(*row), me, now) for row in found[:limit]],
        "more": len(found) > limit,
        "any": bool(any_at_all),
    }
