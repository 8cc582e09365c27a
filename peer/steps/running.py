"""An accepted dispatch while it runs: start, signed chain of events, approvals of tool calls, result, interruption."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import msgspec

from peer.dispatches import lifecycle, reports
from peer.dispatches.admission import check_edge
from peer.dispatches.shortening import shortened
from peer.machine import mcp_servers
from peer.projects.git_folders import GitFolder
from peer.protocol.documents import Document
from peer.protocol.errors import Conflict, DispatchError, Invalid
from peer.protocol.statements import MAX_EVENTS, Events
from peer.steps import receiving, states
from peer.steps.effects import DispatchChanged, PeopleChanged
from peer.steps.ending import Ending, end
from peer.steps.transaction import Transaction
from peer.store import dispatches, edges, rows, trace, unreleased
from peer.trust import edge_lifecycle, scopes

MAX_BATCH_BYTES = 600_000
MAX_EVENT_BYTES = 200_000
"""UTF-8 bytes of event text in one batch and in one event, so that a statement stays under codec.MAX_BYTES."""
MAX_LOCAL_EVENT_BYTES = 1_500_000
"""UTF-8 bytes of one event as the person here sees it."""


def start(tx: Transaction, dispatch_id: str, attempt: int) -> None:
    """Record that the agent runs in its proven sandbox, and queue that decision for the sender."""
    row = get_running(tx.db, dispatch_id, attempt)
    states.decide(tx, row, "started")
    receiving.queue_decision(tx, row, "running")


def pin_mcp_tools(
    db: sqlite3.Connection,
    dispatch_id: str,
    attempt: int,
    server: str,
    command: Sequence[str],
    tools: Mapping[str, str],
) -> None:
    """Pin on the edge the tools that a granted MCP server listed at its first start: tool → hex digest.

    `command`: the one that was started. Nothing is pinned if the edge was edited to another command meanwhile.
    """
    edge_id = get_running(db, dispatch_id, attempt).edge_id
    pinned = edges.mcp_servers(db, edge_id).get(server)
    if pinned is not None and mcp_servers.filled_in(msgspec.json.decode(pinned.command)) == list(command):
        edges.pin_first_tools(db, edge_id, server, msgspec.json.encode(tools).decode())


def record(
    tx: Transaction,
    dispatch_id: str,
    attempt: int,
    local: Sequence[str],
    outgoing: Sequence[str],
    *,
    hold: bool = False,
) -> None:
    """Store events (JSON texts) for the person here; sign and queue them for the sender as the chain's next batches.

    With `hold` they are kept for the sender instead, until releasing.release() signs them.

    `local`: the events in full. `outgoing`: the same events as the sender may see them, masked and maybe redacted, or
    none of them. A trace that has grown to reports.WHOLE_BYTES keeps the ends of long texts from then on, one that has
    grown to reports.MAX_REPORTED_BYTES nothing; an event says so where it begins, on both sides.
    """
    row = get_running(tx.db, dispatch_id, attempt)
    kept_here: list[str] = []
    kept_there: list[str] = []
    stored = row.trace_bytes
    for own, theirs in zip_longest(local, outgoing):
        before = stored
        if before >= reports.MAX_REPORTED_BYTES:
            break
        most = MAX_EVENT_BYTES if before < reports.WHOLE_BYTES else reports.BRIEF_EVENT_BYTES
        size = 0
        if own is not None:
            kept_here.append(shortened(own, MAX_LOCAL_EVENT_BYTES if before < reports.WHOLE_BYTES else most))
            size = reports.stored_event(kept_here[-1])
        if theirs is not None:
            kept_there.append(shortened(theirs, most))
            # The sender stores both its batch and the event, so the larger of the two texts counts.
            size = len(kept_there[-1].encode()) + max(size, reports.stored_event(kept_there[-1]))
        stored += size
        for bound, notice in ((reports.WHOLE_BYTES, SHORTENED), (reports.MAX_REPORTED_BYTES, STOPPED)):
            if before < bound <= stored:
                kept_here.append(notice)
                kept_there.append(notice)
                stored += 2 * reports.stored_event(notice)
    trace.add_events(tx.db, dispatch_id, attempt, kept_here)
    if hold:
        unreleased.add_events(tx.db, dispatch_id, kept_there)
    else:
        stored += sign_events(tx, row, kept_there)
    trace.charge(tx.db, dispatch_id, stored - row.trace_bytes)
    tx.note(DispatchChanged(dispatch_id))


def sign_events(tx: Transaction, row: rows.Dispatch, events: Sequence[str]) -> int:
    """Sign and queue events as the next batches of the chain of the dispatch's last attempt.

    Returns the bytes that the batches take beyond the events' own.
    """
    stored = 0
    for batch in _batches(events):
        count, head = trace.head(tx.db, row.dispatch_id, row.attempt)
        signed = tx.context.sign_for(
            Events,
            row.peer,
            row.device,
            dispatch_id=row.dispatch_id,
            attempt=row.attempt,
            sequence=count,
            previous=head,
            events=tuple(batch),
        )
        trace.add_batch(tx.db, row.dispatch_id, row.attempt, count, signed.raw, signed.digest)
        tx.post(signed, edge_id=row.edge_id)
        stored += reports.STORED_PER_BATCH + len(signed.raw) - sum(len(event.encode()) for event in batch)
    return stored


def get_refusal(db: sqlite3.Connection, now: int, dispatch_id: str, attempt: int) -> DispatchError | None:
    """Return why a run may make no more calls, or None. Checked at every call: edge and state may have changed."""
    try:
        row = get_running(db, dispatch_id, attempt)
        check_edge(receiving.get_edge_facts(db, row.edge_id, now), user_id=row.peer, now=now)
    except DispatchError as error:
        return error
    return None


def ask(tx: Transaction, item: rows.Approval) -> None:
    """Store a tool call that waits for a person. Raises Conflict if this run has asked about the same id before."""
    get_running(tx.db, item.dispatch_id, item.attempt)
    known = trace.approval(tx.db, item.dispatch_id, item.request_id)
    if known is not None and known.attempt == item.attempt:
        raise Conflict(f"the agent asked twice about the call {item.request_id}")
    trace.add_approval(tx.db, item)
    tx.note(DispatchChanged(item.dispatch_id))


def answer(
    tx: Transaction,
    dispatch_id: str,
    request_id: str,
    *,
    allow: bool,
    grant: str,
    note: str,
    rule: int | None = None,
) -> tuple[rows.Approval, Document | None]:
    """Record a person's answer to a waiting call, once; `always` stores a rule on the edge.

    `rule`: index of one of the call's `rule_choices`; None is the narrowest. Returns the call and the chosen rule.
    Raises Conflict (`nothing pending: …`), Invalid for a rule that was not offered, Forbidden if the edge no longer
    permits the call.
    """
    asked = trace.approval(tx.db, dispatch_id, request_id)
    if asked is None:
        raise Conflict(f"nothing pending: that dispatch has not asked about a tool call {request_id}")
    if asked.outcome:
        raise Conflict(f"nothing pending: that tool call was already {asked.outcome}")
    now = tx.now
    chosen = _chosen_rule(asked, grant, rule) if allow else None
    if allow:
        if tx.context.steady() > asked.deadline:
            raise Conflict("nothing pending: nobody answered in time, so that tool call was denied")
        if error := get_refusal(tx.db, now, dispatch_id, asked.attempt):
            raise error
    text = msgspec.json.encode({"allow": allow, "grant": grant, "note": note, "at": now}).decode()
    if not trace.close_approval(tx.db, dispatch_id, request_id, "allowed" if allow else "denied", text):
        raise Conflict("nothing pending: that tool call was already decided")
    if allow and grant == "always":
        if chosen is None:
            raise Conflict("this call cannot be allowed with `always`", fix="allow it once or for this session")
        _store_rule(tx.db, get_running(tx.db, dispatch_id, asked.attempt).edge_id, chosen, now)
        tx.note(PeopleChanged())
    if allow and (pin := msgspec.json.decode(asked.call).get("mcp_pin")):
        # The person was shown that this tool is new or has changed, and granted it as it is now.
        _, server, tool = str(msgspec.json.decode(asked.call)["tool"]).split("__", 2)
        edges.pin_tool(tx.db, get_running(tx.db, dispatch_id, asked.attempt).edge_id, server, tool, pin)
    tx.note(DispatchChanged(dispatch_id))
    return asked, chosen


def _chosen_rule(asked: rows.Approval, grant: str, number: int | None) -> Document | None:
    """Return the rule that an answer grants: the offered one it names, else the narrowest; None for `once`."""
    call = msgspec.json.decode(asked.call)
    if grant == "once":
        if number is not None:
            raise Invalid("a rule needs `always` or `session`", fix="give one of the two, or name no rule")
        return None
    narrowest: Document | None = call.get("rule_if_always")
    if number is None:
        return narrowest
    choices: list[Document] = call.get("rule_choices") or []
    if not 0 <= number < len(choices):
        count = max(len(choices), 1)
        raise Invalid(
            f"there is no rule {number + 1}: this call offers {count}",
            fix=f"choose 1 to {count}, as `dispatch approvals` numbers them; the API counts its rule_choices from 0",
        )
    return choices[number]


def _store_rule(db: sqlite3.Connection, edge_id: str, chosen: Document, now: int) -> None:
    scope, stored = get_scope(db, edge_id)
    rule = edge_lifecycle.Rule(chosen["tool"], chosen["pattern"], chosen.get("reach", "exact"))
    edge_lifecycle.with_rule(
        tuple(edge_lifecycle.Rule(row.tool, row.pattern, row.reach) for row in stored), rule, scope
    )
    edges.add_rule(db, edge_id, rule.tool, rule.pattern, rule.reach, now)


def close_unanswered(tx: Transaction, dispatch_id: str, request_id: str) -> None:
    """Close a waiting call that nobody answered in time."""
    trace.close_approval(tx.db, dispatch_id, request_id, "unanswered", "")
    tx.note(DispatchChanged(dispatch_id))


def finish(
    tx: Transaction,
    dispatch_id: str,
    attempt: int,
    status: Ending,
    **content: Any,  # as of ending.end
) -> None:
    """End a run with its signed result. Raises Conflict if this attempt of it is no longer accepted or running."""
    end(tx, get_running(tx.db, dispatch_id, attempt), status, **content)


def interrupt_all(tx: Transaction) -> list[str]:
    """Put interrupted runs back into the inbox; return their ids. Only at a node's start and stop."""
    interrupted = dispatches.in_states(tx.db, "received", ("accepted", "running"))
    for row in interrupted:
        dispatch = receiving.dispatch_of(row)
        now = tx.now
        expires = lifecycle.deadline_after_interruption(
            now=now,
            lifetime=dispatch.expires - dispatch.created,
            deadline=row.expires,
            earlier_interruptions=row.interrupted,
        )
        states.decide(tx, row, "interrupted")
        trace.charge(tx.db, row.dispatch_id, -unreleased.drop(tx.db, row.dispatch_id))
        dispatches.set_interrupted(tx.db, row.dispatch_id, expires)
        detail = "the daemon stopped; accept it again to run it"
        trace.add_status(tx.db, row.dispatch_id, row.attempt, "interrupted", detail)
        receiving.queue_decision(tx, row, "pending", reason="the run was interrupted")
    trace.close_approvals(tx.db, None, "interrupted")
    return [row.dispatch_id for row in interrupted]


def get_scope(db: sqlite3.Connection, edge_id: str) -> tuple[scopes.Scope, list[rows.EdgeRule]]:
    """Return an edge's scope and its stored rules."""
    edge = edges.get(db, edge_id)
    assert edge is not None  # a dispatch's edge is never deleted
    return scopes.decode(edge.scope), edges.rules(db, edge_id)


def get_git_folders(db: sqlite3.Connection, row: rows.Dispatch) -> dict[str, GitFolder]:
    """Return the repositories' folders that a dispatch's edge and its accept grant, as pinned, by project."""
    pins = edges.git_folders(db, row.edge_id)
    if row.git_folder:
        pins.setdefault(row.cwd, row.git_folder)
    return {folder: msgspec.json.decode(pin, type=GitFolder) for folder, pin in pins.items()}


def get_running(db: sqlite3.Connection, dispatch_id: str, attempt: int) -> rows.Dispatch:
    """Return the dispatch if this attempt of it is still accepted or running. Raises NotFound, Conflict."""
    row = receiving.get_received(db, dispatch_id)
    if row.attempt != attempt or row.state not in ("accepted", "running"):
        raise Conflict(f"nothing pending: this run ended, its dispatch is {row.state}")
    return row


def _batches(events: Sequence[str]) -> list[list[str]]:
    batches: list[list[str]] = []
    filled = 0
    for event in events:
        size = len(event.encode())
        if not batches or len(batches[-1]) >= MAX_EVENTS or filled + size > MAX_BATCH_BYTES:
            batches.append([])
            filled = 0
        batches[-1].append(event)
        filled += size
    return batches


SHORTENED = reports.status_event(
    "shortened", "this trace is long: from here on, it keeps only the beginning and the end of long texts"
)
STOPPED = reports.status_event(
    "shortened", "this trace is full: it does not record what the run does from here on, only its result"
)
