"""Accepting connections, with a bound in all and for each network. Bounds on requests: app.py, ratelimit.py.

Clients that open connections and send nothing could use up the process's file descriptors, and nobody else would be
served: a connection above a bound is closed at once.
"""

from __future__ import annotations

import resource
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import trio
from starlette.types import ASGIApp

from rendezvous.http1.connection import USUAL, Connection, Timeouts
from rendezvous.proxies import Network, is_trusted
from rendezvous.ratelimit import network_of

SPARED_DESCRIPTORS = 64
"""For the database, mail that is being sent, the listeners, and a connection that is accepted only to be closed."""

GRACE_SECONDS = 3
"""For requests that are being answered when the server stops."""


@dataclass(frozen=True, kw_only=True)
class ConnectionLimits:
    """Counts of open connections. A daemon has two or three: one for its long poll, one to write."""

    total: int = 10_000
    per_network: int = 256
    """By `network_of`: an IPv4 address, which an office may share, or the /64 of an IPv6 address."""
    unbounded: tuple[Network, ...] = ()
    """The operator's proxies, through which all come; they bound their own clients. Counted in the total alone."""

    def within_descriptors(self) -> ConnectionLimits:
        """Raise this process's limit of file descriptors as far as needed and allowed; return what fits it."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = self.total + SPARED_DESCRIPTORS
        soft = max(soft, wanted if hard == resource.RLIM_INFINITY else min(wanted, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return replace(self, total=min(self.total, soft - SPARED_DESCRIPTORS))


class OpenConnections:
    """Counts open connections, and says which new one has a place."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._total = 0
        self._by_network: Counter[str] = Counter()

    @contextmanager
    def place(self, address: str) -> Iterator[bool]:
        """Give whether there is a place for a connection from this IP address; it is taken while the block runs."""
        network = network_of(address)
        full = self._by_network[network] >= self._limits.per_network and not is_trusted(address, self._limits.unbounded)
        if self._total >= self._limits.total or full:
            yield False
            return
        self._total += 1
        self._by_network[network] += 1
        try:
            yield True
        finally:
            self._total -= 1
            self._by_network[network] -= 1
            if not self._by_network[network]:
                del self._by_network[network]

    def __len__(self) -> int:
        return self._total


async def serve_within(
    app: ASGIApp,
    listeners: Sequence[trio.SocketListener],
    *,
    tls: ssl.SSLContext | None,
    limits: ConnectionLimits,
    timeouts: Timeouts = USUAL,
    started: trio.Event,
    until: Callable[[], Awaitable[None]],
    ended: Callable[[], None] = lambda: None,
) -> None:
    """Serve on `listeners` until `until` returns, then let running requests end, for GRACE_SECONDS.

    Sets `started` once it accepts connections. They are TLS if there is a context for it. `ended` is called when
    every response has become its connection's last: it may end requests that wait.
    """
    counted = OpenConnections(limits)
    open_now: set[Connection] = set()
    scheme = "http" if tls is None else "https"

    async def serve_connection(stream: trio.abc.Stream) -> None:
        client = peer_and_port_of(stream)
        with counted.place(client[0]) as free:
            if not free:
                await trio.aclose_forcefully(stream)
                return
            connection = Connection(stream, app, scheme=scheme, client=client, timeouts=timeouts)
            open_now.add(connection)
            try:
                await connection.serve()
            finally:
                open_now.discard(connection)

    ready: list[trio.abc.Listener[trio.abc.Stream]] = [
        plain if tls is None else trio.SSLListener(plain, tls, https_compatible=True) for plain in listeners
    ]
    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            await accepting.start(partial(trio.serve_listeners, serve_connection, ready, handler_nursery=connections))
            started.set()
            await until()
            accepting.cancel_scope.cancel()
        for connection in open_now:
            connection.finish()
        ended()
        connections.cancel_scope.deadline = trio.current_time() + GRACE_SECONDS


def peer_of(stream: trio.abc.Stream) -> str:
    """Return the IP address at the other end of an accepted connection; "gone" for one that is closed already."""
    return peer_and_port_of(stream)[0]


def peer_and_port_of(stream: trio.abc.Stream) -> tuple[str, int]:
    """Return address and port at the other end of an accepted connection; "gone" and 0 for one that is closed."""
    plain = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    try:
        address, port = cast(trio.SocketStream, plain).socket.getpeername()[:2]
    except OSError:
        return "gone", 0
    return str(address), int(port)
