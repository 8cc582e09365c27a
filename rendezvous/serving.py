"""Serving a broker until it is stopped: settings of Hypercorn, connections, regular purging. Options: main.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import structlog
import trio
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework
from hypercorn.utils import wrap_app

from peer.protocol.errors import Unavailable
from rendezvous.app import make_app
from rendezvous.broker import Broker
from rendezvous.connections import ConnectionLimits, serve_within

log = structlog.get_logger(__name__)

PURGE_SECONDS = 60


def server_config(*, certificate: Path | None = None, key: Path | None = None) -> Config:
    """Return Hypercorn's settings: bounded headers, HTTP/1.1 only, no log of accesses."""
    config = Config()
    config.alpn_protocols = ["http/1.1"]
    config.h11_max_incomplete_size = 16 * 1024
    # Longer than a client keeps an idle connection, so that it is the client who closes first.
    config.keep_alive_timeout = 60
    config.graceful_timeout = 3
    config.include_server_header = False
    config.accesslog = None
    config.loglevel = "WARNING"
    if certificate and key:
        config.certfile, config.keyfile = str(certificate), str(key)
    return config


async def serve(
    broker: Broker,
    listeners: Sequence[trio.SocketListener],
    config: Config,
    *,
    started: trio.Event,
    stop: trio.Event,
    limits: ConnectionLimits = ConnectionLimits(),
) -> None:
    """Answer requests on `listeners` until `stop`, then let the running ones end. Sets `started` when it accepts."""
    limits = replace(limits, unbounded=broker.settings.trusted_proxies)

    async def stopping() -> None:
        await stop.wait()
        broker.changes.close()

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
        # Starlette and Hypercorn describe the same ASGI with different types.
        app = wrap_app(cast(ASGIFramework, make_app(broker)), config.wsgi_max_body_size, "asgi")
        await serve_within(app, config, listeners, limits=limits, started=started, until=stopping)
        nursery.cancel_scope.cancel()
