"""Serving a broker until it is stopped: connections, notices, regular purging. From options to here: running.py."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import replace

import structlog
import trio

from peer.protocol.errors import Unavailable
from rendezvous.app import make_app
from rendezvous.broker import Broker
from rendezvous.connections import ConnectionLimits, serve_within

log = structlog.get_logger(__name__)

PURGE_SECONDS = 60


async def serve(
    broker: Broker,
    listeners: Sequence[trio.SocketListener],
    *,
    tls: ssl.SSLContext | None = None,
    started: trio.Event,
    stop: trio.Event,
    limits: ConnectionLimits = ConnectionLimits(),
    drain_seconds: float = 0,
) -> None:
    """Answer requests on `listeners` until `stop`, then let the running ones end. Sets `started` when it accepts.

    `drain_seconds`: for so long after `stop` it goes on, while /health tells load balancers to send it nothing more.
    """
    limits = replace(limits, unbounded=broker.settings.trusted_proxies)

    async def drained() -> None:
        await stop.wait()
        broker.draining = True
        await trio.sleep(drain_seconds)

    async def purge_regularly() -> None:
        while True:
            try:
                await broker.storage.purge(broker.clock())
            except Unavailable as error:  # requests are told of it; the database may come back
                log.warning("purge.failed", why=error.message)
            await trio.sleep(PURGE_SECONDS)

    def heard(user_id: str | None) -> None:
        if user_id is None:
            broker.changes.notify_all()
        else:
            broker.changes.notify(user_id)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(purge_regularly)
        nursery.start_soon(broker.storage.listen, heard)
        await serve_within(
            make_app(broker),
            listeners,
            tls=tls,
            limits=limits,
            started=started,
            until=drained,
            ended=broker.changes.close,
            on_refusal=broker.refused,
        )
        nursery.cancel_scope.cancel()
