"""The loopback API: who may call, the shape of each request, and which method of the node answers. No deciding here.

Every request needs the bearer token of `local.token`, a loopback Host, and no foreign Origin or Sec-Fetch-Site: the
token proves a process of this user, the headers keep web pages of others (also through DNS rebinding) from using a
browser as one. Bodies are bounded and of exactly one shape; errors are {"error": {code, message, fix}}.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import structlog
import trio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from peer.dispatches.lifecycle import FINAL
from peer.health import Health
from peer.node import Node
from peer.protocol.errors import DispatchError, Forbidden, Internal, Invalid, NotFound, TooLarge, Unauthorized
from peer.store import trace, views
from peer.trust.grants import BudgetInput

log = structlog.get_logger(__name__)

MAX_BODY = 2 * 1024 * 1024
"""Bytes: the largest is a dispatch whose task and background are of four-byte characters in JSON's \\u form."""
MAX_PAGE = 1_000
LOOPBACK_HOST = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\])(?::[0-9]{1,5})?", re.ASCII | re.IGNORECASE)
DECIDING = (b"host", b"origin", b"sec-fetch-site", b"authorization")
"""Headers on which it is decided who may call: each at most once, or one of two would decide and the other be seen."""
KEEPALIVE_SECONDS = 15.0
MAX_STREAMS = 64

T = TypeVar("T")
Text = Annotated[str, msgspec.Meta(max_length=200_000)]
Words = str | list[str]


class _Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A request body; unknown members are refused."""


class InviteBody(_Body):
    email: str


class ContactBody(_Body):
    alias: Annotated[str, msgspec.Meta(max_length=200)]


class ScopeBody(_Body):
    tools: Words | None = None
    mcp_servers: Words | None = None
    paths: Words | None = None
    approval: str | None = None
    max_per_day: int | str | None = None
    expires: str | None = None
    results: str | None = None
    budget: BudgetInput | None = None
    confirm_unverified: bool = False
    unconfirmed: bool = False
    """No person has confirmed it: what would permit more is only described, and not done."""


class AcceptInvitationBody(ScopeBody, kw_only=True):
    token: Annotated[str, msgspec.Meta(max_length=2_000)]


class EditBody(ScopeBody):
    remove_rule: int | None = None


class TokenBody(_Body):
    token: Annotated[str, msgspec.Meta(max_length=2_000)]


class SendBody(_Body):
    recipient: str
    task: Text
    expires_in_seconds: int | None = None
    meta: dict[str, str] | None = None
    files: list[str] | None = None
    project: str | None = None
    links: list[str] | None = None
    deliverable: str | None = None
    background: Text | None = None
    device: str | None = None
    parent_id: str | None = None


class AcceptBody(_Body):
    cwd: str | None = None


class ReasonBody(_Body):
    reason: str = ""


class AnswerBody(_Body):
    decision: Literal["allow", "deny"]
    grant: Literal["once", "session", "always"] = "once"
    note: str = ""
    decline_dispatch: bool = False
    rule: int | None = None
    """The index of one of the call's `rule_choices`, for `session` and `always`; none is the first, the narrowest."""


Handler = Callable[[Request], Awaitable[Any]]


def application(node: Node, token: str) -> ASGIApp:
    """Return the ASGI application of one node, open to holders of `token`."""
    routes = _Routes(node)
    return Starlette(
        routes=[
            Route("/v1/whoami", _json(routes.whoami)),
            Route("/v1/doctor", _json(routes.doctor)),
            Route("/v1/contacts", _json(routes.contacts)),
            Route("/v1/contacts/{peer}", _json(routes.name), methods=["PATCH"]),
            Route("/v1/invitations", _json(routes.invitations)),
            Route("/v1/invitations", _json(routes.invite), methods=["POST"]),
            Route("/v1/invitations/accept", _json(routes.accept_invitation), methods=["POST"]),
            Route("/v1/invitations/decline", _json(routes.decline_invitation), methods=["POST"]),
            Route("/v1/invitations/{token}", _json(routes.withdraw), methods=["DELETE"]),
            Route("/v1/block", _json(routes.block), methods=["POST"]),
            Route("/v1/trust/{peer}", _json(routes.trust)),
            Route("/v1/trust/{peer}", _json(routes.edit), methods=["PATCH"]),
            Route("/v1/trust/{peer}/pause", _json(routes.pause), methods=["POST"]),
            Route("/v1/trust/{peer}/resume", _json(routes.resume), methods=["POST"]),
            Route("/v1/trust/{peer}/revoke", _json(routes.revoke), methods=["POST"]),
            Route("/v1/dispatches", _json(routes.dispatches)),
            Route("/v1/dispatches", _json(routes.send), methods=["POST"]),
            Route("/v1/dispatches/{id}", _json(routes.dispatch)),
            Route("/v1/dispatches/{id}/events", routes.events),
            Route("/v1/dispatches/{id}/accept", _json(routes.accept), methods=["POST"]),
            Route("/v1/dispatches/{id}/decline", _json(routes.decline), methods=["POST"]),
            Route("/v1/dispatches/{id}/cancel", _json(routes.cancel), methods=["POST"]),
            Route("/v1/approvals", _json(routes.approvals)),
            Route("/v1/approvals/{id}/{request_id}", _json(routes.answer), methods=["POST"]),
            Route("/v1/reload", _json(routes.reload), methods=["POST"]),
        ],
        middleware=[Middleware(_Guard, token=token)],
        exception_handlers={404: _no_route, 405: _no_route},
    )


class _Routes:
    """One method a route: the request taken apart, the node asked."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._health = Health(node)
        self._streams = trio.CapacityLimiter(MAX_STREAMS)

    async def whoami(self, _request: Request) -> Any:
        return await self._health.whoami()

    async def doctor(self, request: Request) -> Any:
        return await self._health.doctor(fix=request.query_params.get("fix") == "1")

    async def contacts(self, _request: Request) -> Any:
        return await self._node.trust.contacts()

    async def name(self, request: Request) -> Any:
        return await self._node.trust.name(request.path_params["peer"], (await _body(request, ContactBody)).alias)

    async def invitations(self, _request: Request) -> Any:
        return await self._node.trust.invitations()

    async def invite(self, request: Request) -> Any:
        return await self._node.trust.invite((await _body(request, InviteBody)).email)

    async def accept_invitation(self, request: Request) -> Any:
        return await self._node.trust.accept(msgspec.structs.asdict(await _body(request, AcceptInvitationBody)))

    async def decline_invitation(self, request: Request) -> Any:
        return await self._node.trust.decline((await _body(request, TokenBody)).token)

    async def withdraw(self, request: Request) -> Any:
        return await self._node.trust.withdraw(request.path_params["token"])

    async def block(self, request: Request) -> Any:
        return await self._node.trust.block((await _body(request, InviteBody)).email)

    async def trust(self, request: Request) -> Any:
        return await self._node.trust.show(request.path_params["peer"])

    async def edit(self, request: Request) -> Any:
        body = await _body(request, EditBody)
        return await self._node.trust.edit(request.path_params["peer"], msgspec.structs.asdict(body))

    async def pause(self, request: Request) -> Any:
        return await self._node.trust.set_paused(request.path_params["peer"], paused=True)

    async def resume(self, request: Request) -> Any:
        return await self._node.trust.set_paused(request.path_params["peer"], paused=False)

    async def revoke(self, request: Request) -> Any:
        return await self._node.trust.revoke(request.path_params["peer"])

    async def send(self, request: Request) -> Any:
        return await self._node.send(msgspec.structs.asdict(await _body(request, SendBody)))

    async def dispatches(self, request: Request) -> Any:
        query = request.query_params
        box = query.get("box", "inbox")
        if box not in ("inbox", "sent"):
            raise Invalid("box is inbox or sent")
        return await self._node.dispatches(
            box=box,
            status=query.get("status"),
            limit=_number(query.get("limit", "50"), 1, MAX_PAGE),
            before=query.get("before"),
        )

    async def dispatch(self, request: Request) -> Any:
        return await self._node.dispatch(request.path_params["id"])

    async def accept(self, request: Request) -> Any:
        return await self._node.accept(request.path_params["id"], (await _body(request, AcceptBody)).cwd)

    async def decline(self, request: Request) -> Any:
        return await self._node.decline(request.path_params["id"], (await _body(request, ReasonBody)).reason)

    async def cancel(self, request: Request) -> Any:
        return await self._node.cancel(request.path_params["id"], (await _body(request, ReasonBody)).reason)

    async def approvals(self, _request: Request) -> Any:
        return await self._node.approvals()

    async def answer(self, request: Request) -> Any:
        body = await _body(request, AnswerBody)
        return await self._node.answer(
            request.path_params["id"],
            request.path_params["request_id"],
            allow=body.decision == "allow",
            grant=body.grant,
            note=body.note,
            decline_dispatch=body.decline_dispatch,
            rule=body.rule,
        )

    async def reload(self, request: Request) -> Any:
        self._node.reload()
        return {"ok": True}

    async def events(self, request: Request) -> Response:
        """Server-sent events of one dispatch: what was, then what comes, until its end."""
        dispatch_id = request.path_params["id"]
        try:
            after = _number(request.headers.get("last-event-id", "0").partition(":")[0] or "0", 0, 1 << 53)
            await self._node.dispatch(dispatch_id)
            self._streams.acquire_on_behalf_of_nowait(request)
        except DispatchError as error:
            return _failure(error)
        except trio.WouldBlock:
            return _failure(DispatchError("too many live views at once", fix="close some", code=429))

        return _LiveView(
            _follow(self._node, dispatch_id, after),
            partial(self._streams.release_on_behalf_of, request),
            media_type="text/event-stream",
            headers={"cache-control": "no-store"},
        )


class _LiveView(StreamingResponse):
    """A stream that says when it is over, also when its reader has gone before its first byte."""

    def __init__(self, content: AsyncIterator[bytes], over: Callable[[], None], **more: Any) -> None:
        super().__init__(content, **more)
        self._over = over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._over()


async def _follow(node: Node, dispatch_id: str, after: int) -> AsyncIterator[bytes]:
    """Yield a dispatch's trace events, states and approvals as they come; the id is the number of the last event."""
    told_state = ""
    told_approvals: list[str] = []
    number = after
    while True:
        bell = node.bells.of(dispatch_id)
        live = node.live()

        def query(db: Any, number: int = number, now: int = live.now, me: str = live.me) -> Any:
            row = views.dispatch_brief(db, me, now, dispatch_id)
            return row, trace.events(db, dispatch_id, after=number, limit=1000)

        row, events = await node.context.store.read(query)
        for number, attempt, text in events:
            yield _sse("trace", number, views.event_document(number, attempt, text))
        if len(events) == 1000:
            continue
        asked = [item for item in await node.approvals() if item["dispatch_id"] == dispatch_id]
        for item in asked:
            if item["request_id"] not in told_approvals:
                yield _sse("approval", number, item)
        told_approvals = [item["request_id"] for item in asked]
        if row["status"] != told_state:
            told_state = row["status"]
            yield _sse("state", number, row)
        if told_state in FINAL:
            yield _sse("end", number, await node.dispatch(dispatch_id))
            return
        with trio.move_on_after(KEEPALIVE_SECONDS) as waited:
            await bell.wait()
        if waited.cancelled_caught:
            yield b": still here\n\n"


def _sse(kind: str, number: int, document: Any) -> bytes:
    return b"event: %s\nid: %d\ndata: %s\n\n" % (kind.encode(), number, msgspec.json.encode(document))


class _Guard:
    """Lets only this user's own programs through, and bounds what they send."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            if scope["http_version"] not in ("1.0", "1.1"):
                raise Forbidden("only HTTP/1.1 is spoken here", fix="")
            self._check(_single(scope["headers"]))
        except DispatchError as error:
            await _failure(error)(scope, receive, send)
            return
        left = MAX_BODY

        async def bounded() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise TooLarge(f"a request body has at most {MAX_BODY} bytes")
            return message

        await self._app(scope, bounded, send)

    def _check(self, headers: dict[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").decode("latin-1")
        if not LOOPBACK_HOST.fullmatch(host):
            raise Forbidden("the Host is not this machine's loopback address", fix="call it as 127.0.0.1")
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1") != f"http://{host}":
            raise Forbidden("a page of another origin may not call this", fix="")
        if headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin"):
            raise Forbidden("a page of another site may not call this", fix="")
        given = headers.get(b"authorization", b"")
        if not hmac.compare_digest(given, b"Bearer " + self._token):
            raise Unauthorized(
                "the local token is missing or not this daemon's", fix="it is in local.token in the state folder"
            )


def _single(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return the deciding headers by lower-case name. Raises Invalid when one of them comes twice."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if (low := name.lower()) in DECIDING:
            if low in found:
                raise Invalid(f"the header {low.decode()} comes twice", fix="")
            found[low] = value
    return found


def _json(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def respond(request: Request) -> Response:
        try:
            return _document(await handler(request), 200)
        except DispatchError as error:
            return _failure(error)
        except Exception as error:
            log.exception("api.failed", path=request.url.path, error=type(error).__name__)
            return _failure(Internal("the daemon failed at this"))

    return respond


async def _body(request: Request, shape: type[T]) -> T:
    raw = await request.body()
    try:
        return msgspec.json.decode(raw or b"{}", type=shape)
    except msgspec.ValidationError as error:
        raise Invalid(f"the request is not of the form it must have: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid("the request is not JSON") from error


def _document(document: Any, status: int) -> Response:
    return Response(
        msgspec.json.encode(document),
        status_code=status,
        media_type="application/json",
        headers={"cache-control": "no-store", "x-content-type-options": "nosniff"},
    )


def _failure(error: DispatchError) -> Response:
    return _document({"error": error.to_json()}, error.code)


async def _no_route(request: Request, _error: Exception) -> Response:
    return _failure(NotFound("the daemon has no such route", fix="do daemon and command have the same version?"))


def _number(text: str, least: int, most: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 16 or not least <= int(text) <= most:
        raise Invalid(f"that number must be {least} to {most}")
    return int(text)
