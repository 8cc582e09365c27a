"""Dispatches as the JSON documents of the loopback API. Lists of them: lists.py; edges, invitations: trust_views.py.

The daemon serves these, and reader.py returns the same ones if no daemon runs. State that only a running daemon has
(connections) is passed as `Live`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import msgspec

from peer.dispatches.counts import COUNTS
from peer.dispatches.quoting import word
from peer.protocol import landed as words
from peer.protocol.content import Content, FileRef
from peer.protocol.documents import Document
from peer.protocol.errors import NotFound
from peer.protocol.fields import LAST_TIME
from peer.protocol.signing import open_as
from peer.protocol.statements import Decision, Dispatch, Result
from peer.protocol.table import path_text
from peer.store import change_sets, dispatches, landing_reports, rows, trace, unreleased
from peer.store.lists import Listed, columns, dispatch_row, landing_document, rfc3339


class ConnectionPath(NamedTuple):
    """How a device is connected. `since`: ms since the epoch. `round_trip`: of the last ping, ms."""

    kind: Literal["direct", "relay"]
    since: int
    round_trip: int


@dataclass(frozen=True)
class Live:
    """The user, the times and the connections: `path` returns how a device is connected, None if it is not.

    `steady`: by which it is reckoned how long a waiting call has left (peer.steps.context).
    """

    me: str
    now: int
    steady: int
    path: Callable[[str], ConnectionPath | None] = lambda _device: None


def dispatch_brief(db: sqlite3.Connection, me: str, now: int, dispatch_id: str) -> Document:
    """Return one dispatch as lists show it. Raises NotFound."""
    row = db.execute(f"SELECT {columns()} FROM dispatches WHERE dispatch_id = ?", (dispatch_id,)).fetchone()
    if row is None:
        raise NotFound(f"no dispatch {dispatch_id}")
    return dispatch_row(Listed(*row), me, now)


def dispatch_document(
    db: sqlite3.Connection,
    me: str,
    now: int,
    dispatch_id: str,
    *,
    steady: int | None = None,
    with_trace: bool = True,
) -> Document:
    """Return one dispatch with payload, files, trace, approvals and result. Raises NotFound.

    `steady` as in Live; None is `now`.
    `removed` is {at, message} if its events and the bytes of its files were removed, else null. `unknown_fields` counts
    the keys that this version ignores, `unseen_fields` names those that the recipient ignored.

    `landed`: waiting, all, part or none of what its last run changed is in place, null while that is not known; at the
    recipient `changes` has it for each run, at the sender `landing` what the recipient said.
    """
    row = dispatches.get(db, dispatch_id)
    if row is None:
        raise NotFound(f"no dispatch {dispatch_id}")
    dispatch, signed = open_as(Dispatch, row.raw)
    document = dispatch_row(row, me, now) | content_document(dispatch.content)
    document |= {
        "edge_id": row.edge_id,
        "unknown_fields": len(signed.ignored),
        "unseen_fields": _unseen(row),
        "files": [file_row(item) for item in dispatches.files(db, dispatch_id, "attachment")],
        "events": event_rows(db, dispatch_id) if with_trace else [],
        "approvals": approvals_of(db, dispatch_id, row.peer, now if steady is None else steady),
        "result": result_document(db, row),
        "removed": _removed(row),
        "suggestion": None,
    }
    document.pop("task_cut", None)
    if row.direction == "received":
        document["cwd"] = row.cwd or None
        document["changes"] = change_set_rows(db, dispatch_id)
        document["held"] = held_document(db, row)
        # Only of a run that ended by itself is the change set stored with its end.
        nothing = "none" if row.state in ("held", "completed", "failed") else None
        of_last = (each["landed"] for each in document["changes"] if each["attempt"] == row.attempt)
        document["landed"] = next(of_last, nothing)
    else:
        told = landing_reports.get(db, dispatch_id)
        document["landing"] = told and landing_document(told.landed, told.in_place, told.in_all, told.at)
        document["landed"] = told and told.landed
    return document


def held_document(db: sqlite3.Connection, row: rows.Dispatch) -> Document | None:
    """Return what a run returned and its person has not sent yet, or None.

    {status, at, reply, files, usage, counts, sandbox, scope, reason, fix, events}: `reason` as it would be sent,
    `events` their number.
    """
    found = unreleased.get(db, row.dispatch_id)
    if found is None:
        return None
    result, at = found
    return {
        "status": result.status,
        "at": rfc3339(at),
        **_reported(db, row.dispatch_id, result),
        "reason": result.reason or None,
        "fix": row.fix or None,
        "events": unreleased.count_of_events(db, row.dispatch_id),
    }


def _reported(db: sqlite3.Connection, dispatch_id: str, result: Result | unreleased.RunResult) -> Document:
    """Return {reply, files, usage, counts, sandbox, scope} of a result, signed or held."""
    usage: Document = dict(result.usage)
    if "cost_microusd" in usage:
        usage["cost_usd"] = usage.pop("cost_microusd") / 1_000_000
    if "milliseconds" in usage:
        usage["seconds"] = usage.pop("milliseconds") / 1000
    counts = {name: usage.pop(name) for name in COUNTS if name in usage}
    return {
        "reply": result.reply,
        "files": [file_row(item) for item in dispatches.files(db, dispatch_id, "returned")],
        "usage": usage,
        "counts": counts,
        "sandbox": sandbox_facts(msgspec.json.decode(result.sandbox)) if result.sandbox else None,
        "scope": msgspec.json.decode(result.scope) if result.scope else None,
    }


def change_set_row(item: rows.ChangeSetRow, in_place: int) -> Document:
    """Return the summary of what one attempt changed: {dispatch_id, attempt, state, landed, in_place, in_all, …}.

    `in_place`: how many entries are. The JSON's `landed` is waiting, all, part or none, `in_all` how many can be.
    """
    return {
        "dispatch_id": item.dispatch_id,
        "attempt": item.attempt,
        "state": item.state,
        "landed": words.landed(in_place=in_place, in_all=item.decidable, waits=item.waits),
        "in_place": in_place,
        "in_all": item.decidable,
        "changes": item.entries,
        "waits": item.waits,
        "bytes": item.bytes,
        "created": rfc3339(item.created),
    }


def change_set_rows(db: sqlite3.Connection, dispatch_id: str) -> list[Document]:
    """Return the summaries of what the attempts of a dispatch changed, oldest first."""
    return [
        change_set_row(item, len(change_sets.landed(db, dispatch_id, item.attempt)))
        for item in change_sets.of_dispatch(db, dispatch_id)
    ]


def _removed(row: rows.Dispatch) -> Document | None:
    """Return when its events and the bytes of its files were removed, and what a person is told, or None."""
    if not row.thinned:
        return None
    at = rfc3339(row.thinned)
    left = "its task, its result and its receipt, without the events," if row.result else "its task and how it ended"
    return {
        "at": at,
        "message": f"its events and the content of its files were removed on {at[:10]} by this machine's retention "
        f"rules; {left} are kept",
    }


def _unseen(row: rows.Dispatch) -> list[str]:
    """Return the names of the fields that the recipient's device ignored when it decided: nobody saw them."""
    return [path_text(path) for path in open_as(Decision, row.decision)[0].unread] if row.decision else []


def content_document(content: Content[FileRef]) -> Document:
    """Return everything that the sender wrote, by field name, except the files: see `file_row`."""
    document: Document = content.values() | {"links": list(content.links), "parent": content.parent or None}
    del document["files"]
    return document


def event_rows(db: sqlite3.Connection, dispatch_id: str, *, after: int = 0) -> list[Document]:
    """Return a dispatch's events with a number above `after`, each {seq, attempt, kind, …}."""
    return [event_document(*event) for event in trace.events(db, dispatch_id, after=after)]


def event_document(number: int, attempt: int, text: str) -> Document:
    """Return one event of a trace as {seq, attempt, at, kind, …}. Our `seq` and `attempt` override the event's own."""
    event = msgspec.json.decode(text)
    at = event.pop("at", None)
    document: Document = {**event, "seq": number, "attempt": attempt}
    if type(at) is int and 0 <= at <= LAST_TIME:
        document["at"] = rfc3339(at)
    return document


def file_row(item: rows.File) -> Document:
    """Return one file as {name, size, sha256, ready, withheld, removed}.

    A withheld file never came and will not; a removed one was here.
    """
    return {
        "name": item.name,
        "size": item.size,
        "sha256": item.digest.hex(),
        "ready": item.state is rows.FileState.READY,
        "withheld": item.state is rows.FileState.GIVEN_UP,
        "removed": item.state is rows.FileState.REMOVED,
    }


def approval_row(item: rows.Approval, sender: str, steady: int) -> Document:
    """Return one waiting tool call; `expires_in` in seconds. `steady` as in Live."""
    call = msgspec.json.decode(item.call)
    return {
        "dispatch_id": item.dispatch_id,
        "request_id": item.request_id,
        "sender_id": sender,
        "expires_in": max(0, round((item.deadline - steady) / 1000)),
        **call,
    }


def approvals_of(db: sqlite3.Connection, dispatch_id: str, sender: str, steady: int) -> list[Document]:
    """Return the tool calls of one dispatch, sent by `sender`, that wait, oldest first."""
    return [
        approval_row(item, sender, steady)
        for item in trace.open_approvals(db)
        if item.dispatch_id == dispatch_id and item.deadline > steady
    ]


def approval_list(db: sqlite3.Connection, steady: int, *, limit: int, before: str | None = None) -> Document:
    """Return {approvals: [row], more, next}: a page of the waiting tool calls, oldest first.

    `next`, "DISPATCH_ID REQUEST_ID" of the page's last one, is the next page's `before`. Raises NotFound for another.
    """
    dispatch_id, _, request_id = (before or "").partition(" ")
    last = None if before is None else (dispatch_id, request_id)
    found = trace.waiting_approvals(db, steady, limit=limit + 1, before=last)
    waiting = []
    for item in found[:limit]:
        row = dispatches.get(db, item.dispatch_id)
        if row is not None:
            waiting.append(approval_row(item, row.peer, steady))
    more = len(found) > limit
    name = f"{found[limit - 1].dispatch_id} {found[limit - 1].request_id}" if more else None
    return {"approvals": waiting, "more": more, "next": name}


SOUND = frozenset({"blocked", "untestable", "permitted"})
"""Outcomes of a canary that are no failure; any other is one."""


def sandbox_facts(facts: object) -> object:
    """Return what a result says of its sandbox: its tier a word, the canaries {tried, failed: [name]}.

    All of it is in its receipt.
    """
    if not isinstance(facts, dict):
        return facts
    if "tier" in facts:
        facts = facts | {"tier": word(facts["tier"])}
    if not isinstance(canaries := facts.get("canaries"), dict):
        return facts
    failed = [name for name, outcome in canaries.items() if outcome not in SOUND]
    return facts | {"canaries": {"tried": len(canaries), "failed": failed}}


def result_document(db: sqlite3.Connection, row: rows.Dispatch) -> Document | None:
    """Return the signed result as {status, reply, files, usage, counts, sandbox, scope, reason, fix, …}, or None.

    `events` is the number of event batches that it closes with, `missing_batches` how many a receipt is without: all of
    them, if not all are here. `reason` and `fix` are for this machine's person: the recipient's has more than what was
    sent.
    """
    if not row.result:
        return None
    result, _ = open_as(Result, row.result)
    held, _ = trace.head(db, row.dispatch_id, result.attempt)
    return {
        "status": result.status,
        **_reported(db, row.dispatch_id, result),
        "reason": row.message or None,
        "fix": row.fix or None,
        "attempt": result.attempt,
        "events": result.count,
        "missing_batches": result.count if held != result.count else 0,
    }
