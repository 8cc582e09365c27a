"""The way from this machine to a granted host: by name, its address checked, or through the person's HTTP proxy."""

from __future__ import annotations

import base64
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeVar

import httpcore
import httpx
import trio

from sandbox.errors import quoted
from sandbox.network.addresses import is_public, own_addresses, stands_for_another

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""(host, port) → the addresses of its name; OSError where there are none."""
Connection = TypeVar("Connection")
Connect = Callable[[str, int], Awaitable[Connection]]
"""(address, port) → a connection; OSError where there is none."""

_lookups: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("lookups")
_LOOKUPS: Final = 8
"""At once; others wait."""
_RESOLVED_WITHIN: Final = 15.0
_CONNECTED_WITHIN: Final = 10.0
"""Seconds, for each address."""
_ADDRESSES_TRIED: Final = 4
_PROXY_SECONDS: Final = 30.0


class Unreachable(Exception):
    """The message is a sentence for the person and the agent."""


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a name, by this machine's own resolver."""
    look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await trio.to_thread.run_sync(look_up, abandon_on_cancel=True, limiter=_threads())  # type: ignore[call-arg]
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _threads() -> trio.CapacityLimiter:
    # Of its own: one that waits for a resolver cannot be ended, and the others have a run's other work to do.
    try:
        return _lookups.get()
    except LookupError:
        _lookups.set(limiter := trio.CapacityLimiter(_LOOKUPS))
        return limiter


async def connect(address: str, port: int) -> trio.abc.HalfCloseableStream:
    """A TCP connection."""
    return await trio.open_tcp_stream(address, port)


async def direct(host: str, port: int, *, resolve: Resolve, connect: Connect[Connection]) -> Connection:
    """Connect to one of the public addresses of a name. Raises Unreachable.

    The address that was checked is the one that is dialled, so that a second answer of the resolver changes nothing.
    """
    try:
        with trio.fail_after(_RESOLVED_WITHIN):
            addresses = await resolve(host, port)
    except (OSError, UnicodeError, trio.TooSlowError) as problem:
        raise Unreachable(f"{host} cannot be resolved") from problem
    own = await trio.to_thread.run_sync(own_addresses)
    allowed = [address for address in addresses if may_dial(address, own)]
    if not allowed:
        raise Unreachable(f"{host} has no public internet address, and no other is reachable from here")
    for address in allowed[:_ADDRESSES_TRIED]:
        with trio.move_on_after(_CONNECTED_WITHIN):
            try:
                return await connect(address, port)
            except (OSError, httpcore.ConnectError):
                continue
    raise Unreachable(f"{host} does not answer")


def may_dial(address: str, own: frozenset[IPv4Address | IPv6Address]) -> bool:
    """Whether a run may be connected to an address: public, not this machine's, and no other address in disguise."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:  # with a zone: link-local
        return False
    return is_public(found) and not stands_for_another(found) and found not in own


async def through(proxy: httpx.Proxy, host: str, port: int, trusted: ssl.SSLContext) -> trio.abc.Stream:
    """Connect through an HTTP proxy, which resolves the name itself. Raises Unreachable; no password is in it."""
    target = f"{host}:{port}".encode()
    headers = [(b"Host", target)]
    if proxy.raw_auth is not None:
        headers.append((b"Proxy-Authorization", b"Basic " + base64.b64encode(b":".join(proxy.raw_auth))))
    url = proxy.url
    request = httpcore.Request(
        "CONNECT",
        httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=target),
        headers=headers,
        extensions={"timeout": {"connect": _PROXY_SECONDS, "read": _PROXY_SECONDS, "write": _PROXY_SECONDS}},
    )
    # Its own pool: the connection is this one's for as long as it lasts.
    pool = httpcore.AsyncConnectionPool(ssl_context=trusted, max_connections=1)
    try:
        response = await pool.handle_async_request(request)
        if not 200 <= response.status < 300:
            raise Unreachable(f"the HTTP proxy of this machine answered {response.status} for {host}")
        return _Tunnel(pool, response.extensions["network_stream"])
    except BaseException as problem:
        with trio.CancelScope(shield=True):
            await pool.aclose()
        if isinstance(problem, httpcore.NetworkError | httpcore.ProtocolError | httpcore.TimeoutException):
            why = type(problem).__name__
            raise Unreachable(f"the HTTP proxy of this machine could not be reached ({quoted(why)})") from problem
        raise


class _Tunnel(trio.abc.Stream):
    """A connection through a proxy as a stream of trio's."""

    def __init__(self, pool: httpcore.AsyncConnectionPool, stream: httpcore.AsyncNetworkStream) -> None:
        self._pool = pool
        self._stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await self._stream.write(bytes(data))
        except httpcore.WriteError as problem:
            raise trio.BrokenResourceError from problem

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        try:
            return await self._stream.read(max_bytes or 65536)
        except httpcore.ReadError as problem:
            raise trio.BrokenResourceError from problem

    async def aclose(self) -> None:
        await self._pool.aclose()
