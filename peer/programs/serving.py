"""Opens a node from its state folder and serves its API on loopback: keys, store, port, token, daemon.json.

Used by the daemon and by the node of an agent's session (session_node.py).
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import cast

import psutil
import structlog
import trio
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework
from hypercorn.utils import wrap_app

from peer import VERSION
from peer.api.connections import MAX_CONNECTIONS, serve_at_most
from peer.api.routes import MAX_BODY, application
from peer.client.blocking import HostedBy
from peer.machine.state_folder import StateFolder
from peer.node.node import FAREWELL_SECONDS, Node
from peer.programs import preflight
from peer.protocol.documents import Document
from peer.protocol.errors import Unavailable
from peer.steps.context import Context
from peer.store.blobs import Blobs
from peer.store.database import Store

log = structlog.get_logger(__name__)

HOST = "127.0.0.1"
PORTS_TRIED = 20


@asynccontextmanager
async def served(
    folder: StateFolder,
    *,
    port: int | None = None,
    listen: Sequence[str] | None = None,
    report: Callable[[str], None] = lambda _line: None,
    hosted_by: HostedBy = "daemon",
    farewell_seconds: float = FAREWELL_SECONDS,
) -> AsyncIterator[Node]:
    """Run a state folder's node and API while the block runs. The caller holds the folder's lock.

    `port` and `listen` override config.json; port 0 is any free one. `report` gets lines for a person (a taken port).
    `hosted_by`: see peer.client.blocking.Daemon; `farewell_seconds`: see Node.
    Raises NotSignedIn, NewerStore, Unavailable, Conflict.
    """
    who, chosen = preflight.check(folder)
    store = Store.open(folder.store)
    try:
        context = Context(folder, who, store, Blobs(folder.blobs))
        node = Node(context, tuple(listen) if listen else chosen.listen, farewell_seconds=farewell_seconds)
        with _listen(chosen.port if port is None else port, report) as listener:
            node.port = listener.getsockname()[1]
            async with node.running(), _api(folder, node, listener):
                _write_daemon_json(folder, node, hosted_by)
                try:
                    yield node
                finally:
                    for path in (folder.daemon_json, folder.local_token):
                        with suppress(OSError):
                            path.unlink(missing_ok=True)
    finally:
        store.close()


@asynccontextmanager
async def _api(folder: StateFolder, node: Node, listener: socket.socket) -> AsyncIterator[None]:
    token = secrets.token_urlsafe(32)
    folder.write_private(folder.local_token, token.encode())
    config = Config()
    config.accesslog = None
    config.errorlog = None
    config.h11_max_incomplete_size = 64 * 1024
    config.include_server_header = False
    config.wsgi_max_body_size = MAX_BODY
    app = wrap_app(cast(ASGIFramework, application(node, token)), config.wsgi_max_body_size, "asgi")
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_at_most, MAX_CONNECTIONS, app, config, listener)
        try:
            yield
        finally:
            # Only live views last long, and they end with the node.
            nursery.cancel_scope.cancel()


def _write_daemon_json(folder: StateFolder, node: Node, hosted_by: HostedBy) -> None:
    document: Document = {
        "pid": os.getpid(),
        "hosted_by": hosted_by,
        "port": node.port,
        "peer_id": node.host.peer_id,
        "addresses": node.host.addresses(),
        "version": VERSION,
    }
    folder.write_private(folder.daemon_json, json.dumps(document).encode() + b"\n")


def _listen(port: int, report: Callable[[str], None]) -> socket.socket:
    """Return a loopback socket that listens on `port`, or on the next free one. 0: any free port."""
    for candidate in range(port, port + PORTS_TRIED) if port else (0,):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, candidate))
            # Right after bind: two sockets with SO_REUSEADDR can be bound to one port while neither listens.
            listener.listen(128)
        except OSError as error:
            listener.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise Unavailable(
                    f"can't listen on {HOST}:{candidate}: {error.strerror}", fix="run `dispatch doctor`"
                ) from error
            report(f"port {candidate} is taken{_port_holder(candidate)}; trying the next one")
            continue
        listener.setblocking(False)
        return listener
    raise Unavailable(
        f"the ports {port} to {port + PORTS_TRIED - 1} are all taken", fix="choose another: `dispatch-daemon --port 0`"
    )


def _port_holder(port: int) -> str:
    """Return " by NAME (pid N)" for the program on a loopback port, "" if this user may not see it."""
    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return ""
