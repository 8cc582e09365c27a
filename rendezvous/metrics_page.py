"""Who may read /metrics, and where: on an address of its own, with a token, or nobody. What it shows: metrics.py.

Numbers alone tell when an office works, how many people a broker has and when one more signs in, and asking for them
counts rows. So nobody reads them until the operator has said who: behind a proxy that hides where a request comes from,
"this machine only" would be everybody.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from peer.protocol.errors import Forbidden, Unauthorized, Unavailable
from rendezvous import metrics
from rendezvous.application import Application
from rendezvous.broker import Broker
from rendezvous.connections import ConnectionLimits, serve_within
from rendezvous.routing import Routes

COUNTED_SECONDS: Final = 15
"""How long the numbers of rows are good for: however often somebody asks, the database counts no more often."""


CONNECTIONS: Final = 16
"""To an address of its own: a few Prometheus servers, each with one."""


class MetricsPage:
    """The route /metrics, of the broker's address and of one of its own."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._counting = trio.Lock()
        self._counted = -float("inf")

    async def public(self, request: Request) -> Response:
        """GET /metrics at the broker's own address: with the operator's token. Raises Unauthorized, Forbidden."""
        settings = self._broker.settings
        if settings.metrics_apart or not settings.metrics_token:
            raise Forbidden(
                "the metrics are not for everybody",
                fix="its operator reads them at --metrics HOST:PORT, or here with $DISPATCH_METRICS_TOKEN",
            )
        return await self.apart(request)

    async def apart(self, request: Request) -> Response:
        """GET /metrics at an address of its own: with the operator's token, if there is one. Raises Unauthorized."""
        token = self._broker.settings.metrics_token
        if token and not _same(request.headers.get("authorization", ""), f"Bearer {token}"):
            raise Unauthorized(
                "the metrics need the operator's token", fix="send $DISPATCH_METRICS_TOKEN as Authorization: Bearer"
            )
        return Response(await self._text(), media_type=metrics.CONTENT_TYPE)

    async def _text(self) -> bytes:
        await self._count()
        broker = self._broker
        if broker.metrics_of_all is None:
            return metrics.render(broker.metrics.snapshot())
        return metrics.render(metrics.side_by_side(await broker.metrics_of_all()))

    async def _count(self) -> None:
        async with self._counting:
            if trio.current_time() - self._counted >= COUNTED_SECONDS:
                counts = None
                with suppress(Unavailable):  # the other metrics say so
                    counts = await self._broker.storage.counts(self._broker.clock())
                self._broker.metrics.stored(counts)
                self._counted = trio.current_time()


async def serve_apart(
    broker: Broker,
    listeners: Sequence[trio.SocketListener],
    *,
    until: Callable[[], Awaitable[None]],
) -> None:
    """Serve /metrics, and nothing else, on listeners of its own until `until` returns."""
    limits = ConnectionLimits(total=CONNECTIONS, per_network=CONNECTIONS)
    app = make_metrics_app(broker)
    await serve_within(app, listeners, tls=None, limits=limits, started=trio.Event(), until=until)


def make_metrics_app(broker: Broker) -> ASGIApp:
    """Return what an address of its own serves: /metrics alone."""
    return Application(Routes({"/metrics": {"GET": MetricsPage(broker).apart}}))


def _same(given: str, expected: str) -> bool:
    """Compare in a time that tells nothing, not even the length."""
    digests = (hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in (given, expected))
    return hmac.compare_digest(*digests)
