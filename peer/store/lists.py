"""The lists of dispatches, `inbox` and `sent`, as the JSON of the loopback API. A whole dispatch: views.py.

Reads only the columns that lists show, never a signed statement (up to 1 MiB each), and imports only what that needs:
if no daemon runs, `dispatch inbox` calls this directly.
"""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from peer.protocol.documents import Direction, Document

if TYPE_CHECKING:
    from peer.store.rows import Dispatch


LISTED_TASK = 2_000
"""Characters of a task in a list. With whole tasks, a page of 500 was measured as a document of 300 MB."""


class Listed(NamedTuple):
    """The columns of a dispatch that lists show, with their names in the table."""

    dispatch_id: str
    direction: str
    peer: str
    state: str
    task: str
    created: int
    expires: int
    updated: int
    attempt: int
    code: int
    message: str
    fix: str


def rfc3339(ms: int) -> str:
    """Return ms since the epoch as RFC 3339 in UTC, with milliseconds."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def dispatch_row(row: Listed | Dispatch, me: str, now: int) -> Document:
    """Return one row of a list; `task_cut` is true if the task is longer."""
    received = row.direction == "received"
    status = row.state
    if status in ("queued", "pending", "arriving") and row.expires <= now:
        status = "expired"
    document: Document = {
        "dispatch_id": row.dispatch_id,
        "status": status,
        "direction": row.direction,
        "peer": row.peer,
        "sender_id": row.peer if received else me,
        "recipient_id": me if received else row.peer,
        "task": row.task[:LISTED_TASK],
        "created": rfc3339(row.created),
        "expires_at": rfc3339(row.expires),
        "updated": rfc3339(row.updated),
        "attempt": row.attempt,
    }
    if len(row.task) > LISTED_TASK:
        document["task_cut"] = True
    if row.code:
        document["code"] = row.code
    if row.message:
        document["message"] = row.message
    if row.fix:
        document["fix"] = row.fix
    return document


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
    """Return {dispatches: [row]}, newest first, older than the dispatch `before`. Of those received, the inbox."""
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
    # One character more than is shown, to detect longer tasks.
    columns = ", ".join(Listed._fields).replace(" task,", f" substr(task, 1, {LISTED_TASK + 1}),")
    found = db.execute(
        f"SELECT {columns} FROM dispatches WHERE {' AND '.join(wheres)} "
        "ORDER BY created DESC, dispatch_id DESC LIMIT ?",
        (*values, limit),
    )
    return {"dispatches": [dispatch_row(Listed(*row), me, now) for row in found]}
