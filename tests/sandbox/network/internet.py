"""A fake of the internet: hosts with names and certificates, all of them TLS servers on this machine's loopback.

The resolver and the dialling of the proxy are replaced, since no test has other people's networks; the addresses that
names have here are public ones, and are checked as any.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import h11
import httpcore
import trio

from sandbox.network.authority import RunAuthority
from sandbox.network.packages.fetcher import PackageFetcher
from sandbox.network.packages.upstream import Upstream
from sandbox.network.proxy import Host, NetworkProxy
from sandbox.network.usage import NetworkUsage

Answer = Callable[[str, h11.Request], Awaitable[tuple[int, bytes] | bytes]]
"""(host, request) → status and body, or all that is sent before the connection ends."""

ADDRESS = "93.184.216.34"
"""A public address, which nothing here is ever sent to."""


@dataclass
class Internet:
    """`addresses`: name → its addresses. `seen`: (host that the certificate was for, request) of each request."""

    authority: RunAuthority
    addresses: dict[str, Sequence[str]]
    port: int = 0
    seen: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[bytes, bytes]] = field(default_factory=list)
    dialled: list[tuple[str, int]] = field(default_factory=list)
    told: list[tuple[str, str]] = field(default_factory=list)

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        if host not in self.addresses:
            raise OSError("no such name")
        return self.addresses[host]

    async def connect(self, address: str, port: int) -> trio.SocketStream:
        self.dialled.append((address, port))
        if address == "93.184.216.99":
            raise OSError("no route to host")
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def connect_for_http(self, address: str, port: int) -> httpcore.AsyncNetworkStream:
        self.dialled.append((address, port))
        return await httpcore.TrioBackend().connect_tcp("127.0.0.1", self.port)

    def upstream(self) -> Upstream:
        """To registries among these hosts."""
        trusted = ssl.create_default_context(cadata=self.authority.certificate.decode())
        return Upstream(trusted=trusted, http_proxy=None, resolve=self.resolve, connect=self.connect_for_http)

    async def tell(self, status: str, detail: str) -> None:
        self.told.append((status, detail))

    def proxy(self, *hosts: str, most_bytes: int = 10_000_000, packages: PackageFetcher | None = None) -> NetworkProxy:
        return NetworkProxy(
            {Host(name): False for name in hosts},
            usage=NetworkUsage(most_bytes),
            tell=self.tell,
            trusted=ssl.create_default_context(),
            packages=packages,
            resolve=self.resolve,
            connect=self.connect,
        )


async def _hello(host: str, request: h11.Request) -> tuple[int, bytes]:
    return 200, b"hello from there\n"


@contextlib.asynccontextmanager
async def internet(
    names: Mapping[str, Sequence[str]] | None = None, answer: Answer = _hello
) -> AsyncIterator[Internet]:
    """Hosts that answer every request by `answer`; `names`: host → addresses."""
    authority = RunAuthority()
    found = Internet(authority, dict(names or {"code.example.org": [ADDRESS]}))

    async def serve(stream: trio.SocketStream) -> None:
        wanted = ""

        def by_name(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
            nonlocal wanted
            wanted = name or ""
            connection.context = authority.context(wanted)

        first = authority.context("nobody.example.org")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.sni_callback = by_name
        del first
        tls = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        http = h11.Connection(h11.SERVER)
        with contextlib.suppress(trio.BrokenResourceError, h11.RemoteProtocolError):
            while True:
                event = http.next_event()
                if event is h11.NEED_DATA:
                    http.receive_data(await tls.receive_some(65536))
                elif isinstance(event, h11.Request):
                    found.seen.append((wanted, f"{event.method.decode()} {event.target.decode()}"))
                    found.headers.append(dict(event.headers))
                    request = event
                elif isinstance(event, h11.EndOfMessage):
                    answered = await answer(wanted, request)
                    if isinstance(answered, bytes):
                        await tls.send_all(answered)
                        break
                    status, body = answered
                    kind = "text/html" if body.startswith(b"<") else "application/json"
                    sizes = [("content-length", str(len(body))), ("content-type", kind)]
                    head = h11.Response(status_code=status, headers=sizes)
                    data = b"" if request.method == b"HEAD" else body
                    parts = (head, h11.Data(data=data), h11.EndOfMessage())
                    await tls.send_all(b"".join(http.send(part) or b"" for part in parts))
                    if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
                        break
                    http.start_next_cycle()
                elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
                    break
        await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        found.port = listeners[0].socket.getsockname()[1]
        yield found
        nursery.cancel_scope.cancel()
