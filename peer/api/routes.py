"""The loopback API: its routes, and the service of the node behind each. The bodies of requests: bodies.py.

Who may call is decided in page/guard.py; routes for the local page alone are in page/routes.py. Errors are
{"error": {code, message, fix}}.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from functools import partial
from typing import TypedDict
from urllib.parse import unquote

import msgspec
import trio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from peer.api.bodies import (
    AcceptBody,
    AcceptInvitationBody,
    AddressBody,
    AnswerBody,
    ApplyBody,
    AttemptBody,
    ContactBody,
    EditBody,
    InviteBody,
    ReasonBody,
    ReleaseBody,
    RemoveBrokerBody,
    TokenBody,
)
from peer.api.health import Health
from peer.api.page.guard import MAX_BODY as MAX_BODY  # the server bounds what it buffers by the same number
from peer.api.page.guard import Guard
from peer.api.page.routes import PageRoutes
from peer.api.page.shell import missing
from peer.api.page.sign_in_flow import SignInFlow
from peer.api.responses import LiveView, Reply, as_json, body_of, failure, number, sse
from peer.broker.leaving import remove_broker
from peer.client.blocking import BROKER_HEADER, SignIn
from peer.client.requests import SendRequest
from peer.dispatches.lifecycle import RUN_OVER
from peer.node.node import Node
from peer.protocol.documents import Direction, Document
from peer.protocol.errors import DispatchError, Invalid, NotFound
from peer.store import trace, views

MAX_PAGE = 1_000
KEEPALIVE_SECONDS = 15.0
DIRECTIONS: dict[str, Direction] = {"received": "received", "sent": "sent"}
MAX_STREAMS = 64


def application(node: Node, token: str, flow: SignInFlow | None = None) -> ASGIApp:
    """Return the ASGI application of one node. `token`: the secret of local programs; `flow` signs in for the page."""
    routes, page = _Routes(node), PageRoutes(node, flow)

    def sign_ins() -> list[SignIn]:
        return [SignIn(each.url, each.token) for each in node.settings.sign_ins]

    app = Starlette(
        routes=[
            *page.table(),
            Route("/v1/whoami", as_json(routes.whoami)),
            Route("/v1/doctor", as_json(routes.doctor)),
            Route("/v1/brokers/remove", as_json(routes.remove_broker), methods=["POST"]),
            Route("/v1/contacts", as_json(routes.contacts)),
            Route("/v1/contacts/{peer}", as_json(routes.set_alias), methods=["PATCH"]),
            Route("/v1/contacts/{peer}/addresses", as_json(routes.add_address), methods=["POST"]),
            Route("/v1/contacts/{peer}/addresses", as_json(routes.remove_address), methods=["DELETE"]),
            Route("/v1/invitations", as_json(routes.invitations)),
            Route("/v1/invitations", as_json(routes.invite), methods=["POST"]),
            Route("/v1/invitations/accept", as_json(routes.accept_invitation), methods=["POST"]),
            Route("/v1/invitations/decline", as_json(routes.decline_invitation), methods=["POST"]),
            Route("/v1/invitations/{token}", as_json(routes.withdraw), methods=["DELETE"]),
            Route("/v1/block", as_json(routes.block), methods=["POST"]),
            Route("/v1/block/{peer}", as_json(routes.unblock), methods=["DELETE"]),
            Route("/v1/trust/{peer}", as_json(routes.trust)),
            Route("/v1/trust/{peer}", as_json(routes.edit), methods=["PATCH"]),
            Route("/v1/trust/{peer}/pause", as_json(routes.pause), methods=["POST"]),
            Route("/v1/trust/{peer}/resume", as_json(routes.resume), methods=["POST"]),
            Route("/v1/trust/{peer}/revoke", as_json(routes.revoke), methods=["POST"]),
            Route("/v1/trust/{peer}/key", as_json(routes.forget_key), methods=["DELETE"]),
            Route("/v1/trust/{peer}/key", as_json(routes.believe_key_again), methods=["POST"]),
            Route("/v1/dispatches", as_json(routes.dispatches)),
            Route("/v1/dispatches", as_json(routes.send), methods=["POST"]),
            Route("/v1/dispatches/{id}", as_json(routes.dispatch)),
            Route("/v1/dispatches/{id}/events", routes.events),
            Route("/v1/dispatches/{id}/folder", as_json(routes.folder)),
            Route("/v1/dispatches/{id}/accept", as_json(routes.accept), methods=["POST"]),
            Route("/v1/dispatches/{id}/decline", as_json(routes.decline), methods=["POST"]),
            Route("/v1/dispatches/{id}/cancel", as_json(routes.cancel), methods=["POST"]),
            Route("/v1/dispatches/{id}/held", as_json(routes.held)),
            Route("/v1/dispatches/{id}/release", as_json(routes.release), methods=["POST"]),
            Route("/v1/dispatches/{id}/changes", as_json(routes.changes)),
            Route("/v1/dispatches/{id}/changes/{number}", as_json(routes.change)),
            Route("/v1/dispatches/{id}/apply", as_json(routes.apply), methods=["POST"]),
            Route("/v1/dispatches/{id}/discard", as_json(routes.discard), methods=["POST"]),
            Route("/v1/dispatches/{id}/undo", as_json(routes.undo), methods=["POST"]),
            Route("/v1/approvals", as_json(routes.approvals)),
            Route("/v1/approvals/{id}/{request_id}", as_json(routes.answer), methods=["POST"]),
            Route("/v1/reload", as_json(routes.reload), methods=["POST"]),
        ],
        middleware=[Middleware(Guard, token=token, sessions=lambda: page.sessions, sign_ins=sign_ins)],
        exception_handlers={404: _no_route, 405: _no_route},
    )
    # A path with a slash too many would be answered by a redirect to whatever host the request named.
    app.router.redirect_slashes = False
    return app


class _Routes:
    """One method per route: parse the request, call the service."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._health = Health(node)
        self._streams = trio.CapacityLimiter(MAX_STREAMS)

    async def whoami(self, _request: Request) -> Reply:
        return await self._health.whoami()

    async def doctor(self, request: Request) -> Reply:
        query = request.query_params
        return await self._health.doctor(fix=query.get("fix") == "1", part=query.get("part"))

    async def remove_broker(self, request: Request) -> Reply:
        body = await body_of(request, RemoveBrokerBody)
        node = self._node
        return await remove_broker(node.journal, body.url, confirmed=body.confirmed, reload=node.reload)

    async def contacts(self, request: Request) -> Reply:
        return await self._node.trust.contacts(**_page_asked(request))

    async def set_alias(self, request: Request) -> Reply:
        return await self._node.trust.set_alias(
            request.path_params["peer"], (await body_of(request, ContactBody)).alias
        )

    async def add_address(self, request: Request) -> Reply:
        body = await body_of(request, AddressBody)
        return await self._node.trust.add_address(request.path_params["peer"], body.address)

    async def remove_address(self, request: Request) -> Reply:
        body = await body_of(request, AddressBody)
        return await self._node.trust.remove_address(request.path_params["peer"], body.address)

    async def invitations(self, request: Request) -> Reply:
        ended = request.query_params.get("ended") == "1"
        return await self._node.invitations.listed(ended=ended, **_page_asked(request))

    async def invite(self, request: Request) -> Reply:
        # The sign-in that a program means is where it is posted; the guard has compared it with this node's.
        named = unquote(request.headers.get(BROKER_HEADER, ""))
        return await self._node.invitations.invite((await body_of(request, InviteBody)).email, broker=named)

    async def accept_invitation(self, request: Request) -> Reply:
        return await self._node.invitations.accept(msgspec.structs.asdict(await body_of(request, AcceptInvitationBody)))

    async def decline_invitation(self, request: Request) -> Reply:
        return await self._node.invitations.decline((await body_of(request, TokenBody)).token)

    async def withdraw(self, request: Request) -> Reply:
        return await self._node.invitations.withdraw(request.path_params["token"])

    async def block(self, request: Request) -> Reply:
        return await self._node.trust.block((await body_of(request, InviteBody)).email)

    async def unblock(self, request: Request) -> Reply:
        return await self._node.trust.unblock(request.path_params["peer"])

    async def trust(self, request: Request) -> Reply:
        return await self._node.trust.show(request.path_params["peer"])

    async def edit(self, request: Request) -> Reply:
        body = await body_of(request, EditBody)
        return await self._node.trust.edit(request.path_params["peer"], msgspec.structs.asdict(body))

    async def pause(self, request: Request) -> Reply:
        return await self._node.trust.set_paused(request.path_params["peer"], paused=True)

    async def resume(self, request: Request) -> Reply:
        return await self._node.trust.set_paused(request.path_params["peer"], paused=False)

    async def revoke(self, request: Request) -> Reply:
        return await self._node.trust.revoke(request.path_params["peer"])

    async def forget_key(self, request: Request) -> Reply:
        return await self._node.trust.forget_key(request.path_params["peer"])

    async def believe_key_again(self, request: Request) -> Reply:
        return await self._node.trust.believe_key_again(request.path_params["peer"])

    async def send(self, request: Request) -> Reply:
        return await self._node.sending.send(await body_of(request, SendRequest))

    async def dispatches(self, request: Request) -> Reply:
        query = request.query_params
        direction = DIRECTIONS.get(query.get("direction", "received"))
        if direction is None:
            raise Invalid("direction must be received or sent", fix="give direction=received or direction=sent")
        return await self._node.queries.dispatches(
            direction=direction,
            status=query.get("status"),
            limit=number(query.get("limit", "50"), 1, MAX_PAGE),
            before=query.get("before"),
        )

    async def dispatch(self, request: Request) -> Reply:
        return await self._node.queries.dispatch(request.path_params["id"])

    async def folder(self, request: Request) -> Reply:
        return await self._node.queries.folder(request.path_params["id"], request.query_params.get("cwd"))

    async def accept(self, request: Request) -> Reply:
        return await self._node.decisions.accept(request.path_params["id"], (await body_of(request, AcceptBody)).cwd)

    async def decline(self, request: Request) -> Reply:
        return await self._node.decisions.decline(
            request.path_params["id"], (await body_of(request, ReasonBody)).reason
        )

    async def cancel(self, request: Request) -> Reply:
        return await self._node.decisions.cancel(request.path_params["id"], (await body_of(request, ReasonBody)).reason)

    async def held(self, request: Request) -> Reply:
        query = request.query_params
        return await self._node.queries.held(
            request.path_params["id"],
            after=number(query.get("after", "0"), 0, 1 << 53),
            limit=number(query.get("limit", "200"), 1, MAX_PAGE),
        )

    async def release(self, request: Request) -> Reply:
        return await self._node.decisions.release(
            request.path_params["id"], (await body_of(request, ReleaseBody)).without
        )

    async def changes(self, request: Request) -> Reply:
        query = request.query_params
        return await self._node.reviewing.changes(
            request.path_params["id"],
            attempt=_attempt(request),
            limit=number(query.get("limit", "200"), 1, MAX_PAGE),
            after=number(query.get("after", "0"), 0, 1 << 53),
            counts=query.get("counts") == "1",
        )

    async def change(self, request: Request) -> Reply:
        query = request.query_params
        return await self._node.reviewing.diff(
            request.path_params["id"],
            attempt=_attempt(request),
            number=number(request.path_params["number"], 0, 1 << 53),
            context=number(query.get("context", "3"), 0, 1 << 53),
            colours=query.get("colours") == "1",
        )

    async def apply(self, request: Request) -> Reply:
        body = await body_of(request, ApplyBody)
        return await self._node.reviewing.apply(
            request.path_params["id"],
            attempt=body.attempt,
            digest=body.digest,
            paths=body.paths,
            numbers=body.numbers,
            everything=body.all,
            marked=body.marked,
            dry_run=body.dry_run,
        )

    async def discard(self, request: Request) -> Reply:
        body = await body_of(request, AttemptBody)
        return await self._node.reviewing.discard(request.path_params["id"], attempt=body.attempt)

    async def undo(self, request: Request) -> Reply:
        body = await body_of(request, AttemptBody)
        return await self._node.reviewing.undo(request.path_params["id"], attempt=body.attempt)

    async def approvals(self, request: Request) -> Reply:
        query = request.query_params
        return await self._node.queries.approvals(
            limit=number(query.get("limit", "50"), 1, MAX_PAGE), before=query.get("before")
        )

    async def answer(self, request: Request) -> Reply:
        body = await body_of(request, AnswerBody)
        return await self._node.decisions.answer(
            request.path_params["id"],
            request.path_params["request_id"],
            allow=body.decision == "allow",
            grant=body.grant,
            note=body.note,
            decline_dispatch=body.decline_dispatch,
            rule=body.rule,
        )

    async def reload(self, request: Request) -> Reply:
        await self._node.reload()
        return {"ok": True}

    async def events(self, request: Request) -> Response:
        """Return the event stream of one dispatch: its stored events, then new ones, until its run is over."""
        dispatch_id = request.path_params["id"]
        try:
            after = number(request.headers.get("last-event-id", "0").partition(":")[0] or "0", 0, 1 << 53)
            await self._node.queries.dispatch(dispatch_id)
            self._streams.acquire_on_behalf_of_nowait(request)
        except DispatchError as error:
            return failure(error)
        except trio.WouldBlock:
            return failure(DispatchError("too many live views at once", fix="close some of them", code=429))

        return LiveView(
            _follow(self._node, dispatch_id, after),
            partial(self._streams.release_on_behalf_of, request),
        )


class Page(TypedDict):
    """Which part of a list is asked for; all of it without a limit."""

    limit: int | None
    before: str | None


def _attempt(request: Request) -> int | None:
    given = request.query_params.get("attempt")
    return None if given is None else number(given, 1, 1 << 53)


def _page_asked(request: Request) -> Page:
    query = request.query_params
    limit = query.get("limit")
    return {"limit": None if limit is None else number(limit, 1, MAX_PAGE), "before": query.get("before")}


async def _follow(node: Node, dispatch_id: str, after: int) -> AsyncIterator[bytes]:
    """Yield a dispatch's trace events, states and approvals; each id is the number of the last trace event."""
    sent_state = ""
    sent_approvals: list[str] = []
    number = after
    while True:
        changed = node.signal.of(dispatch_id)
        live = node.queries.live()

        def query(
            db: sqlite3.Connection, number: int = number, live: views.Live = live
        ) -> tuple[Document, list[tuple[int, int, str]], list[Document]]:
            row = views.dispatch_brief(db, live.me, live.now, dispatch_id)
            events = trace.events(db, dispatch_id, after=number, limit=1000)
            return row, events, views.approvals_of(db, dispatch_id, row["peer"], live.steady)

        row, events, asked = await node.context.store.read(query)
        for number, attempt, text in events:
            yield sse("trace", number, views.event_document(number, attempt, text))
        if len(events) == 1000:
            continue
        for item in asked:
            if item["request_id"] not in sent_approvals:
                yield sse("approval", number, item)
        sent_approvals = [item["request_id"] for item in asked]
        if row["status"] != sent_state:
            sent_state = row["status"]
            yield sse("state", number, row)
        if sent_state in RUN_OVER:
            yield sse("end", number, await node.queries.dispatch(dispatch_id))
            return
        with trio.move_on_after(KEEPALIVE_SECONDS) as waited:
            await changed.wait()
        if waited.cancelled_caught:
            yield b": still here\n\n"


async def _no_route(request: Request, _error: Exception) -> Response:
    unknown = NotFound("the daemon has no such route", fix="restart the daemon: it may be an older version")
    return missing(request) or failure(unknown)
