"""Answers for registries inside a run: fetches what its lock files name, and nothing else.

A run's tools believe to speak with the registry over TLS, and trust the run's own authority. What leaves this machine
is a request that is made anew here: GET or HEAD of a path that the registry's grammar has, for a package that is
wanted, with headers of ours, without a query and without a body. So nothing that a run has read leaves by it but which
of the wanted packages it asks for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import h11
import httpcore
import msgspec
import trio

from sandbox.network.authority import RunAuthority
from sandbox.network.dialing import Unreachable
from sandbox.network.packages import listing
from sandbox.network.packages.grammar import Asked, asked_of, crate_file, python_file, spelt
from sandbox.network.packages.upstream import Headers, Upstream, is_followed
from sandbox.network.packages.wanted import Kind, Wanted
from sandbox.network.usage import NetworkUsage

Tell = Callable[[str, str], Awaitable[None]]

_HEAD_BYTES: Final = 32 * 1024
MOST_OF_A_PATH: Final = 2_000
_WAIT_SECONDS: Final = 120.0
_SENT_WITHIN: Final = 120.0
_LIST_BYTES: Final = 32 * 1024 * 1024
"""Of a list of versions that is read here; the largest have some 20 MB."""
NAMES_TOLD: Final = 20
HOSTS: Final = 200
"""That are answered for: registries, and those that they and the lock files say hold files."""
LISTS_KEPT: Final = 64
LISTS_READ: Final = 2
"""At once, from their first byte until the run's tool has them: each is in memory as a whole."""
_CHUNK: Final = 64 * 1024
_PASSED_BACK: Final = frozenset({b"content-type", b"content-length", b"etag", b"last-modified", b"cache-control"})
_NPM_SHORT: Final = "application/vnd.npm.install-v1+json"


@dataclass(frozen=True, slots=True)
class Registry:
    """`address`: https, without a slash at its end. `by_proxy`: reached through the person's HTTP proxy."""

    kind: Kind
    address: str
    by_proxy: bool = False

    @property
    def host(self) -> str:
        return urlsplit(self.address).netloc


class _Sought(NamedTuple):
    """What is asked for, of which registry, and by which address."""

    registry: Registry
    asked: Asked
    address: str


class _Found(NamedTuple):
    """What a registry said."""

    status: int
    content: bytes
    content_type: bytes


class _Refused(Exception):
    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class PackageFetcher:
    """Of one run. `file_hosts`: hosts, other than registries', that its lock files name; asked only for what a registry
    lists. `usage`, `tell`: as in `NetworkProxy`.
    """

    def __init__(
        self,
        registries: Sequence[Registry],
        wanted: Wanted,
        *,
        file_hosts: Collection[str],
        upstream: Upstream,
        usage: NetworkUsage,
        tell: Tell,
    ) -> None:
        self.authority = RunAuthority()
        self._registries = tuple(registries)
        self._wanted = wanted
        self._hosts = {*file_hosts, *(registry.host for registry in registries)}
        self._upstream = upstream
        self._usage = usage
        self._tell = tell
        self._refused: set[str] = set()
        self._reading = trio.Semaphore(LISTS_READ)
        self._files_of: dict[str, frozenset[str]] = {}
        """Address of a Python package's list → where its files are; of the lists that were read last."""
        self._crates: dict[str, str] = {}
        """Address of a cargo registry → where its crates are."""

    async def aclose(self) -> None:
        """Close the connections to registries."""
        await self._upstream.aclose()

    def answers_for(self, host: str) -> bool:
        """Whether `host`, NAME or NAME:PORT, is one of the registries, or of those that hold their files."""
        return host in self._hosts

    async def serve(self, host: str, client: trio.abc.Stream) -> None:
        """Answer one connection to `host` until it ends. Raises as streams of trio's do."""
        name = host.partition(":")[0]
        tls = trio.SSLStream(client, self.authority.context(name), server_side=True, https_compatible=True)
        with trio.fail_after(_WAIT_SECONDS):
            await tls.do_handshake()
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES)
        while (request := await _next_request(http, tls)) is not None:
            try:
                await self._answer(host, request, http, tls)
            except _Refused as refusal:
                await _send_refusal(http, tls, refusal)
            if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
                return
            http.start_next_cycle()

    async def _answer(self, host: str, request: h11.Request, http: h11.Connection, client: trio.abc.Stream) -> None:
        path = _checked_path(host, request)
        registry, asked, address = await self._asked(host, path)
        if not self._is_wanted(asked):
            what = asked.name if asked.what == "list" else f"{asked.name} {asked.version}"
            await self._refuse(what, f"the package {what} is not in the project's lock files")
        if self._usage.used_up:
            raise _Refused(403, "the run's budget of bytes over the network is used up")
        headers = _headers(asked, request)
        if asked.what == "registry" or (asked.kind, asked.what) == ("pip", "list"):
            # Read here too: it says where the files are.
            async with self._reading:
                found = await self._read(registry, address, headers)
                await self._learn(registry, asked, found)
                await _send_whole(http, client, found, only_head=request.method == b"HEAD")
            return
        await self._begin(host, address)
        method = request.method.decode()
        try:
            async with self._upstream.asked(method, address, headers, by_proxy=registry.by_proxy) as response:
                await self._pass_back(host, response, http, client)
        except Unreachable as problem:
            raise await self._failed(problem) from problem

    async def _begin(self, host: str, address: str) -> None:
        if self._usage.begin(host, fetched=True):
            await self._tell("network_host", f"the first request for a package to {host}")
        self._usage.count(host, sent=len(address))

    async def _asked(self, host: str, path: str) -> _Sought:
        """What a path asks for, and of which registry. Raises _Refused for what no registry has."""
        address = f"https://{host}{path}"
        for registry in self._registries:
            rest = address.removeprefix(f"{registry.address}/")
            asked = asked_of(registry.kind, rest) if rest != address else None
            # A file of Python's is where its list says, also on the registry's own host.
            if asked is not None and not (asked.kind == "pip" and asked.what == "file"):
                return _Sought(registry, asked, f"{registry.address}/{spelt(asked, rest)}")
        if (file := python_file(path)) is not None:
            for registry in self._of_kind("pip"):
                # No list is asked for where the file may not be fetched.
                if not self._is_wanted(file):
                    return _Sought(registry, file, address)
                if address.removesuffix(".metadata") in await self._files(registry, file.name):
                    return _Sought(registry, file, address)
        for registry in self._of_kind("cargo"):
            crate = crate_file(await self._crates_of(registry), address)
            if crate is not None:
                return _Sought(registry, crate, address)
        raise _Refused(403, "only packages that the project's lock files name can be fetched here")

    def _of_kind(self, kind: Kind) -> list[Registry]:
        return [registry for registry in self._registries if registry.kind == kind]

    def _is_wanted(self, asked: Asked) -> bool:
        if asked.what == "registry":
            return True
        if asked.what == "list":
            return self._wanted.name(asked.kind, asked.name)
        return self._wanted.version(asked.kind, asked.name, asked.version)

    def _is_wanted_file(self, name: str, path: str) -> bool:
        file = python_file(path)
        return file is not None and file.name == name and self._is_wanted(file)

    async def _refuse(self, what: str, sentence: str) -> None:
        await self._tell_once(what, "network_refused", sentence)
        raise _Refused(403, sentence)

    async def _failed(self, problem: Unreachable) -> _Refused:
        await self._tell_once(str(problem), "network_failed", str(problem))
        return _Refused(502, str(problem))

    async def _tell_once(self, what: str, status: str, sentence: str) -> None:
        if what not in self._refused and len(self._refused) < NAMES_TOLD:
            self._refused.add(what)
            await self._tell(status, sentence)

    async def _files(self, registry: Registry, name: str) -> frozenset[str]:
        """Where a Python package's files are, by its registry."""
        asked = Asked("list", "pip", name)
        address = f"{registry.address}/{name}/"
        async with self._reading:
            if address not in self._files_of:
                await self._learn(registry, asked, await self._read(registry, address, _accepting(listing.JSON)))
        return self._files_of.get(address, frozenset())

    async def _crates_of(self, registry: Registry) -> str:
        async with self._reading:
            if registry.address not in self._crates:
                asked = Asked("registry", "cargo")
                found = await self._read(registry, f"{registry.address}/config.json", _accepting("*/*"))
                await self._learn(registry, asked, found)
        return self._crates.get(registry.address, "")

    async def _learn(self, registry: Registry, asked: Asked, found: _Found) -> None:
        """Where files are, from what a registry says. An error says nothing, and may be over with the next request."""
        if found.status != 200:
            return
        if asked.kind == "pip":
            address = f"{registry.address}/{asked.name}/"
            read = partial(
                listing.files,
                *(found.content, found.content_type.decode("latin-1"), address),
                wanted=partial(self._is_wanted_file, asked.name),
            )
            # Beside the loop that all of the run hangs on.
            self._files_of[address] = await trio.to_thread.run_sync(read, abandon_on_cancel=True)  # type: ignore[call-arg]
            if len(self._files_of) > LISTS_KEPT:
                del self._files_of[next(iter(self._files_of))]
            for host in {urlsplit(file).netloc for file in self._files_of[address]}:
                self._add(host)
            return
        try:
            template = str(msgspec.json.decode(found.content, type=dict[str, object]).get("dl") or "")
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            template = ""
        followed = is_followed(template, from_there=registry.address)
        self._crates[registry.address] = template if followed else ""
        self._add(urlsplit(template).netloc if followed else "")

    def _add(self, host: str) -> None:
        if host and len(self._hosts) < HOSTS:
            self._hosts.add(host)

    async def _read(self, registry: Registry, address: str, headers: Headers) -> _Found:
        """What a registry says, whole."""
        host = registry.host
        await self._begin(host, address)
        try:
            async with self._upstream.asked("GET", address, headers, by_proxy=registry.by_proxy) as response:
                content = bytearray()
                async for chunk in response.aiter_stream():
                    content += chunk
                    within = self._usage.count(host, received=len(chunk))
                    if not within:
                        await tell_used_up(self._usage, self._tell)
                    if not within or len(content) > _LIST_BYTES:
                        raise _Refused(502, f"the answer of {host} is too large")
                return _Found(response.status, bytes(content), _content_type(response))
        except Unreachable as problem:
            raise await self._failed(problem) from problem

    async def _pass_back(
        self, host: str, response: httpcore.Response, http: h11.Connection, client: trio.abc.Stream
    ) -> None:
        back = {name.lower(): value for name, value in response.headers}
        if b"transfer-encoding" in back:
            back.pop(b"content-length", None)  # which counts for nothing then (RFC 9112, 6.3)
        kept = [(name, value) for name, value in back.items() if name in _PASSED_BACK]
        await _send(http, client, h11.Response(status_code=response.status, headers=kept))
        async for chunk in response.aiter_stream():
            if not self._usage.count(host, received=len(chunk)):
                await tell_used_up(self._usage, self._tell)
                raise trio.BrokenResourceError
            await _send(http, client, h11.Data(data=chunk))
        await _send(http, client, h11.EndOfMessage())


async def tell_used_up(usage: NetworkUsage, tell: Tell) -> None:
    """Add to the trace, once, that the run may send and receive nothing more."""
    if not usage.told_used_up:
        usage.told_used_up = True
        await tell("network_used_up", "the run's budget of bytes over the network is used up")


def _accepting(accept: str) -> Headers:
    """All headers of a request that is sent on; `host` is the library's to add."""
    return [(b"user-agent", b"dispatch"), (b"accept-encoding", b"identity"), (b"accept", accept.encode())]


def _headers(asked: Asked, request: h11.Request) -> Headers:
    """What is sent on: nothing of the run's own, but which of two forms of a list it reads."""
    accepts = b",".join(value for name, value in request.headers if name == b"accept").decode("latin-1")
    if (asked.kind, asked.what) == ("pip", "list"):
        return _accepting(listing.JSON if listing.JSON in accepts else listing.HTML)
    if (asked.kind, asked.what) == ("npm", "list") and _NPM_SHORT in accepts:
        return _accepting(_NPM_SHORT)
    return _accepting("*/*")


def _checked_path(host: str, request: h11.Request) -> str:
    if request.method not in (b"GET", b"HEAD"):
        raise _Refused(405, "only GET and HEAD are allowed: packages can be fetched, nothing can be sent")
    named = [value.decode("latin-1").lower().removesuffix(":443") for name, value in request.headers if name == b"host"]
    if named != [host]:
        raise _Refused(421, f"this connection is only for {host}")
    lengths = [value for name, value in request.headers if name in (b"content-length", b"transfer-encoding")]
    if any(length != b"0" for length in lengths):
        raise _Refused(413, "a request body is not allowed: packages can be fetched, nothing can be sent")
    path = request.target.decode("latin-1")
    if not path.startswith("/") or len(path) > MOST_OF_A_PATH or any(sign in path for sign in "?#\\") or "/../" in path:
        raise _Refused(403, "this is not the path of a package")
    return path


def _content_type(response: httpcore.Response) -> bytes:
    return next((value for name, value in response.headers if name.lower() == b"content-type"), b"")


async def _next_request(http: h11.Connection, client: trio.abc.Stream) -> h11.Request | None:
    """The next request whose body is read too; None at the end, and for what is no HTTP."""
    request = None
    try:
        with trio.fail_after(_WAIT_SECONDS):
            while True:
                event = http.next_event()
                if isinstance(event, h11.Request):
                    request = event
                elif isinstance(event, h11.EndOfMessage):
                    return request
                elif event is h11.NEED_DATA:
                    if request is not None and http.they_are_waiting_for_100_continue:
                        return request
                    http.receive_data(await client.receive_some(65536))
                elif isinstance(event, h11.Data):
                    return request  # it is refused, and the connection ends
                else:
                    return None
    except h11.RemoteProtocolError:
        return None


async def _send(http: h11.Connection, client: trio.abc.Stream, event: h11.Event) -> None:
    data = http.send(event)
    if data:
        with trio.fail_after(_SENT_WITHIN):
            await client.send_all(data)


async def _send_whole(http: h11.Connection, client: trio.abc.Stream, found: _Found, *, only_head: bool) -> None:
    content = found.content
    back = [(b"content-type", found.content_type), (b"content-length", str(len(content)).encode())]
    await _send(http, client, h11.Response(status_code=found.status, headers=back))
    for at in range(0, 0 if only_head else len(content), _CHUNK):
        await _send(http, client, h11.Data(data=content[at : at + _CHUNK]))
    await _send(http, client, h11.EndOfMessage())


async def _send_refusal(http: h11.Connection, client: trio.abc.Stream, refusal: _Refused) -> None:
    body = f"dispatch: {refusal}\n".encode()
    headers = [("content-type", "text/plain"), ("content-length", str(len(body)))]
    if http.their_state is not h11.DONE:
        headers.append(("connection", "close"))
    with contextlib.suppress(h11.LocalProtocolError):
        await _send(http, client, h11.Response(status_code=refusal.status, headers=headers))
        await _send(http, client, h11.Data(data=body))
        await _send(http, client, h11.EndOfMessage())
