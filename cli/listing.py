"""Showing the lists `inbox` and `sent`. Their flags are in dispatches.py; without flags main.py calls this directly."""

from __future__ import annotations

from cli.app import App
from cli.ids import resolve
from cli.output import CELL, string
from cli.short_ids import short
from cli.values import when
from peer.client.blocking import Direction, Document

PAGE = 50


def show_list(
    app: App, direction: Direction, *, status: str | None = None, limit: int = PAGE, before: str | None = None
) -> None:
    """Show one page of the inbox, or of what was sent. `before`: the id that the page starts after, or a part of it."""
    document = app.read(
        lambda source: source.dispatches(
            direction,
            status=status,
            limit=limit,
            before=resolve(source, before, directions=[direction]) if before else None,
        )
    )
    if app.out.json:
        app.out.document(document)
        return
    rows: list[Document] = document["dispatches"]
    who = "from" if direction == "received" else "to"
    app.out.table(
        ["id", "status", who, "created", "task"],
        [
            [
                short(row["dispatch_id"]),
                string(row.get("status")) + _of_changes(row),
                string(row.get("peer")),
                when(row.get("created")),
                string(row.get("task")),
            ]
            for row in rows
        ],
        wraps="task",
        narrowed=[who, "status"],
        empty=_empty(direction, status, older=before is not None),
    )
    if any(row.get("task_cut") or len(str(row.get("task"))) > CELL for row in rows):
        app.out.note("a task that ends in … is longer: `dispatch status ID` shows all of it")
    if any(row.get("changes_waiting") for row in rows):
        app.out.note("to decide on what a run changed in your folders: `dispatch changes ID`")
    if document.get("more"):
        app.out.note(f"there are older ones: --before {short(document['next'])}")
    if direction == "received" and any(row.get("status") == "pending" for row in rows):
        app.out.note("to read one: `dispatch status ID`; to decide: `dispatch accept ID` or `dispatch decline ID`")


def _of_changes(row: Document) -> str:
    """Say beside the status what of a run's changes waits here, or is in place at its recipient."""
    if row.get("changes_waiting"):
        return ", changes wait"
    return f", changes: {row['landing']['words']}" if row.get("landing") else ""


def note_of_more(app: App, document: Document) -> None:
    """Say where a list goes on that was asked for in pages."""
    if document.get("more"):
        app.out.note(f"there are more: --before {document['next']}")


def _empty(direction: Direction, status: str | None, *, older: bool) -> str:
    which = "older " if older else ""
    state = f" with status {status}" if status else ""
    who = "were sent to you" if direction == "received" else "were sent by you"
    return f"no {which}dispatches{state} {who}"
