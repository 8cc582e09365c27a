"""Following a run within one tool call: progress reports, the approval surface at each gate, the result at its end.

Cancelling the call stops following and nothing else: the run belongs to the node.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from math import inf

import trio

from mcp_plugin.call import Call
from mcp_plugin.fixes import for_host
from mcp_plugin.hosting import NOTICED_SECONDS
from mcp_plugin.results import quoted, untrusted
from mcp_plugin.session import Session, key
from peer.client.blocking import DaemonUnreachable, Document, Event, Interrupted
from peer.dispatches.quoting import word

Surface = Callable[[Call, Document], Awaitable[Document | None]]
"""What happens at a gate. Returns the result that ends the call, or None if it was answered and the run goes on."""

CALL_SECONDS = 45.0
"""How long one call follows: several hosts end a call after a minute, whatever it reports meanwhile."""
SECONDS_VARIABLE = "DISPATCH_MCP_CALL_SECONDS"
"""Another number of seconds, for a host that waits longer or less."""
HOOKED_SECONDS = 3_600.0
"""The same in Claude Code, which does not end calls, and where each further one is a turn of its model's. A run has an
hour unless its edge differs."""
GRACE_SECONDS = 3.0
"""Beyond that, after a form was answered: what the answer leads to is mostly heard by then."""


async def watch(call: Call, dispatch_id: str, surface: Surface) -> Document:
    """Follow a dispatch to the next gate that the surface leaves open, or to its end; return the result of the call."""
    with trio.move_on_after(_seconds(call)) as time:
        for last in (False, False, True):
            try:
                return await _follow(call, dispatch_id, _outside(time, surface))
            except (DaemonUnreachable, Interrupted):
                # The node ended. Its successor, perhaps of this session, has the run's state in the same store.
                if last:
                    raise
                await trio.sleep(NOTICED_SECONDS)
    document = await (await call.client()).dispatch(dispatch_id)
    again = f'dispatch_act(action="watch", dispatch_id="{dispatch_id}")'
    # What ended just now has its own state here; the next call tells it in full.
    status = "running" if document["status"] == "accepted" else document["status"]
    return {"status": status, "dispatch_id": dispatch_id, "next": f"call {again} at once, to go on"}


def _seconds(call: Call) -> float:
    try:
        return min(max(float(os.environ[SECONDS_VARIABLE]), 0.1), HOOKED_SECONDS)
    except (KeyError, ValueError):
        return HOOKED_SECONDS if call.session.hooked else CALL_SECONDS


def _outside(time: trio.CancelScope, surface: Surface) -> Surface:
    """Return the surface with its waiting for a person left out of the time of the call."""

    async def asked(call: Call, row: Document) -> Document | None:
        due, time.deadline = time.deadline, inf
        try:
            return await surface(call, row)
        finally:
            time.deadline = max(due, trio.current_time() + GRACE_SECONDS)

    return asked


async def _follow(call: Call, dispatch_id: str, surface: Surface) -> Document:
    client = await call.client()
    session = call.session
    async with aclosing(client.events(dispatch_id, after=session.followed.get(dispatch_id, ""))) as events:
        async for event in events:
            session.followed[dispatch_id] = event.id
            if event.kind == "approval":
                if (left_open := await surface(call, event.data)) is not None:
                    return left_open
            elif event.kind == "end":
                return final(event.data)
            elif event.kind == "state":
                if event.data["direction"] == "received" and event.data["status"] == "pending":
                    return _waits(event.data)
                await call.progress(str(event.data["status"]))
            elif message := _activity(session, dispatch_id, event):
                await call.progress(message)
    raise Interrupted


def _changes(row: Document) -> Document:
    """What a run changed in the person's folders, in numbers: what is in place, and what waits for the person."""
    changed: Document = {"run": row["attempt"], **{name: row[name] for name in ("landed", "in_place", "in_all")}}
    changed["waiting"] = row["waits"]
    if row["waits"]:
        identity = row["dispatch_id"]
        changed["look"] = f'dispatch_read(what="changes", dispatch_id="{identity}")'
    return changed


def final(document: Document) -> Document:
    """Return the result for a dispatch that has ended: {status, reply, files, usage, counts, receipt, …}."""
    identity = document["dispatch_id"]
    held = document.get("held")
    result = document.get("result") or held or {}
    ended: Document = {
        "status": document["status"],
        "dispatch_id": identity,
        "sender_id": document["sender_id"],
        "recipient_id": document["recipient_id"],
        "reply": result.get("reply") or "",
        "files": [{name: file[name] for name in ("name", "size", "sha256")} for file in result.get("files") or []],
        "usage": result.get("usage") or {},
        "counts": result.get("counts") or {},
        "receipt": _receipt(identity, document.get("result") or {}),
    }
    if held:
        ended["held"] = (
            f"the run ended as {held['status']} and its result is held: the person decides whether it is sent, with "
            f'dispatch_act(action="release", dispatch_id="{identity}") or action="decline"'
        )
        ended["receipt"] = {"state": "none", "why": "its result is signed when it is sent"}
    if document.get("landed"):
        ended["landed"] = document["landed"]
    if changes := [_changes(row) for row in document.get("changes") or []]:
        ended["changes"] = changes
    elif document.get("landing"):
        ended["changes"] = document["landing"]["words"]
    if any(not (file.get("withheld") or file.get("removed")) for file in result.get("files") or []):
        ended["fetch"] = f"dispatch fetch {identity}"
    if result.get("sandbox"):
        ended["sandbox"] = result["sandbox"].get("tier")
    if result.get("reason"):
        ended["reason"] = result["reason"]
    if fix := document.get("fix") or result.get("fix"):
        ended["fix"] = for_host(fix)
    if document.get("removed"):
        ended["removed"] = document["removed"]["message"]
    if document.get("cwd"):
        ended["cwd"] = document["cwd"]
    if document.get("code"):
        ended["code"] = document["code"]
    return quoted(ended | untrusted(document, "message"))


def _receipt(identity: str, result: Document) -> Document:
    if not result:
        return {"state": "none", "why": "it ended without a run, so there is no signed result"}
    receipt: Document = {"state": "signed", "export": f"dispatch receipt {identity}"}
    if result["missing_batches"]:
        receipt["complete"] = False
        receipt["why"] = "some events of the run are missing here, so the receipt does not include them"
    return receipt


def _waits(document: Document) -> Document:
    """Return the result for a dispatch that waits in the inbox: nothing of it runs."""
    interrupted = document["attempt"] > 0
    word = "its run was interrupted when the node stopped; accept it again to run it" if interrupted else "not accepted"
    return {
        "status": "pending",
        "dispatch_id": document["dispatch_id"],
        "sender_id": document["sender_id"],
        "interrupted": interrupted,
        "message": f"it waits in the inbox: {word}",
        "expires_at": document["expires_at"],
    }


def _activity(session: Session, dispatch_id: str, event: Event) -> str:
    """Return what the agent is doing now: tools and outcomes in our own words, and nothing of any text."""
    data = event.data
    call = key(dispatch_id, data.get("call_id"))
    tool = session.tools.get(call, "a call")
    match data.get("kind"):
        case "tool_call":
            session.tools[call] = word(data.get("tool"))
            return f"{session.tools[call]} …"
        case "approval":
            return f"{tool}: {word(data.get('outcome'))} by {word(data.get('by'))}"
        case "tool_result":
            return f"{tool}: {'done' if data.get('ok') else 'failed'}"
        case "status":
            return word(data.get("status"))
        case "reasoning":
            return "thinking"
    return ""
