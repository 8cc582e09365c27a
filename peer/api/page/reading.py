"""The page's routes by which a person reads: one dispatch, the calls that wait, its reply, its files, its receipt.

What is returned is JSON, or bytes that no browser displays by themselves. Nothing is changed here.
"""

from __future__ import annotations

import mimetypes
import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

import msgspec
import trio
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from peer.api.page.call_colours import asked_of
from peer.api.responses import Reply, as_json, number
from peer.dispatches import payload, summary
from peer.dispatches.pictures import HEAD, picture
from peer.node.colouring import Colouring
from peer.node.replies import Replies
from peer.protocol.content import MAX_FILES
from peer.protocol.documents import Document
from peer.protocol.errors import NO_FIX, Gone, NotFound, Unavailable
from peer.protocol.signing import open_as
from peer.protocol.statements import Result
from peer.store import contacts, dispatches, trace, unreleased
from peer.store.receipts import open_receipt
from peer.store.rows import Approval, FileState
from peer.store.views import Live
from peer.trust import receipts
from sandbox.changes.colours import Asked

if TYPE_CHECKING:
    from peer.node.node import Node

MAX_TEXT: Final = 64 * 1024
"""Bytes of a file that are shown as text."""
MAX_TASK: Final = 200
"""Characters of a task that stand beside a call."""
MAX_WAITING: Final = 500
MAX_EVENTS: Final = 500


class _Stored(NamedTuple):
    """A file of a dispatch that is here."""

    name: str
    size: int
    path: trio.Path


class ReadingRoutes:
    """One method per route."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._replies = Replies()
        self._colouring = Colouring()
        self._receipts = trio.CapacityLimiter(1)

    def table(self) -> list[Route]:
        """Return the routes."""
        one = "/v1/page/dispatches/{id}"
        return [
            Route("/v1/page/approvals", as_json(self.approvals)),
            Route("/v1/page/approvals/{id}/{request_id}", as_json(self.decided)),
            Route("/v1/page/approvals/{id}/{request_id}/colours", as_json(self.call_colours)),
            Route(one, as_json(self.dispatch)),
            Route(f"{one}/reply", as_json(self.reply)),
            Route(f"{one}/held", as_json(self.held)),
            Route(f"{one}/receipt", as_json(self.receipt)),
            Route(f"{one}/receipt/file", as_json(self.receipt_file)),
            Route(f"{one}/files/{{role}}/{{position}}", as_json(self.preview)),
            Route("/v1/dispatches/{id}/files/{role}/{position}", as_json(self.download)),
        ]

    async def approvals(self, request: Request) -> Reply:
        """Return a page of the calls that wait, each with `task` (its beginning), `folder` and `step` of its run and
        `words`, its line in parts (`peer.dispatches.summary.parts`)."""
        query = request.query_params
        limit = number(query.get("limit", "50"), 1, MAX_WAITING)
        page = await self._node.queries.approvals(limit=limit, before=query.get("before"))
        return page | {"approvals": await self._placed(page["approvals"])}

    async def decided(self, request: Request) -> Reply:
        """Return how a tool call was decided: {outcome, grant?, note?}; outcome is "" while it waits."""
        asked = await self._asked(request)
        given = msgspec.json.decode(asked.answer) if asked.answer else {}
        return {"outcome": asked.outcome, **{name: given[name] for name in ("grant", "note") if name in given}}

    async def call_colours(self, request: Request) -> Reply:
        """Return {colours} of a call's diff or command as `sandbox.changes.colours`, null where there are none.

        The lines of a diff are at their numbers in the file; a command is all of `new`.
        """
        asked = asked_of(msgspec.json.decode((await self._asked(request)).call))
        found = await self._colouring.colours(asked) if asked is not None else None
        return {"colours": None if found is None else msgspec.to_builtins(found)}

    async def _asked(self, request: Request) -> Approval:
        dispatch_id, request_id = request.path_params["id"], request.path_params["request_id"]
        found = await self._node.context.store.read(lambda db: trace.approval(db, dispatch_id, request_id))
        if found is None:
            raise NotFound("no such tool call was asked about")
        return found

    async def dispatch(self, request: Request) -> Reply:
        """Return one dispatch without its trace, with `alias` and `peer_online` of its person."""
        found = await self._node.queries.dispatch(request.path_params["id"], with_trace=False)
        live = self._node.queries.live()
        person = await self._node.context.store.read(partial(_person, live=live, user_id=found["peer"]))
        return found | person | {"approvals": await self._placed(found["approvals"])}

    async def reply(self, request: Request) -> Reply:
        """Return {reply}: what the agent said last as {parts: [node]}, null where it is shown as it was written.

        Its nodes: sandbox/replies/tree.py.
        """
        text = await self._node.context.store.read(lambda db: _reply(db, request.path_params["id"]))
        return {"reply": await self._replies.tree(text)}

    async def held(self, request: Request) -> Reply:
        """Return a page of the events of a held result, as GET /v1/dispatches/{id}/held, each call with its `words`."""
        query = request.query_params
        after, limit = number(query.get("after", "0"), 0, 1 << 53), number(query.get("limit", "200"), 1, MAX_EVENTS)
        found = await self._node.queries.held(request.path_params["id"], after=after, limit=limit)
        return found | {"events": [summary.with_words(event, "") for event in found["events"]]}

    async def receipt(self, request: Request) -> Reply:
        """Return {whole, statements, events} of a receipt that verifies here; `whole`: it has all events."""
        _, proven = await self._receipt(request.path_params["id"])
        return {"whole": proven.complete, "statements": proven.statements, "events": proven.events}

    async def receipt_file(self, request: Request) -> Reply:
        """Return the receipt, as `dispatch receipt` writes it, as a download."""
        dispatch_id = request.path_params["id"]
        found, _ = await self._receipt(dispatch_id)
        raw = await trio.to_thread.run_sync(receipts.encode, found)
        headers = _saved_as(f"dispatch-{dispatch_id[:8]}.receipt")
        return Response(raw, media_type="application/octet-stream", headers=headers)

    async def preview(self, request: Request) -> Reply:
        """Return what of a file can be shown, by its bytes alone.

        {kind: "text", text, cut, colours}: its beginning, `cut` where it goes on, `colours` of its lines or null.
        {kind: "picture", type, width, height}: its bytes are a download as any other. {kind: "other", type}: neither;
        `type` is what its name says, or "".
        """
        stored = await self._stored(request)
        async with await stored.path.open("rb") as file:
            head = await file.read(HEAD)
        if found := picture(head):
            return {"kind": "picture", **found._asdict()}
        text = _text(head[:MAX_TEXT], whole=len(head) <= MAX_TEXT)
        if text is None:
            return {"kind": "other", "type": mimetypes.guess_type(stored.name)[0] or ""}
        coloured = await self._colouring.colours(Asked(name=stored.name, old="", new=text))
        colours = None if coloured is None else msgspec.to_builtins(coloured.new)
        return {"kind": "text", "text": text, "cut": stored.size > MAX_TEXT, "colours": colours}

    async def download(self, request: Request) -> Reply:
        """Return a file of a dispatch as a download, with a type that no browser displays."""
        stored = await self._stored(request)
        return FileResponse(stored.path, media_type="application/octet-stream", headers=_saved_as(stored.name))

    async def _stored(self, request: Request) -> _Stored:
        parameters = request.path_params
        role = {"attachments": "attachment", "returned": "returned"}.get(parameters["role"])
        if role is None:
            raise NotFound("a dispatch has attachments and returned files", fix=NO_FIX)
        place = number(parameters["position"], 0, MAX_FILES)
        files = await self._node.context.store.read(lambda db: dispatches.files(db, parameters["id"], role))
        item = next((file for file in files if file.position == place), None)
        if item is None:
            raise NotFound("no such file of that dispatch", fix=NO_FIX)
        path = trio.Path(self._node.context.blobs.path(item.digest))
        if item.state is FileState.AWAITED:
            raise Unavailable("that file is not here yet", fix="wait until it has arrived")
        if item.state is not FileState.READY or not await path.is_file():
            raise Gone("that file is not here any more", fix="whoever sent it may send it again")
        payload.check_file_name(item.name)
        return _Stored(item.name, item.size, path)

    async def _receipt(self, dispatch_id: str) -> tuple[receipts.Receipt, receipts.Proven]:
        context = self._node.context

        def work() -> tuple[receipts.Receipt, receipts.Proven]:
            found = open_receipt(context.state, context.identity.device_set, dispatch_id)
            return found, receipts.verify(found)

        async with self._receipts:
            return await trio.to_thread.run_sync(work)

    async def _placed(self, calls: list[Document]) -> list[Document]:
        def query(db: sqlite3.Connection) -> list[Document]:
            return [call | _place(db, call) for call in calls]

        return await self._node.context.store.read(query) if calls else calls


def _place(db: sqlite3.Connection, call: Document) -> Document:
    """Return what a call belongs to, and its line: {task, folder, step, words}."""
    row = dispatches.get(db, call["dispatch_id"])
    if row is None:
        return {"task": "", "folder": None, "step": 0, "words": summary.parts(call, "")}
    first = row.task.strip().partition("\n")[0]
    task = first if len(first) <= MAX_TASK else f"{first[:MAX_TASK]}…"
    step = trace.step_of(db, row.dispatch_id, row.attempt, call["request_id"])
    return {"task": task, "folder": row.cwd or None, "step": step, "words": summary.parts(call, row.cwd or "")}


def _person(db: sqlite3.Connection, *, live: Live, user_id: str) -> Document:
    contact = contacts.get(db, user_id)
    online = any(live.path(device.device) for device in contacts.devices(db, user_id))
    return {"alias": contact.alias if contact else "", "peer_online": online}


def _reply(db: sqlite3.Connection, dispatch_id: str) -> str:
    row = dispatches.get(db, dispatch_id)
    if row is None:
        raise NotFound(f"no dispatch {dispatch_id}")
    if row.result:
        return open_as(Result, row.result)[0].reply
    held = unreleased.get(db, dispatch_id)
    return held[0].reply if held else ""


def _text(head: bytes, *, whole: bool) -> str | None:
    """The text that a file begins with; None where it is none. A character that is cut at the end is left out."""
    if b"\0" in head:
        return None
    for end in range(len(head), len(head) - 1 if whole else max(0, len(head) - 4), -1):
        try:
            return head[:end].decode()
        except UnicodeDecodeError:
            continue
    return None if head else ""


def _saved_as(name: str) -> dict[str, str]:
    return {"content-disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}
