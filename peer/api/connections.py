"""The loopback port's connections: how many at once, and when one ends. Who may call is decided in page/guard.py.

Hypercorn's own loop accepts without limit, and any user of this machine can connect to a loopback port, which would use
up the file descriptors that peers, files and the store need.
"""

from __future__ import annotations

import socket
from typing import Any, cast

import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState

MAX_CONNECTIONS = 256
"""A quarter of the usual 1,024 descriptors. A browser uses six for all tabs, a session or command one or two."""


class _Connection(TCPServer):
    """A connection that ends when its client closes it. Hypercorn's own then waits for the idle timeout."""

    async def _read_data(self) -> None:
        await super()._read_data()
        await self.idle_task.stop()


async def serve_at_most(
    most: int,
    app: AppWrapper,
    config: Config,
    listener: socket.socket,
    *,
    task_status: Any = trio.TASK_STATUS_IGNORED,  # trio-stubs lack trio.TaskStatus
) -> None:
    """Serve a listening socket until cancelled. A connection beyond `most` is closed without a response."""
    context = WorkerContext(None)
    places = trio.CapacityLimiter(most)

    async def answer(stream: trio.SocketStream) -> None:
        try:
            places.acquire_on_behalf_of_nowait(stream)
        except trio.WouldBlock:
            await trio.aclose_forcefully(stream)
            return
        try:
            # Its type names TLS streams only, but it takes both.
            await _Connection(app, config, context, ConnectionState({}), cast(trio.SSLStream, stream))
        finally:
            places.release_on_behalf_of(stream)

    accepting = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
    await trio.serve_listeners(answer, [accepting], task_status=task_status)
