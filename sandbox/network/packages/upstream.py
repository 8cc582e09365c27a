"""HTTP to registries, outside the sandbox: GET and HEAD over TLS to public addresses, or through the person's proxy."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Iterable
from typing import Final
from urllib.parse import urljoin, urlsplit

import httpcore
import httpx
import trio

from sandbox.network import dialing
from sandbox.network.addresses import is_name_of_the_internet
from sandbox.network.dialing import Connect, Resolve, Unreachable

Headers = list[tuple[bytes, bytes]]

_REDIRECTS: Final = 3
"""Of one request. Where one leads is the registry's word, not the run's."""
_TIMEOUTS: Final = {"connect": 30.0, "read": 60.0, "write": 60.0, "pool": 60.0}
_CONNECTIONS: Final = 8
_BROKEN: Final = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.TimeoutException,
    OSError,
)


class _CheckedDialling(httpcore.AsyncNetworkBackend):
    """httpcore's connections, to addresses that a run may be connected to."""

    def __init__(self, resolve: Resolve, connect: Connect[httpcore.AsyncNetworkStream]) -> None:
        self._resolve = resolve
        self._connect = connect

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface is httpcore's
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return await dialing.direct(host, port, resolve=self._resolve, connect=self._connect)

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


async def connect(address: str, port: int) -> httpcore.AsyncNetworkStream:
    """A TCP connection, as httpcore has them."""
    return await httpcore.TrioBackend().connect_tcp(address, port)


class Upstream:
    """Requests of one run. `trusted`: who may certify a registry. `resolve`, `connect`: replaced in tests."""

    def __init__(
        self,
        *,
        trusted: ssl.SSLContext,
        http_proxy: httpx.Proxy | None,
        resolve: Resolve = dialing.resolve,
        connect: Connect[httpcore.AsyncNetworkStream] = connect,
    ) -> None:
        backend = _CheckedDialling(resolve, connect)
        self._direct = httpcore.AsyncConnectionPool(
            ssl_context=trusted, max_connections=_CONNECTIONS, network_backend=backend
        )
        self._proxied = self._direct
        if http_proxy is not None:
            self._proxied = httpcore.AsyncHTTPProxy(
                proxy_url=httpcore.URL(str(http_proxy.url)),
                proxy_auth=http_proxy.raw_auth,
                ssl_context=trusted,
                proxy_ssl_context=http_proxy.ssl_context,
                max_connections=_CONNECTIONS,
            )

    async def aclose(self) -> None:
        for pool in {self._direct, self._proxied}:
            await pool.aclose()

    @contextlib.asynccontextmanager
    async def asked(
        self, method: str, address: str, headers: Headers, *, by_proxy: bool
    ) -> AsyncIterator[httpcore.Response]:
        """The answer, its body unread. Raises Unreachable, also out of the block where the body is read."""
        pool = self._proxied if by_proxy else self._direct
        async with contextlib.AsyncExitStack() as answers:
            try:
                for _ in range(_REDIRECTS + 1):
                    response = await answers.enter_async_context(
                        pool.stream(method, address, headers=headers, extensions={"timeout": _TIMEOUTS})
                    )
                    target = _redirect(response, address)
                    if target is None:
                        break
                    await answers.aclose()
                    address = target
                else:
                    raise Unreachable(f"{urlsplit(address).hostname} redirects too often")
                yield response  # its body may break off
            except _BROKEN as problem:
                host = urlsplit(address).hostname
                raise Unreachable(f"{host} could not be reached ({type(problem).__name__})") from problem


def _redirect(response: httpcore.Response, address: str) -> str | None:
    """Where an answer sends on; None for another answer. Raises Unreachable for what is not followed."""
    if response.status not in (301, 302, 303, 307, 308):
        return None
    location = next((value for name, value in response.headers if name.lower() == b"location"), b"")
    try:
        target = urljoin(address, location.decode("ascii"))
    except ValueError as problem:
        raise Unreachable(f"{urlsplit(address).hostname} redirects to an invalid address") from problem
    if not is_followed(target, from_there=address):
        raise Unreachable(f"{urlsplit(address).hostname} redirects to an address that is not HTTPS")
    return target


def is_followed(target: str, *, from_there: str) -> bool:
    """Whether an address that a registry names is asked: https, at the same host or at a name of the internet.

    A proxy of the person's would look up any other, and reach it in their own network.
    """
    try:
        parts = urlsplit(target)
        port = parts.port
        plain = parts.scheme == "https" and port != 0 and "@" not in parts.netloc
        host = parts.hostname or ""
        return plain and (is_name_of_the_internet(host) or host == urlsplit(from_there).hostname)
    except ValueError:
        return False
