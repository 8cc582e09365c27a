"""The only way out of a sandbox: a unix socket that passes model requests on with the person's key,
within a budget.

HTTP/1.1 by h11, on trio. No retries, no redirects, no proxies from the environment. Bodies and the key are
never logged: there is no logging here at all; what a run spent is in ``ModelProxy.usage``.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import socket
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import h11
import httpx
import trio

from sandbox.errors import SandboxError
from sandbox.model_request import Allowance, ModelRequest, Refused, check_body, check_target, error_body, passed_headers
from sandbox.model_usage import BYTES_PER_TOKEN, Tokens, Usage, UsageReader
from sandbox.spending import Spending
from sandbox.turns import Turn, Turns

PUBLIC_API = "https://api.anthropic.com"
NO_KEY = (
    "no key for the model is set on this machine: export ANTHROPIC_API_KEY for dispatch-daemon, or "
    "`dispatch config set model.api_key -`"
)
_PASSED_BACK = ("content-type", "request-id", "retry-after", "x-should-retry")
_MAX_ERROR = 64 * 1024


@dataclass(frozen=True, slots=True)
class ProxyLimits:
    """Bounds of one proxy: bytes, counts and seconds. 32 MB is the API's own bound of a request."""

    request_bytes: int = 32 * 1024 * 1024
    response_bytes: int = 64 * 1024 * 1024
    connections: int = 32
    concurrent_requests: int = 8
    header_seconds: float = 300.0  # also how long an idle kept-alive connection stays
    body_seconds: float = 60.0
    request_seconds: float = 900.0
    silence_seconds: float = 300.0
    client_seconds: float = 60.0


class ModelProxy:
    """One run's door to the model.

    ``base_url``: the API or a gateway, http or https, path allowed; None is the public API. ``api_key``
    None: every request is answered 401 with the fix. ``budget_usd``, ``max_turns``, ``max_requests``: once reached,
    further requests are answered 403; what a turn is: ``turns.Turns``, None bounds none. ``allowance``: the tools and
    models of this run. ``secret``: what a client must send as its key, or is answered 401; None asks nobody.
    ``transport`` replaces the network in tests. Raises SandboxError 422 for a base_url that is none.
    """

    def __init__(
        self,
        base_url: str | None,
        api_key: str | None,
        *,
        budget_usd: float,
        max_turns: int | None = None,
        max_requests: int = 1000,
        allowance: Allowance | None = None,
        secret: str | None = None,
        limits: ProxyLimits | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.usage = Usage()
        self.base_url = _checked_base(base_url or PUBLIC_API)
        self._key = api_key.strip() if api_key else ""
        if not self._key.isascii() or not self._key.isprintable():
            raise SandboxError(
                "the model's key holds characters no key has",
                fix="dispatch config set model.api_key -",
                code=422,
            )
        self._max_requests = max_requests
        self._allowance = allowance or Allowance()
        self._secret = secret
        self._limits = limits or ProxyLimits()
        self._transport = transport
        self._spending = Spending(self.usage, budget_usd)
        self._turns = Turns(self.usage, max_turns)

    @property
    def turns_exhausted(self) -> trio.Event:
        """Set when the agent asked for one more turn than it may have."""
        return self._turns.exhausted

    @property
    def budget_exhausted(self) -> trio.Event:
        """Set when the agent asked for more than the budget has left."""
        return self._spending.exhausted

    @contextlib.asynccontextmanager
    async def serving(self, socket_path: Path) -> AsyncIterator[None]:
        """Listen on ``socket_path`` (must not exist; 0600) while inside; connections end on leaving."""
        listener = _listen(socket_path)
        slots = trio.Semaphore(self._limits.connections)
        upstream = trio.CapacityLimiter(self._limits.concurrent_requests)
        timeout = httpx.Timeout(self._limits.silence_seconds, connect=30.0)
        problem: Exception | None = None
        try:
            async with (
                httpx.AsyncClient(
                    trust_env=False, follow_redirects=False, timeout=timeout, transport=self._transport
                ) as client,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(self._accept, listener, client, slots, upstream, nursery)
                try:
                    yield
                except Exception as raised:  # the caller's own; out of this nursery it would arrive wrapped in a group
                    problem = raised
                nursery.cancel_scope.cancel()
        finally:
            listener.socket.close()
            with contextlib.suppress(FileNotFoundError):
                socket_path.unlink()  # noqa: ASYNC240 - one system call, and cleanup must not be cancelled
        if problem is not None:
            raise problem

    async def _accept(
        self,
        listener: trio.SocketListener,
        client: httpx.AsyncClient,
        slots: trio.Semaphore,
        upstream: trio.CapacityLimiter,
        nursery: trio.Nursery,
    ) -> None:
        while True:
            await slots.acquire()
            stream = await listener.accept()
            nursery.start_soon(self._serve, _Connection(stream, self._limits), client, slots, upstream)

    async def _serve(
        self,
        connection: _Connection,
        client: httpx.AsyncClient,
        slots: trio.Semaphore,
        upstream: trio.CapacityLimiter,
    ) -> None:
        try:
            while await self._one(connection, client, upstream):
                pass
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, h11.ProtocolError):
            pass  # the client is gone, stuck or not speaking HTTP: its connection ends, nothing else does
        finally:
            slots.release()
            await connection.aclose()

    async def _one(self, connection: _Connection, client: httpx.AsyncClient, upstream: trio.CapacityLimiter) -> bool:
        """Serve one request; False when the connection is done."""
        request = await connection.request()
        if request is None:
            return False
        try:
            target = check_target(request.method, request.target)
            self._check_secret(request)
            headers = passed_headers(request.headers)
            checked = check_body(target, await connection.body(), self._allowance)
            if not self._key:
                raise Refused(401, NO_KEY)
            async with upstream:
                if self.usage.requests >= self._max_requests:
                    raise Refused(403, f"this run's limit of {self._max_requests} model requests is reached")
                async with self._spending.one(_at_least(checked)):
                    self.usage.requests += 1
                    if not checked.counted:
                        await self._pass_on(connection, client, checked, headers)
                        return connection.next()
                    async with self._turns.one() as turn:
                        await self._pass_on(connection, client, checked, headers, turn)
        except Refused as refusal:
            self.usage.refused += 1
            await connection.answer(refusal.status, error_body(refusal.status, refusal.message))
        return connection.next()

    def _check_secret(self, request: h11.Request) -> None:
        """Whoever reaches the socket without the agent program's secret is not the agent program."""
        given = next((value for name, value in request.headers if name == b"x-api-key"), b"")
        if self._secret is not None and not hmac.compare_digest(given, self._secret.encode()):
            raise Refused(401, "this door is for the agent program of the run alone")

    async def _pass_on(
        self,
        connection: _Connection,
        client: httpx.AsyncClient,
        request: ModelRequest,
        headers: list[tuple[bytes, bytes]],
        turn: Turn | None = None,
    ) -> None:
        sent = [
            *headers,
            (b"x-api-key", self._key.encode()),
            (b"content-type", b"application/json"),
            (b"accept-encoding", b"identity"),  # so that the counts can be read as the answer passes by
        ]
        reader: UsageReader | None = None
        try:
            with trio.fail_after(self._limits.request_seconds):
                async with client.stream(
                    "POST", self.base_url + request.target, content=request.body, headers=sent
                ) as response:
                    if not 200 <= response.status_code < 300:
                        await self._pass_error(connection, response)
                        return
                    reader = UsageReader(streamed="event-stream" in response.headers.get("content-type", ""))
                    if turn is not None:
                        turn.began = True
                    await self._pass_answer(connection, response, reader)
                    if turn is not None:
                        turn.whole = True
        except (httpx.HTTPError, httpx.InvalidURL, trio.TooSlowError) as problem:
            if connection.answering:
                raise trio.BrokenResourceError from problem
            raise Refused(502, f"the model's API could not be reached ({type(problem).__name__})") from problem
        finally:
            if reader is not None and request.counted:
                tokens = reader.end(request_bytes=len(request.body))
                self.usage.input_tokens += tokens.all_input
                self.usage.output_tokens += tokens.output
                self.usage.cost_usd += tokens.cost_usd(request.model)

    async def _pass_answer(self, connection: _Connection, response: httpx.Response, reader: UsageReader) -> None:
        back = [(name, value) for name in _PASSED_BACK if (value := response.headers.get(name)) is not None]
        await connection.start(response.status_code, back)
        async for chunk in response.aiter_raw():
            reader.feed(chunk)
            if reader.bytes > self._limits.response_bytes:
                raise trio.BrokenResourceError("the answer is larger than any answer should be")
            await connection.data(chunk)
        await connection.end()

    async def _pass_error(self, connection: _Connection, response: httpx.Response) -> None:
        status = response.status_code
        if status < 400:
            raise Refused(502, "the model's API answered with a redirect, which is not followed")
        body = b""
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > _MAX_ERROR:
                raise Refused(502, f"the model's API answered {status}")
        back = [(name, value) for name in _PASSED_BACK[1:] if (value := response.headers.get(name)) is not None]
        # A gateway may echo what it was sent.
        await connection.answer(status, body.replace(self._key.encode(), b"[key]"), back)


class _Connection:
    """One client's HTTP/1.1 connection, every wait of it bounded."""

    def __init__(self, stream: trio.SocketStream, limits: ProxyLimits) -> None:
        self._stream = stream
        self._limits = limits
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=64 * 1024)

    @property
    def answering(self) -> bool:
        return self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE)

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)

    def next(self) -> bool:
        """Make ready for another request on this connection, if it can have one."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    async def request(self) -> h11.Request | None:
        with trio.fail_after(self._limits.header_seconds):
            event = await self._event()
        return event if isinstance(event, h11.Request) else None

    async def body(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        with trio.fail_after(self._limits.body_seconds):
            if self._http.they_are_waiting_for_100_continue:
                await self._send(h11.InformationalResponse(status_code=100, headers=[]))
            while isinstance(event := await self._event(), h11.Data):
                size += len(event.data)
                if size > self._limits.request_bytes:
                    raise Refused(413, f"the request is over {self._limits.request_bytes} bytes")
                parts.append(bytes(event.data))
        if not isinstance(event, h11.EndOfMessage):
            raise trio.BrokenResourceError("the client left")
        return b"".join(parts)

    async def answer(self, status: int, body: bytes, headers: list[tuple[str, str]] | None = None) -> None:
        """A whole answer; the connection ends after it when the request was not read to its end."""
        every = [("content-type", "application/json"), ("content-length", str(len(body))), *(headers or [])]
        if self._http.their_state is not h11.DONE:
            every.append(("connection", "close"))
        await self.start(status, every)
        await self.data(body)
        await self.end()

    async def start(self, status: int, headers: list[tuple[str, str]]) -> None:
        await self._send(h11.Response(status_code=status, headers=headers))

    async def data(self, chunk: bytes) -> None:
        await self._send(h11.Data(data=chunk))

    async def end(self) -> None:
        await self._send(h11.EndOfMessage())

    async def _send(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            with trio.fail_after(self._limits.client_seconds):
                await self._stream.send_all(data)

    async def _event(self) -> h11.Event | type[h11.PAUSED]:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event  # type: ignore[return-value]
            self._http.receive_data(await self._stream.receive_some(64 * 1024))


def _at_least(request: ModelRequest) -> float:
    """What the request costs in USD before a word of its answer."""
    if not request.counted:
        return 0.0
    return Tokens(input=len(request.body) // BYTES_PER_TOKEN).cost_usd(request.model)


def _checked_base(base_url: str) -> str:
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, TypeError) as problem:
        raise SandboxError(f"not an address of a model API: {base_url!r}", code=422) from problem
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment or url.userinfo:
        raise SandboxError(
            "the model's base URL must be http(s)://host, without credentials or query",
            fix="dispatch config set model.base_url https://api.anthropic.com",
            code=422,
        )
    return str(url).rstrip("/")


def _listen(path: Path) -> trio.SocketListener:
    # A socket's name has 108 bytes; run directories are longer. Through the folder's descriptor the length
    # does not matter.
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        name = f"/proc/self/fd/{folder}/{path.name}"
        old = os.umask(0o177)
        try:
            listening.bind(name)
        finally:
            os.umask(old)
        if stat.S_IMODE(path.lstat().st_mode) & 0o077:
            raise SandboxError(f"{path} would be open to other users")
        listening.listen(16)
    except BaseException:
        listening.close()
        raise
    finally:
        os.close(folder)
    listening.setblocking(False)
    return trio.SocketListener(trio.socket.from_stdlib_socket(listening))
