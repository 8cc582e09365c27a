"""The broker's table of routes, its bounds on requests, and /health. What the other routes do: the modules imported
here."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from peer.protocol.errors import Forbidden, Unavailable
from rendezvous import web
from rendezvous.application import Application
from rendezvous.broker import Broker, is_loopback
from rendezvous.invitations import InvitationRoutes
from rendezvous.join_pages import JoinRoutes
from rendezvous.metrics_page import MetricsPage
from rendezvous.pages import Pages
from rendezvous.presence import PresenceRoutes
from rendezvous.relay_access import RelayRoutes
from rendezvous.routing import Routes
from rendezvous.signin import SignInRoutes
from rendezvous.signin_pages import PageRoutes


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

    return BrokerApplication(
        broker,
        Routes(
            {
                "/v1/login/device": {"POST": sign_in.device},
                "/v1/login/token": {"POST": sign_in.token},
                "/login": {"GET": sign_in_pages.login, "POST": sign_in_pages.submit},
                "/login/mail": {"GET": sign_in_pages.mailed, "POST": sign_in_pages.confirm},
                "/": {"GET": join.home},
                "/join": {"GET": join.without},
                "/join/{token}": {"GET": join.one},
                "/v1/presence": {"PUT": presence.put, "DELETE": presence.withdraw},
                "/v1/presence/{user_id}": {"GET": presence.get},
                "/v1/relays": {"POST": relays.post},
                "/v1/invitations": {"POST": invitations.post, "GET": invitations.changed},
                "/v1/invitations/{token}": {"GET": invitations.one, "DELETE": invitations.withdraw},
                "/v1/invitations/{token}/answer": {"POST": invitations.answer},
                "/health": {"GET": health},
                "/health/live": {"GET": live},
                "/metrics": {"GET": MetricsPage(broker).public},
            }
        ),
    )


class BrokerApplication(Application):
    """And the bounds on requests in progress and per address; every request is counted and timed for /metrics."""

    def __init__(self, broker: Broker, routes: Routes) -> None:
        super().__init__(routes)
        self._broker = broker

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._broker.requests_in_progress += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._broker.requests_in_progress -= 1

    def admit(self, request: Request) -> None:
        broker = self._broker
        if broker.settings.dev:
            _refuse_from_afar(request)
        if broker.requests_in_progress > broker.settings.limits.requests_at_once:
            broker.refused("requests_at_once")
            raise Unavailable("the broker is busy", fix="try again in a few seconds")
        broker.by_address.take(broker.address(request), broker.clock())

    def answered(self, method: str, route: str, *, status: int, seconds: float) -> None:
        self._broker.metrics.request(method, route, status=status, seconds=seconds)


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
