"""`dispatch_read` and `dispatch_pending_approvals`: reading, without any change to a dispatch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta

from mcp_plugin import ids
from mcp_plugin.arguments import Arguments, refuse_others, require
from mcp_plugin.call import Call
from mcp_plugin.fixes import for_host, in_document
from mcp_plugin.questions import accept
from mcp_plugin.results import MAX_INLINE, quoted, safe, size, untrusted
from mcp_plugin.surfaces import picker
from mcp_plugin.tools import review
from mcp_plugin.watching import final
from peer.client.blocking import Direction, Document
from peer.client.on_trio import AsyncClient
from peer.protocol.content import FIELDS
from peer.protocol.errors import Invalid

LISTED = 20
ASKED = 5
"""Dispatches of a list that come with their question."""
LISTED_TASK = 1_000
"""Characters of a task in a list; `status` has it whole."""
EVENTS = 40
"""Events of a trace in one result: the last ones."""


DispatchId = Annotated[
    str,
    Meta(
        description="whole id, or at least 4 of its first or last characters",
        pattern="^[0-9a-f-]{4,36}$",
    ),
]


class Read(Arguments, frozen=True, kw_only=True):
    what: Annotated[
        Literal["inbox", "status", "sent", "contacts", "invitations", "approvals", "changes", "whoami"],
        Meta(
            description=(
                "status: one dispatch in full; contacts: the trust edges; changes: what a run changed in the "
                "person's folders"
            )
        ),
    ]
    dispatch_id: DispatchId | None = None
    limit: Annotated[int, Meta(ge=1, le=100, description="1 to 100; default: 20")] | None = None
    before: Annotated[str, Meta(max_length=256, description="for the next page: `next` of the list")] | None = None


class NoArguments(Arguments, frozen=True, kw_only=True):
    pass


async def read(call: Call, arguments: Read) -> Document:
    """Look something up; nothing changes."""
    what = arguments.what
    takes = {
        "status": ("what", "dispatch_id"),
        "changes": ("what", "dispatch_id", "before"),
        "whoami": ("what",),
    }
    refuse_others(arguments, f"what={what}", *takes.get(what, ("what", "limit", "before")))
    limit = arguments.limit or LISTED
    if what in ("status", "changes"):
        require(arguments, f"what={what}", "dispatch_id")
    client = await call.client()
    match what:
        case "inbox" | "sent":
            direction: Direction = "received" if what == "inbox" else "sent"
            found = await client.dispatches(direction, limit=limit, before=arguments.before)
            return listed(found, await _questions(client, found["dispatches"]))
        case "status":
            return whole(await client.dispatch(await ids.whole(client, str(arguments.dispatch_id))))
        case "changes":
            identity = await ids.whole(client, str(arguments.dispatch_id))
            return await review.changes(client, identity, _number(arguments.before))
        case "contacts":
            return safe(await client.contacts(limit=limit, before=arguments.before))
        case "invitations":
            return safe(await client.invitations(limit=limit, before=arguments.before))
        case "whoami":
            return safe(in_document(await client.whoami()))
        case "approvals":
            return await _waiting(call, limit, arguments.before)


def _number(before: str | None) -> int:
    if before is None:
        return 0
    if not before.isdecimal() or len(before) > 9:
        raise Invalid(
            'with what="changes", `before` has to be the `next` of a page of changes',
            fix="leave it out for the first page",
        )
    return int(before)


async def pending(call: Call, _arguments: NoArguments) -> Document:
    """List the tool calls that wait for an answer; they count as shown from now on."""
    return await _waiting(call, LISTED, None)


async def _waiting(call: Call, limit: int | None, before: str | None) -> Document:
    """List a page of the tool calls that wait: {approvals, more, next}."""
    client = await call.client()
    page = await client.approvals_page(limit=limit, before=before)
    rows = page["approvals"]
    for row in rows:
        call.session.show(row["dispatch_id"], row["request_id"])
    return {
        "approvals": [picker.described(row) for row in rows],
        **safe({name: page[name] for name in ("more", "next")}),
    }


async def _questions(client: AsyncClient, rows: list[Document]) -> dict[str, Document]:
    """Return, by the ids of the first dispatches that wait here, the question to ask about each."""
    waiting = [row for row in rows if (row["direction"], row["status"]) == ("received", "pending")][:ASKED]
    return {row["dispatch_id"]: accept(await client.dispatch(row["dispatch_id"])).picker() for row in waiting}


def listed(found: Document, questions: Mapping[str, Document]) -> Document:
    """Return a page of dispatches, as many as fit a result: {dispatches: [{…, untrusted_task, question?}], more, next}.

    `next`: the `before` of the next page.
    """
    document: Document = {"dispatches": [], "more": found["more"], "next": found["next"]}
    length = 0
    for row in found["dispatches"]:
        brief = {name: row[name] for name in _BRIEF if name in row}
        task = row["task"]
        brief["untrusted_task"] = task[:LISTED_TASK]
        if len(task) > LISTED_TASK or row.get("task_cut"):
            brief["untrusted_task"] += " … [CUT HERE: the task goes on]"
            brief["task_cut"] = f'whole: dispatch_read(what="status", dispatch_id="{row["dispatch_id"]}")'
        brief |= untrusted(row, "message")
        if row.get("landing"):
            brief["changes"] = row["landing"]["words"]
        if question := questions.get(row["dispatch_id"]):
            brief["question"] = question
        length += size(brief)
        if length > MAX_INLINE * 3 // 4:
            document |= {"more": True, "next": document["dispatches"][-1]["dispatch_id"]}
            break
        document["dispatches"].append(brief)
    return quoted(document)


_BRIEF = ("dispatch_id", "status", "direction", "sender_id", "recipient_id", "created", "expires_at", "attempt", "code")


_WRITTEN = tuple(name for name in FIELDS if name not in ("files", "parent"))
"""The members of a dispatch that hold text of its sender."""


def whole(row: Document) -> Document:
    """Return one dispatch with its payload, the end of its trace, and its result."""
    document: Document = {name: row[name] for name in _BRIEF if name in row}
    document |= untrusted(row, *_WRITTEN, "message")
    if row.get("fix"):
        document["fix"] = for_host(row["fix"])
    document["files"] = row["files"]
    document |= {name: row[name] for name in ("unknown_fields", "unseen_fields") if row.get(name)}
    if row.get("removed"):
        document["removed"] = row["removed"]["message"]
    if row.get("parent"):
        document["parent"] = row["parent"]
    if row["direction"] == "received":
        document["cwd"] = row.get("cwd")
        if row.get("suggestion"):
            document["suggestion"] = row["suggestion"]
        if row["status"] == "pending":
            document["question"] = accept(row).picker()
    events = row["events"]
    document["untrusted_events"] = events[-EVENTS:]
    if len(events) > EVENTS:
        document["events_left_out"] = len(events) - EVENTS
    document["approvals"] = [picker.described(each) for each in row["approvals"]]
    if row["result"] or row.get("held"):
        ended = final(row)
        document["result"] = {
            name: ended[name]
            for name in ("held", "status", "reply", "reason", "fix", "files", "usage", "counts", "receipt", "sandbox")
            if name in ended
        }
        document |= {name: ended[name] for name in ("landed", "changes") if name in ended}
    return quoted(document)
