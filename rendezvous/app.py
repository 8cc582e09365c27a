"""The broker's routes, its middleware, /health and /metrics. What each route does: the modules it is wired to."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from peer.protocol.errors import DispatchError, Unavailable
from rendezvous import web
from rendezvous.broker import Broker
from rendezvous.invitations import Invitations
from rendezvous.login_pages import Pages
from rendezvous.presence import Presence
from rendezvous.signin import SignIn
from rendezvous.storage import upkeep

MAX_AT_ONCE = 6_000
"""Requests in flight, waiting readers included; a flood above it is told to come back."""


def make_app(broker: Broker) -> ASGIApp:
    """Return the broker as one ASGI application."""
    sign_in, pages, presence, invitations = SignIn(broker), Pages(broker), Presence(broker), Invitations(broker)

    async def health(_request: Request) -> Response:
        """GET /health → {status, origin, dev, mail}: 200 when the database answers too."""
        await broker.db(lambda db: db.execute("SELECT 1").fetchone())
        settings = broker.settings
        return web.document(
            {"status": "ok", "origin": settings.public_url, "dev": settings.dev, "mail": broker.mailer is not None}
        )

    async def metrics(_request: Request) -> Response:
        """GET /metrics: numbers only, in Prometheus' text format."""
        return PlainTextResponse(await _metrics(broker), media_type="text/plain; version=0.0.4; charset=utf-8")

    routes = [
        Route("/v1/login/device", sign_in.device, methods=["POST"]),
        Route("/v1/login/token", sign_in.token, methods=["POST"]),
        Route("/login", pages.login, methods=["GET"]),
        Route("/login", pages.submit, methods=["POST"]),
        Route("/login/mail", pages.mailed, methods=["GET"]),
        Route("/login/mail", pages.confirm, methods=["POST"]),
        Route("/i", pages.invitation, methods=["GET"]),
        Route("/v1/presence", presence.put, methods=["PUT"]),
        Route("/v1/presence", presence.withdraw, methods=["DELETE"]),
        Route("/v1/presence/{user_id}", presence.get, methods=["GET"]),
        Route("/v1/invitations", invitations.post, methods=["POST"]),
        Route("/v1/invitations", invitations.changed, methods=["GET"]),
        Route("/v1/invitations/{token}", invitations.one, methods=["GET"]),
        Route("/v1/invitations/{token}", invitations.withdraw, methods=["DELETE"]),
        Route("/v1/invitations/{token}/answer", invitations.answer, methods=["POST"]),
        Route("/health", health, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(web.SecurityHeaders), Middleware(Door, broker=broker)],
        exception_handlers={
            DispatchError: web.on_dispatch_error,
            HTTPException: web.on_http_exception,
            Exception: web.on_unexpected,
        },
    )


class Door:
    """ASGI middleware: bounds on requests at once and per address, and the count of responses by status."""

    def __init__(self, app: ASGIApp, *, broker: Broker) -> None:
        self._app = app
        self._broker = broker
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._broker.statuses[int(message["status"])] += 1
            await send(message)

        try:
            if self._inside >= MAX_AT_ONCE:
                raise Unavailable("the broker is busy", fix="try again in a few seconds")
            self._broker.by_address.take(self._broker.address(Request(scope)), self._broker.clock())
        except DispatchError as error:
            await web.problem(error)(scope, receive, counted)
            return
        self._inside += 1
        try:
            await self._app(scope, receive, counted)
        finally:
            self._inside -= 1


async def _metrics(broker: Broker) -> str:
    counts = await broker.db(upkeep.counts, broker.clock())
    lines = []
    for name, value in {**counts, "readers_waiting": len(broker.bells)}.items():
        lines += [f"# TYPE dispatch_{name} gauge", f"dispatch_{name} {value}"]
    lines.append("# TYPE dispatch_responses_total counter")
    lines += [f'dispatch_responses_total{{status="{status}"}} {n}' for status, n in sorted(broker.statuses.items())]
    return "\n".join(lines) + "\n"
