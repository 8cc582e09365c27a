"""How many clients may be connected: in all, and from one network. What they may ask is not here.

Hypercorn's own loop accepts without limit, so that whoever opens connections and says nothing uses up the process's
file descriptors, and everybody else waits. Here one too many is closed at once, without a word.
"""

from __future__ import annotations

import resource
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState

from rendezvous.ratelimit import network_of

SPARED_DESCRIPTORS = 64
"""For the database, its journal, mail that is being sent, and the connection that is closed for being one too many."""


@dataclass(frozen=True, kw_only=True)
class ConnectionLimits:
    """Counts of open connections. A daemon has two or three: one waits for news, one writes."""

    total: int = 10_000
    per_network: int = 256
    """As `network_of` counts: an IPv4 address, which an office may share, or the /64 of an IPv6 one."""

    def within_descriptors(self) -> ConnectionLimits:
        """Raise this process's limit of file descriptors as far as it may and is needed; return what that allows."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = self.total + SPARED_DESCRIPTORS
        soft = max(soft, wanted if hard == resource.RLIM_INFINITY else min(wanted, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return ConnectionLimits(total=min(self.total, soft - SPARED_DESCRIPTORS), per_network=self.per_network)


class _Connection(TCPServer):
    """One connection, over when its client is gone: Hypercorn's own then waits for its idle time to pass."""

    async def _read_data(self) -> None:
        await super()._read_data()
        await self.idle_task.stop()


async def serve_within(
    app: AppWrapper,
    config: Config,
    listener: socket.socket,
    *,
    limits: ConnectionLimits,
    until: Callable[[], Awaitable[None]],
    task_status: Any = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer on a listening socket while `until` waits; then let running requests end, for `config.graceful_timeout`.

    With a certificate in `config` the connections are TLS.
    """
    context = WorkerContext(None)
    open_from: Counter[str] = Counter()
    open_now = 0

    async def answer(stream: trio.abc.Stream) -> None:
        nonlocal open_now
        network = _network(stream)
        if open_now >= limits.total or open_from[network] >= limits.per_network:
            await trio.aclose_forcefully(stream)
            return
        open_now += 1
        open_from[network] += 1
        try:
            # Typed for TLS alone, made for both.
            await _Connection(app, config, context, ConnectionState({}), cast(trio.SSLStream, stream))
        finally:
            open_now -= 1
            open_from[network] -= 1
            if not open_from[network]:
                del open_from[network]

    plain = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
    tls = config.create_ssl_context()
    ready = plain if tls is None else trio.SSLListener(plain, tls, https_compatible=True)
    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            await accepting.start(partial(trio.serve_listeners, answer, [ready], handler_nursery=connections))
            task_status.started()
            await until()
            accepting.cancel_scope.cancel()
        await context.terminated.set()
        connections.cancel_scope.deadline = trio.current_time() + config.graceful_timeout


def _network(stream: trio.abc.Stream) -> str:
    plain = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    try:
        return network_of(str(cast(trio.SocketStream, plain).socket.getpeername()[0]))
    except OSError:
        return "gone"
