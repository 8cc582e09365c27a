"""The routes of the local page alone: live stream, uploads, search, previews of a scope.

One dispatch as a person reads it is in reading.py; routes that programs and the page share (accept, approve, edit an
edge) are in peer/api/routes.py.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import msgspec
import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from peer.api.page import stream as live_stream
from peer.api.page import words
from peer.api.page.guard import CALLER, UPLOADS
from peer.api.page.reading import ReadingRoutes
from peer.api.page.session_routes import SessionRoutes
from peer.api.page.sessions import Session, Sessions
from peer.api.page.setup_routes import SetupRoutes
from peer.api.page.shell import VIEWS, Shell
from peer.api.page.sign_in_flow import SignInFlow
from peer.api.page.uploads import Uploads
from peer.api.responses import Body, LiveView, Reply, as_json, body_of, failure, number
from peer.client.requests import SendRequest
from peer.protocol.content import DEFAULT_EXPIRES, FIELDS, MAX_FILE_BYTES, TEXTS
from peer.protocol.documents import Document
from peer.protocol.errors import DispatchError, Invalid, NotFound
from peer.store import contacts, history, lists
from peer.trust import fingerprints
from peer.trust.grants import BudgetInput
from peer.trust.network_words import proxied

if TYPE_CHECKING:
    from peer.node.node import Node

MAX_FOUND: Final = 200
MAX_WAITING: Final = 100


class PreviewBody(Body):
    peer: str
    tools: str | list[str] | None = None
    mcp_servers: str | list[str] | None = None
    paths: str | list[str] | None = None
    approval: str | None = None
    max_per_day: int | str | None = None
    expires: str | None = None
    results: str | None = None
    apply: str | None = None
    toolchains: str | list[str] | None = None
    network: str | list[str] | None = None
    budget: BudgetInput | None = None


class DiscardBody(Body):
    uploads: list[str]


class PageRoutes:
    """One method per route."""

    def __init__(self, node: Node, flow: SignInFlow | None = None) -> None:
        """`flow` signs in for the page; without one it cannot."""
        self._node = node
        self._shell = Shell()
        self._reading = ReadingRoutes(node)
        self._streams = trio.CapacityLimiter(live_stream.MAX_STREAMS)
        self._sessions = SessionRoutes(lambda: node.context.state, lambda: node.context.clock, lambda: node.port)
        flow = flow or SignInFlow(lambda: node.context.state, lambda: None)
        self._setup = SetupRoutes(lambda: node.context.state, lambda: node.settings, self._reload, flow)
        self._uploads: Uploads | None = None

    @property
    def sessions(self) -> Sessions:
        """The page's sessions."""
        return self._sessions.sessions

    def table(self) -> list[Route]:
        """Return the routes."""
        return [
            *(Route(path, self._shell.page) for path in VIEWS),
            Route("/page/{build}/{name}", self._shell.asset),
            *self._sessions.table(),
            *self._setup.table(),
            Route("/v1/page/session", as_json(self.session)),
            Route("/v1/page/waiting", as_json(self.waiting)),
            Route("/v1/page/stream", self.stream),
            Route("/v1/page/dispatches", as_json(self.send), methods=["POST"]),
            Route("/v1/page/history", as_json(self.history)),
            Route("/v1/page/choices", as_json(self.choices)),
            Route("/v1/page/preview", as_json(self.preview), methods=["POST"]),
            Route("/v1/page/contacts/{peer}/safety", as_json(self.safety)),
            Route("/v1/page/permissions", as_json(self.permissions)),
            Route(UPLOADS, as_json(self.upload), methods=["POST"]),
            Route(UPLOADS, as_json(self.discard), methods=["DELETE"]),
            *self._reading.table(),
        ]

    async def session(self, request: Request) -> Reply:
        """Return what a page needs first: the identity, the limits of a dispatch, settings."""
        identity = self._node.context.identity
        return {
            "user_id": identity.user_id,
            "device_name": identity.name,
            "has_identity": True,
            "notifications": self._node.settings.notifications,
            "limits": {name: field.limit for name, field in FIELDS.items()} | {"file_bytes": MAX_FILE_BYTES},
            "texts": [
                {"name": text.name, "heading": text.about.heading, "limit": text.limit, "long": text.long}
                for text in TEXTS
            ],
            "expires": DEFAULT_EXPIRES,
        }

    # --- reading

    async def stream(self, request: Request) -> Response:
        """Return the live stream. `follow`: a dispatch whose trace is included. `notifies=1`: the page notifies."""
        query = request.query_params
        try:
            start = live_stream.position(request.headers.get("last-event-id", ""))
            session: Session | None = request.scope[CALLER]
            self._streams.acquire_on_behalf_of_nowait(request)
        except DispatchError as error:
            return failure(error)
        except trio.WouldBlock:
            return failure(DispatchError("too many live views at once", fix="close some tabs", code=429))
        sessions = self.sessions
        counted = self._node.pages.opened(notifies=query.get("notifies") == "1")
        counted.__enter__()

        def on_close() -> None:
            counted.__exit__(None, None, None)
            self._streams.release_on_behalf_of(request)

        def still_signed_in() -> bool:
            return session is None or sessions.holds(session)

        return LiveView(live_stream.stream(self._node, start, query.get("follow", ""), still_signed_in), on_close)

    async def waiting(self, _request: Request) -> Reply:
        """Return {dispatches, more, any, invitations}: what waits for this person beside tool calls.

        `any`: whether a dispatch was ever sent or received.
        """
        live = self._node.queries.live()

        def query(db: sqlite3.Connection) -> Document:
            return lists.waiting_list(db, live.me, live.now, limit=MAX_WAITING)

        found = await self._node.context.store.read(query)
        invited = await self._node.invitations.listed(ended=False)
        return found | {"invitations": [each for each in invited["received"] if each["status"] == "open"]}

    async def history(self, request: Request) -> Reply:
        """Return sent and received dispatches, newest first; with `q`, those that contain its words."""
        query = request.query_params
        live = self._node.queries.live()
        find = partial(
            history.search,
            me=live.me,
            now=live.now,
            query=query.get("q", ""),
            limit=number(query.get("limit", "50"), 1, MAX_FOUND),
            before=query.get("before"),
        )
        return await self._node.context.store.read(find)

    async def safety(self, request: Request) -> Reply:
        """Return what two people compare: {fingerprint, words, own_fingerprint, own_words, safety_number}."""
        user_id = await self._node.context.store.read(lambda db: contacts.user_named(db, request.path_params["peer"]))
        contact = await self._node.context.store.read(lambda db: contacts.get(db, user_id))
        if contact is None:
            raise NotFound(f"{user_id} is no contact", fix="look at the contacts")
        own = self._node.context.identity.root

        def compute() -> Document:
            theirs, mine = fingerprints.fingerprint(contact.root), fingerprints.fingerprint(own)
            return {
                "fingerprint": theirs.digits,
                "words": theirs.words,
                "own_fingerprint": mine.digits,
                "own_words": mine.words,
                "safety_number": fingerprints.safety_number(contact.root, own),
            }

        return await trio.to_thread.run_sync(compute)

    async def permissions(self, _request: Request) -> Reply:
        """Return doctor's check of the state folder's permissions: {checks}."""
        folder = self._node.context.state
        problems = await trio.to_thread.run_sync(folder.problems)
        detail = "; ".join(f"{path} {wrong}" for path, wrong, _ in problems) or f"only you can reach {folder.path}"
        fix = "; ".join(dict.fromkeys(fix for _, _, fix in problems))
        return {"checks": [{"name": "permissions", "ok": not problems, "detail": detail, "fix": fix}]}

    # --- choosing a scope

    async def choices(self, _request: Request) -> Reply:
        """Return the menu in plain words, the tools with explanations, and the MCP servers that can be granted."""
        found = await self._node.trust.installed()
        return {
            "choices": words.choices(found.offers),
            "tools": [
                {"tool": tool, "title": words.TOOLS[tool][0], "does": words.TOOLS[tool][1]} for tool in words.TOOLS
            ],
            "mcp_servers": found.grantable,
            "left_out": found.left_out,
        }

    async def preview(self, request: Request) -> Reply:
        """Say what a scope would permit: {permits: [{weight, text, about}], needs_confirmation, registries, proxied}.

        `proxied`: {hosts, words}: the hosts to confirm because this machine's HTTP proxy resolves their names.
        """
        body = msgspec.structs.asdict(await body_of(request, PreviewBody))
        peer = body.pop("peer")
        found = await self._node.trust.preview(peer, body)
        return {
            "permits": words.permits(found.scope, peer, found.rules, found.by_proxy),
            "needs_confirmation": found.powerful,
            "registries": msgspec.to_builtins(found.scope.registries),
            "proxied": {"hosts": found.to_confirm, "words": proxied(found.to_confirm)},
        }

    # --- files

    async def upload(self, request: Request) -> Reply:
        """Store one file. Its name is percent-encoded in a header, its bytes are the body."""
        name = unquote(request.headers.get("x-file-name", ""), errors="replace")
        return await (await self._get_uploads()).take(name, _pieces(request))

    async def discard(self, request: Request) -> Reply:
        """Delete uploads that will not be sent."""
        body = await body_of(request, DiscardBody)
        await trio.to_thread.run_sync((await self._get_uploads()).drop, body.uploads)
        return {"ok": True}

    async def send(self, request: Request) -> Reply:
        """Sign and queue a dispatch with uploads as its files; delete the uploads once it is queued."""
        body = await body_of(request, SendRequest)
        uploads = body.files
        if len(set(uploads)) != len(uploads):
            raise Invalid("a dispatch has each of its files once", fix="rename one of the files")
        store = await self._get_uploads()
        paths = await trio.to_thread.run_sync(store.paths, uploads)
        answer = await self._node.sending.send(msgspec.structs.replace(body, files=tuple(map(str, paths))))
        await trio.to_thread.run_sync(store.drop, uploads)
        return answer

    async def _reload(self) -> None:
        await self._node.reload()

    async def _get_uploads(self) -> Uploads:
        if self._uploads is None:
            uploads = Uploads(self._node.context.state)
            self._uploads = uploads
            await trio.to_thread.run_sync(uploads.sweep)
        return self._uploads


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    async for piece in request.stream():
        if piece:
            yield piece
