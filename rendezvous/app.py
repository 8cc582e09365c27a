"""The table of routes, the middleware, and /health. What the other routes do: the modules imported here."""

from __future__ import annotations

import time
from typing import Final
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from peer.protocol.errors import DispatchError, Forbidden, Unavailable
from rendezvous import web
from rendezvous.broker import Broker, is_loopback
from rendezvous.invitations import InvitationRoutes
from rendezvous.join_pages import JoinRoutes
from rendezvous.metrics_page import MetricsPage
from rendezvous.pages import Pages
from rendezvous.presence import PresenceRoutes
from rendezvous.relay_access import RelayRoutes
from rendezvous.signin import SignInRoutes
from rendezvous.signin_pages import PageRoutes

UNMATCHED: Final = "unmatched"
"""The route of requests, in metrics, that were refused before or had none."""


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
        Route("/metrics", MetricsPage(broker).public, methods=["GET"]),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(web.SecurityHeaders), Middleware(RequestLimits, broker=broker)],
        exception_handlers={
            DispatchError: web.on_dispatch_error,
            HTTPException: web.on_http_exception,
            ClientDisconnect: web.on_client_gone,
            Exception: web.on_unexpected,
        },
    )
    # /login/ would be answered by a redirect to whatever host the request named.
    app.router.redirect_slashes = False
    return app


class RequestLimits:
    """ASGI middleware: bounds on requests in flight and per address; counts and times responses for /metrics."""

    def __init__(self, app: ASGIApp, *, broker: Broker) -> None:
        self._app = app
        self._broker = broker

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
            await send(message)

        self._broker.requests_in_progress += 1
        try:
            try:
                self._admit(Request(scope))
            except DispatchError as error:
                await web.problem(error)(scope, receive, noted)
                return
            await self._app(scope, receive, noted)
        finally:
            self._broker.requests_in_progress -= 1
            if status:
                route = getattr(scope.get("route"), "path", UNMATCHED)
                seconds = time.perf_counter() - began - web.waited(scope)
                self._broker.metrics.request(scope["method"], route, status=status, seconds=seconds)

    def _admit(self, request: Request) -> None:
        broker = self._broker
        if broker.settings.dev:
            _refuse_from_afar(request)
        if broker.requests_in_progress > broker.settings.limits.requests_at_once:
            broker.refused("requests_at_once")
            raise Unavailable("the broker is busy", fix="try again in a few seconds")
        broker.by_address.take(broker.address(request), broker.clock())


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
