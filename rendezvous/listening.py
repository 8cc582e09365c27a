"""The broker's listening sockets. Who may be connected, and for how long: connections.py."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from peer.protocol.errors import Unavailable

STALLED_MS = 20_000
"""How long sent bytes may stay unacknowledged. A client that stops reading is dropped then; TCP alone would keep the
response in memory for a quarter of an hour."""


@asynccontextmanager
async def listening(
    host: str, port: int, *, backlog: int, option: str = "--port"
) -> AsyncIterator[Sequence[trio.SocketListener]]:
    """Listen on every address that `host` has, IPv4 and IPv6, all on one port. Raises Unavailable.

    `option`: the one that names the port, for the error.

    `::` stands for all addresses of both families. Port 0 is any port that is free on all of them.

    `backlog` bounds the connections that wait to be accepted; the kernel cuts it to net.core.somaxconn (4096 since
    Linux 5.4). A broker that restarts gets the connections of all its daemons at once, and with a full queue they
    retry after one, three, seven seconds. A queue above the bound on connections would hold some only to close them.
    """
    async with AsyncExitStack() as stack:
        try:
            listeners = await _open(stack, host, port, backlog)
            if port == 0 and len(listeners) > 1:  # each has another port: take the first one's for all
                drawn = port_of(listeners)
                await stack.aclose()
                listeners = await _open(stack, host, drawn, backlog)
        except OSError as error:
            raise Unavailable(
                f"can't listen on {host} port {port}: {error.strerror}", fix=f"name another {option}"
            ) from error
        yield listeners


def port_of(listeners: Sequence[trio.SocketListener]) -> int:
    """Return the port that they listen on."""
    return int(listeners[0].socket.getsockname()[1])


async def _open(stack: AsyncExitStack, host: str, port: int, backlog: int) -> Sequence[trio.SocketListener]:
    # trio's listener on `::` is for IPv6 alone; without a host it opens one for each family.
    listeners = await trio.open_tcp_listeners(port, host=None if host == "::" else host, backlog=backlog)
    for listener in listeners:
        await stack.enter_async_context(listener)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # inherited by accepted sockets
            listener.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_MS)
    return listeners
