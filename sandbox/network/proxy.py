"""The only way from a run's shell commands to the network: an HTTP proxy for CONNECT to the hosts that were granted.

It listens on loopback inside the shell zone: the zone's server makes the socket there and passes it out, so that no
other socket leads out of the sandbox. Names are resolved out here, and only public addresses are dialled (dialing.py).
What passes through is TLS to the name that was asked for (client_hello.py), and is counted; what is in it is not seen.
"""

from __future__ import annotations

import contextlib
import re
import ssl
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import h11
import httpx
import trio

from sandbox.confinement import ConfinedProcess
from sandbox.confinement.places import AUTHORITIES
from sandbox.errors import quoted
from sandbox.network import client_hello, dialing
from sandbox.network.client_hello import NotAClientHello
from sandbox.network.dialing import Connect, Resolve, Unreachable
from sandbox.network.packages.fetcher import PackageFetcher, tell_used_up
from sandbox.network.usage import NetworkUsage

Tell = Callable[[str, str], Awaitable[None]]
"""Adds (status, detail) to the run's trace."""

NAMES_TOLD: Final = 20
"""Hosts that were refused, of which the trace tells."""
CONNECTIONS: Final = 64
"""At once; others wait."""
_HEAD_BYTES: Final = 16 * 1024
_HEAD_SECONDS: Final = 30.0
_IDLE_SECONDS: Final = 900.0
_SENT_WITHIN: Final = 120.0
_CHUNK: Final = 64 * 1024
_NAME: Final = re.compile(r"\[[^\[\]]+\]|[^:\[\]]+")


class Host(NamedTuple):
    """A host by its name in ASCII and lower case, and the port of its TLS."""

    name: str
    port: int = 443

    def __str__(self) -> str:
        return self.name if self.port == 443 else f"{self.name}:{self.port}"


class _Refused(Exception):
    """Answered with a status and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class NetworkProxy:
    """One run's access to the network.

    `hosts`: each with whether it is reached through `http_proxy`. `trusted`: for an https proxy. `usage`: where bytes
    are counted, and their bound. `tell`: gets what belongs in the trace. `packages`: answers for registries, but not
    for a host that is granted itself; `authorities`: PEM, of those that may certify granted hosts. `resolve`,
    `connect`: replaced in tests, which have no internet.
    """

    def __init__(
        self,
        hosts: Mapping[Host, bool],
        *,
        usage: NetworkUsage,
        tell: Tell,
        trusted: ssl.SSLContext,
        http_proxy: httpx.Proxy | None = None,
        packages: PackageFetcher | None = None,
        authorities: bytes = b"",
        resolve: Resolve = dialing.resolve,
        connect: Connect[trio.abc.HalfCloseableStream] = dialing.connect,
    ) -> None:
        self.usage = usage
        self._hosts = dict(hosts)
        self._tell = tell
        self._trusted = trusted
        self._http_proxy = http_proxy
        self.packages = packages
        self._authorities = authorities
        self._resolve = resolve
        self._connect = connect
        self._refused: set[str] = set()
        self._logged = False

    async def serve(self, listener: trio.SocketListener) -> None:
        """Serve connections until cancelled; they end with it, and the listener is closed."""
        places = trio.Semaphore(CONNECTIONS)
        async with listener, trio.open_nursery() as nursery:
            while True:
                await places.acquire()
                nursery.start_soon(self._serve_one, await listener.accept(), places)

    def files(self) -> dict[Path, bytes]:
        """What a run's commands need to believe what answers them: files by their inside paths."""
        own = b"" if self.packages is None else self.packages.authority.certificate
        return {AUTHORITIES: self._authorities + own} if self._authorities or own else {}

    async def serve_in(self, nursery: trio.Nursery, process: ConfinedProcess) -> None:
        """Begin to serve the shell commands of a program, in `nursery`. Raises SandboxError where that cannot be."""
        listener = await process.proxy_listener()
        if listener is not None:
            nursery.start_soon(self.serve, listener)

    async def finish(self) -> None:
        """Add to the trace what went to and came from each host; close what is left."""
        if self.packages is not None:
            await self.packages.aclose()
        for host, use in sorted(self.usage.hosts.items()):
            await self._tell("network_used", f"{host}: {use}")

    async def _serve_one(self, client: trio.SocketStream, places: trio.Semaphore) -> None:
        try:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                await self._tunnel(client)
        except Exception as raised:
            # A defect of ours, which ends this connection and not the run. The log gets one traceback of them.
            if not self._logged:
                self._logged = True
                sys.excepthook(type(raised), raised, raised.__traceback__)
        finally:
            places.release()
            await trio.aclose_forcefully(client)

    async def _tunnel(self, client: trio.SocketStream) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES)
        try:
            with trio.fail_after(_HEAD_SECONDS):
                host = self._asked_for(await _head(http, client))
            fetched = host not in self._hosts and self.packages is not None and self.packages.answers_for(str(host))
            if not fetched:
                await self._check(host)
                upstream = await self._dial(host)  # nothing may come between it and its `async with`
        except _Refused as refusal:
            await _answer(http, client, refusal)
            return
        if fetched:
            await _establish(http, client)
            if self.packages is not None and not http.trailing_data[0]:
                await self.packages.serve(str(host), client)
            return
        async with upstream:
            if self.usage.begin(str(host)):
                await self._tell("network_host", f"the first connection to {host}")
            await _establish(http, client)
            first = http.trailing_data[0]
            try:
                with trio.fail_after(_HEAD_SECONDS):
                    first = await _hello(first, client, host.name)
            except NotAClientHello as problem:
                await self._tell_refused(str(host), f"a connection to {host} was ended: {problem}")
                return
            if await self._pass_on(host, upstream, first, sent=True):
                await self._splice(host, client, upstream)

    def _asked_for(self, request: h11.Request | None) -> Host:
        if request is None:
            raise _Refused(400, "this HTTP proxy only takes CONNECT")
        if request.method != b"CONNECT":
            raise _Refused(403, "only HTTPS can leave this sandbox, by CONNECT; plain HTTP cannot")
        name, _, port = request.target.decode("ascii", "replace").rpartition(":")
        if not _NAME.fullmatch(name) or not port.isascii() or not port.isdigit() or len(port) > 5:
            raise _Refused(400, "CONNECT wants HOST:PORT")
        return Host(name.lower().removesuffix("."), int(port))

    async def _check(self, host: Host) -> None:
        if host not in self._hosts:
            names = ", ".join(map(str, sorted(self._hosts)))
            sentence = f"{quoted(str(host))} is not granted to this run"
            await self._tell_refused(str(host), sentence)
            raise _Refused(403, f"{sentence}; granted: {names or 'none'}")
        if self.usage.used_up:
            await self._tell_used_up()
            raise _Refused(403, "the run's budget of bytes over the network is used up")

    async def _dial(self, host: Host) -> trio.abc.Stream:
        try:
            if self._hosts[host] and self._http_proxy is not None:
                upstream = await dialing.through(self._http_proxy, host.name, host.port, self._trusted)
            else:
                upstream = await dialing.direct(host.name, host.port, resolve=self._resolve, connect=self._connect)
        except Unreachable as problem:
            await self._tell_refused(str(problem), str(problem), status="network_failed")
            raise _Refused(502, str(problem)) from problem
        return upstream

    async def _splice(self, host: Host, client: trio.SocketStream, upstream: trio.abc.Stream) -> None:
        """Until both sides have ended, one has left, or nothing passes for a while."""
        async with trio.open_nursery() as nursery:

            async def one_way(source: trio.abc.Stream, target: trio.abc.Stream, *, sent: bool) -> None:
                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                    while chunk := await source.receive_some(_CHUNK):
                        nursery.cancel_scope.deadline = trio.current_time() + _IDLE_SECONDS
                        if not await self._pass_on(host, target, chunk, sent=sent):
                            break
                    else:
                        if isinstance(target, trio.abc.HalfCloseableStream):
                            await target.send_eof()
                            return
                nursery.cancel_scope.cancel()

            nursery.cancel_scope.deadline = trio.current_time() + _IDLE_SECONDS
            nursery.start_soon(partial(one_way, client, upstream, sent=True))
            nursery.start_soon(partial(one_way, upstream, client, sent=False))

    async def _pass_on(self, host: Host, target: trio.abc.Stream, chunk: bytes, *, sent: bool) -> bool:
        size = len(chunk)
        within = self.usage.count(str(host), **{"sent" if sent else "received": size})
        if not within:
            await self._tell_used_up()
            return False
        with trio.fail_after(_SENT_WITHIN):
            await target.send_all(chunk)
        return True

    async def _tell_refused(self, what: str, sentence: str, *, status: str = "network_refused") -> None:
        if what not in self._refused and len(self._refused) < NAMES_TOLD:
            self._refused.add(what)
            await self._tell(status, sentence)

    async def _tell_used_up(self) -> None:
        await tell_used_up(self.usage, self._tell)


async def _head(http: h11.Connection, client: trio.SocketStream) -> h11.Request | None:
    """The head of a request; None for what is none."""
    try:
        while True:
            event = http.next_event()
            if isinstance(event, h11.Request):
                return event
            if event is not h11.NEED_DATA:
                return None
            http.receive_data(await client.receive_some(_CHUNK))
    except h11.RemoteProtocolError:
        return None


async def _establish(http: h11.Connection, client: trio.SocketStream) -> None:
    established = h11.Response(status_code=200, headers=[], reason=b"Connection established")
    await client.send_all(http.send(established) or b"")


async def _answer(http: h11.Connection, client: trio.SocketStream, refusal: _Refused) -> None:
    body = f"dispatch: {refusal}\n".encode()
    headers = [
        ("content-type", "text/plain"),
        ("content-length", str(len(body))),
        ("connection", "close"),
    ]
    # Tools show the reason phrase of a refused CONNECT more often than its body.
    reason = str(refusal).encode("ascii", "replace")[:200]
    response = h11.Response(status_code=refusal.status, headers=headers, reason=reason)
    data = b""
    with contextlib.suppress(h11.LocalProtocolError):  # to HEAD there is no body
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            data += http.send(event) or b""
    with trio.fail_after(_HEAD_SECONDS):
        await client.send_all(data)


async def _hello(first: bytes, client: trio.SocketStream, wanted: str) -> bytes:
    """The client's first bytes, once they are known to be a ClientHello for the host. Raises NotAClientHello."""
    while (name := client_hello.server_name(first)) is None:
        more = await client.receive_some(_CHUNK)
        if not more:
            raise NotAClientHello("it ended before its ClientHello")
        first += more
    if name.removesuffix(".") != wanted:
        raise NotAClientHello(f"it is meant for {quoted(name)}")
    return first
