"""The table of routes, the middleware, /health and /metrics. What the other routes do: the modules imported here."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from peer.protocol.errors import DispatchError, Forbidden, Unavailable
from rendezvous import web
from rendezvous.broker import Broker, is_loopback
from rendezvous.invitations import InvitationRoutes
from rendezvous.join_pages import JoinRoutes
from rendezvous.pages import Pages
from rendezvous.presence import PresenceRoutes
from rendezvous.relay_access import RelayRoutes
from rendezvous.signin import SignInRoutes
from rendezvous.signin_pages import PageRoutes

MAX_AT_ONCE = 6_000
"""Requests in flight, long polls included; one above it gets 503 at once."""


def make_app(broker: Broker) -> ASGIApp:
    """Return the broker as one ASGI application."""
    pages = Pages(broker)
    sign_in, sign_in_pages, join = SignInRoutes(broker), PageRoutes(broker, pages), JoinRoutes(broker, pages)
    presence, invitations, relays = PresenceRoutes(broker), InvitationRoutes(broker), RelayRoutes(broker)

    async def health(_request: Request) -> Response:
        """GET /health → {status, origin, dev, mail}; 503 while the broker is about to stop, or the database does not
        answer: a load balancer is to send nothing more."""
        if broker.draining:
            raise Unavailable("this broker is about to stop", fix="try again in a few seconds")
        await broker.storage.check()
        settings = broker.settings
        return web.document(
            {"status": "ok", "origin": settings.public_url, "dev": settings.dev, "mail": broker.mailer is not None}
        )

    async def live(_request: Request) -> Response:
        """GET /health/live → 204: the process answers, whatever its database does. One that does not is to be ended."""
        return Response(status_code=204)

    async def metrics(_request: Request) -> Response:
        """GET /metrics: numbers only, in the text format of Prometheus."""
        return PlainTextResponse(await _metrics(broker), media_type="text/plain; version=0.0.4; charset=utf-8")

    routes = [
        Route("/v1/login/device", sign_in.device, methods=["POST"]),
        Route("/v1/login/token", sign_in.token, methods=["POST"]),
        Route("/login", sign_in_pages.login, methods=["GET"]),
        Route("/login", sign_in_pages.submit, methods=["POST"]),
        Route("/login/mail", sign_in_pages.mailed, methods=["GET"]),
        Route("/login/mail", sign_in_pages.confirm, methods=["POST"]),
        Route("/", join.home, methods=["GET"]),
        Route("/join", join.without, methods=["GET"]),
        Route("/join/{token}", join.one, methods=["GET"]),
        Route("/v1/presence", presence.put, methods=["PUT"]),
        Route("/v1/presence", presence.withdraw, methods=["DELETE"]),
        Route("/v1/presence/{user_id}", presence.get, methods=["GET"]),
        Route("/v1/relays", relays.post, methods=["POST"]),
        Route("/v1/invitations", invitations.post, methods=["POST"]),
        Route("/v1/invitations", invitations.changed, methods=["GET"]),
        Route("/v1/invitations/{token}", invitations.one, methods=["GET"]),
        Route("/v1/invitations/{token}", invitations.withdraw, methods=["DELETE"]),
        Route("/v1/invitations/{token}/answer", invitations.answer, methods=["POST"]),
        Route("/health", health, methods=["GET"]),
        Route("/health/live", live, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
    ]
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(web.SecurityHeaders),
            Middleware(RequestLimits, broker=broker),
            Middleware(web.Unexpected),
        ],
        exception_handlers={
            DispatchError: web.on_dispatch_error,
            HTTPException: web.on_http_exception,
            ClientDisconnect: web.on_client_gone,
        },
    )
    # /login/ would be answered by a redirect to whatever host the request named.
    app.router.redirect_slashes = False
    return app


class RequestLimits:
    """ASGI middleware: bounds on requests in flight and per address; counts responses by status."""

    def __init__(self, app: ASGIApp, *, broker: Broker) -> None:
        self._app = app
        self._broker = broker
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._broker.responses_by_status[int(message["status"])] += 1
            await send(message)

        try:
            if self._broker.settings.dev:
                _refuse_from_afar(Request(scope))
            if self._in_flight >= MAX_AT_ONCE:
                raise Unavailable("the broker is busy", fix="try again in a few seconds")
            self._broker.by_address.take(self._broker.address(Request(scope)), self._broker.clock())
        except DispatchError as error:
            await web.problem(error)(scope, receive, counted)
            return
        self._in_flight += 1
        try:
            await self._app(scope, receive, counted)
        finally:
            self._in_flight -= 1


FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


def _refuse_from_afar(request: Request) -> None:
    """Refuse what reached a development broker through a proxy or tunnel, or by another name than this machine's.

    The name also keeps out a web site whose own name resolves to 127.0.0.1 (DNS rebinding).
    """
    try:
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    except ValueError:
        host = ""
    if not is_loopback(host) or any(name in request.headers for name in FORWARDED):
        raise Forbidden(
            "a development broker approves every sign-in, so it only answers requests from its own machine",
            fix="run the broker without --dev, and with --public-url and --smtp-host",
        )


async def _metrics(broker: Broker) -> str:
    counts = await broker.storage.counts(broker.clock())
    gauges = {
        "users": counts.users,
        "devices": counts.devices,
        "devices_present": counts.devices_present,
        "invitations_open": counts.invitations_open,
        "logins_pending": counts.sign_ins_pending,
        "readers_waiting": len(broker.changes),
    }
    lines = []
    for name, value in gauges.items():
        lines += [f"# TYPE dispatch_{name} gauge", f"dispatch_{name} {value}"]
    lines.append("# TYPE dispatch_responses_total counter")
    by_status = sorted(broker.responses_by_status.items())
    lines += [f'dispatch_responses_total{{status="{status}"}} {count}' for status, count in by_status]
    return "\n".join(lines) + "\n"
