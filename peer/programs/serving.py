"""Opens a node from its state folder and serves its API on loopback: keys, store, port, token, daemon.json.

Used by the daemon and by the node of an agent's session (session_node.py).
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, cast

import psutil
import structlog
import trio
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework
from hypercorn.utils import wrap_app
from starlette.types import ASGIApp

from peer import VERSION
from peer.api.connections import MAX_CONNECTIONS, serve_at_most
from peer.api.page.sign_in_flow import SignInFlow
from peer.api.routes import MAX_BODY, application
from peer.client.blocking import HostedBy
from peer.machine.state_folder import StateFolder
from peer.machine.supervision import supervise
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
    listener: socket.socket | None = None,
    report: Callable[[str], None] = lambda _line: None,
    hosted_by: HostedBy = "daemon",
    farewell_seconds: float = FAREWELL_SECONDS,
) -> AsyncIterator[Node]:
    """Run a state folder's node and API while the block runs. The caller holds the folder's lock.

    `port` and `listen` override config.json; port 0 is any free one. `listener` is a socket that listens already, in
    place of `port`. `report` gets lines for a person (a taken port).
    `hosted_by`: see peer.client.blocking.Daemon; `farewell_seconds`: see Node.
    Raises NotSignedIn, NewerStore, Unavailable, Conflict.
    """
    who, chosen = preflight.check(folder)
    store = Store.open(folder.store)
    try:
        context = Context(folder, who, store, Blobs(folder.blobs))
        node = Node(context, tuple(listen) if listen else chosen.listen, farewell_seconds=farewell_seconds)
        with listener or listen_on(chosen.port if port is None else port, report) as listening:
            node.port = listening.getsockname()[1]
            token = new_token()
            async with node.running(), _api(folder, node, token, listening):
                more: Document = {"peer_id": node.host.peer_id, "addresses": node.host.addresses()}
                with announced(folder, node.port, token, hosted_by=hosted_by, more=more):
                    yield node
    finally:
        store.close()


@asynccontextmanager
async def _api(folder: StateFolder, node: Node, token: str, listening: socket.socket) -> AsyncIterator[None]:
    def changed() -> None:
        node.changes.note("setup")
        node.signal.notify()

    flow = SignInFlow(lambda: folder, changed)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervise, "page's sign-in", flow.run)
        await nursery.start(serve, application(node, token, flow), listening)
        try:
            yield
        finally:
            # Only live views last long, and they end with the node.
            nursery.cancel_scope.cancel()


async def serve(
    app: ASGIApp,
    listening: socket.socket,
    *,
    task_status: Any = trio.TASK_STATUS_IGNORED,  # trio-stubs lack trio.TaskStatus
) -> None:
    """Serve an application of ours on a listening loopback socket until cancelled; the socket is closed then."""
    config = Config()
    config.accesslog = None
    config.errorlog = None
    config.h11_max_incomplete_size = 64 * 1024
    config.include_server_header = False
    config.wsgi_max_body_size = MAX_BODY
    wrapped = wrap_app(cast(ASGIFramework, app), config.wsgi_max_body_size, "asgi")
    await serve_at_most(MAX_CONNECTIONS, wrapped, config, listening, task_status=task_status)


def new_token() -> str:
    """Return a secret for local programs."""
    return secrets.token_urlsafe(32)


@contextmanager
def announced(
    folder: StateFolder, port: int, token: str, *, hosted_by: HostedBy, more: Document | None = None
) -> Iterator[None]:
    """Let programs find the API while the block runs: local.token and daemon.json."""
    folder.write_private(folder.local_token, token.encode())
    document: Document = {
        "pid": os.getpid(),
        "hosted_by": hosted_by,
        "port": port,
        **(more or {}),
        "version": VERSION,
    }
    try:
        folder.write_private(folder.daemon_json, json.dumps(document).encode() + b"\n")
        yield
    finally:
        for path in (folder.daemon_json, folder.local_token):
            with suppress(OSError):
                path.unlink(missing_ok=True)


def listen_on(port: int, report: Callable[[str], None]) -> socket.socket:
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
