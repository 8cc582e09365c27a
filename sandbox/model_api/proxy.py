"""The only way out of a sandbox: a unix socket that passes model requests on with the person's key, within a budget.

What may be asked is a `ModelApi`'s to check. No retries, no redirects, no proxies from the environment. Bodies and the
key are never logged: there is no logging here at all. What a run spent is in `ModelProxy.usage`.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import socket
import ssl
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import certifi
import h11
import httpx
import trio

from sandbox.errors import SandboxError
from sandbox.model_api.connection import ClientConnection, ProxyLimits
from sandbox.model_api.cost_budget import CostBudget
from sandbox.model_api.interface import Allowance, AnswerMeter, ModelApi, ModelRequest, Refused, Usage
from sandbox.model_api.turn_budget import Turn, TurnBudget

_PASSED_BACK: Final = ("content-type", "request-id", "retry-after", "x-should-retry")
_MAX_ERROR: Final = 64 * 1024


class ModelProxy:
    """One run's access to the model.

    `api`: which API it is. `base_url`: where it is, or a gateway to it, http or https, path allowed; None is the public
    one. `api_key` None: every request is answered 401 with the fix. `budget_usd`, `max_turns` (see `TurnBudget`; None:
    unbounded), `max_requests`: once reached, further requests are answered 403. `allowance`: the tools and models of
    this run. `secret`: what a client must send as its key, or is answered 401; None asks nobody. `transport` replaces
    the network in tests. Raises SandboxError 422 for a base_url that is none.
    """

    def __init__(
        self,
        api: ModelApi,
        base_url: str | None,
        api_key: str | None,
        *,
        budget_usd: float,
        allowance: Allowance,
        secret: str | None,
        ca_file: str | None = None,
        max_turns: int | None = None,
        max_requests: int = 1000,
        limits: ProxyLimits | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.usage = Usage()
        self.base_url = _checked_base(base_url or api.public_url)
        self._api = api
        self._key = api_key.strip() if api_key else ""
        if not self._key.isascii() or not self._key.isprintable():
            raise SandboxError(
                "the model's key holds characters no key has",
                fix="`dispatch config set model.api_key -`",
                code=422,
            )
        self._max_requests = max_requests
        self._allowance = allowance
        self._secret = secret
        self._limits = limits or ProxyLimits()
        self._transport = transport
        self._trust = _trust(ca_file)
        self._cost = CostBudget(self.usage, budget_usd)
        self._turns = TurnBudget(self.usage, max_turns)

    @property
    def turns_exhausted(self) -> trio.Event:
        """Set when the agent asked for one more turn than it may have."""
        return self._turns.exhausted

    @property
    def budget_exhausted(self) -> trio.Event:
        """Set when the agent asked for more than the budget has left."""
        return self._cost.exhausted

    @contextlib.asynccontextmanager
    async def serving(self, socket_path: Path) -> AsyncIterator[None]:
        """Listen on `socket_path` (must not exist; 0600) while inside; connections end on leaving."""
        listener = _listen(socket_path)
        slots = trio.Semaphore(self._limits.connections)
        upstream = trio.CapacityLimiter(self._limits.concurrent_requests)
        timeout = httpx.Timeout(self._limits.silence_seconds, connect=30.0)
        problem: Exception | None = None
        try:
            async with (
                httpx.AsyncClient(
                    trust_env=False,
                    verify=self._trust,
                    follow_redirects=False,
                    timeout=timeout,
                    transport=self._transport,
                ) as client,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(self._accept, listener, client, slots, upstream, nursery)
                try:
                    yield
                except Exception as raised:  # the caller's own; the nursery would wrap it in a group
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
            nursery.start_soon(self._serve, ClientConnection(stream, self._limits), client, slots, upstream)

    async def _serve(
        self,
        connection: ClientConnection,
        client: httpx.AsyncClient,
        slots: trio.Semaphore,
        upstream: trio.CapacityLimiter,
    ) -> None:
        try:
            while await self._serve_one(connection, client, upstream):
                pass
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, h11.ProtocolError):
            pass  # the client has left, is stuck or sends no HTTP: only its connection ends
        finally:
            slots.release()
            await connection.aclose()

    async def _serve_one(
        self, connection: ClientConnection, client: httpx.AsyncClient, upstream: trio.CapacityLimiter
    ) -> bool:
        """Serve one request; False when the connection is done."""
        request = await connection.request()
        if request is None:
            return False
        try:
            target = self._api.check_target(request.method, request.target)
            self._check_secret(request)
            headers = self._api.passed_headers(request.headers)
            checked = self._api.check_body(target, await connection.body(), self._allowance)
            if not self._key:
                raise Refused(401, ": ".join(self._api.key_missing))
            async with upstream:
                if self.usage.requests >= self._max_requests:
                    raise Refused(403, f"this run's limit of {self._max_requests} model requests is reached")
                async with self._cost.reserved(checked.least_usd):
                    self.usage.requests += 1
                    if not checked.asks:
                        await self._pass_on(connection, client, checked, headers)
                        return connection.next()
                    async with self._turns.turn() as turn:
                        await self._pass_on(connection, client, checked, headers, turn)
        except Refused as refusal:
            self.usage.refused += 1
            await connection.answer(refusal.status, self._api.error_body(refusal.status, refusal.message))
        return connection.next()

    def _check_secret(self, request: h11.Request) -> None:
        """Only the agent program has the secret; whatever else reaches the socket is refused."""
        given = self._api.client_key(request.headers)
        if self._secret is not None and not hmac.compare_digest(given, self._secret.encode()):
            raise Refused(401, "this proxy is for the agent program of the run alone")

    async def _pass_on(
        self,
        connection: ClientConnection,
        client: httpx.AsyncClient,
        request: ModelRequest,
        headers: list[tuple[bytes, bytes]],
        turn: Turn | None = None,
    ) -> None:
        sent = [
            *headers,
            *self._api.key_headers(self._key),
            (b"content-type", b"application/json"),
            (b"accept-encoding", b"identity"),  # so that the token counts can be read as the answer passes by
        ]
        meter: AnswerMeter | None = None
        try:
            with trio.fail_after(self._limits.request_seconds):
                async with client.stream(
                    "POST", self.base_url + request.target, content=request.body, headers=sent
                ) as response:
                    if not 200 <= response.status_code < 300:
                        await self._pass_error(connection, response)
                        return
                    streamed = "event-stream" in response.headers.get("content-type", "")
                    meter = self._api.meter(request, streamed=streamed)
                    if turn is not None:
                        turn.began = True
                    await self._pass_answer(connection, response, meter)
                    if turn is not None:
                        turn.whole = True
        except (httpx.HTTPError, httpx.InvalidURL, trio.TooSlowError) as problem:
            if connection.answering:
                raise trio.BrokenResourceError from problem
            why = _untrusted(problem) or type(problem).__name__
            raise Refused(502, f"the model's API could not be reached ({why})") from problem
        finally:
            if meter is not None and request.asks:
                cost = meter.cost()
                self.usage.input_tokens += cost.input_tokens
                self.usage.output_tokens += cost.output_tokens
                self.usage.cost_usd += cost.usd

    async def _pass_answer(self, connection: ClientConnection, response: httpx.Response, meter: AnswerMeter) -> None:
        back = [(name, value) for name in _PASSED_BACK if (value := response.headers.get(name)) is not None]
        await connection.start(response.status_code, back)
        async for chunk in response.aiter_raw():
            meter.feed(chunk)
            if meter.size > self._limits.response_bytes:
                raise trio.BrokenResourceError("the answer is larger than any answer should be")
            await connection.data(chunk)
        await connection.end()

    async def _pass_error(self, connection: ClientConnection, response: httpx.Response) -> None:
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


def _checked_base(base_url: str) -> str:
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, TypeError) as problem:
        raise SandboxError(f"not an address of a model API: {base_url!r}", code=422) from problem
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment or url.userinfo:
        raise SandboxError(
            "the model's base URL must be http(s)://host, without credentials or query",
            fix="`dispatch config set model.base_url https://api.anthropic.com`",
            code=422,
        )
    return str(url).rstrip("/")


def _listen(path: Path) -> trio.SocketListener:
    # A socket's name has 108 bytes at most, which run folders exceed; a name through the folder's descriptor is short.
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


def _trust(ca_file: str | None) -> ssl.SSLContext:
    """Return the TLS context: the authorities in a PEM file, else the system's, else certifi's if there are none."""
    if ca_file is not None and Path(ca_file).exists() and not Path(ca_file).is_file():  # a pipe would be waited for
        raise SandboxError(f"{ca_file} is no file", fix="name a PEM file in $SSL_CERT_FILE", code=422)
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:
        raise SandboxError(
            f"the certificates in {ca_file} cannot be used: {error}", fix="name a PEM file in $SSL_CERT_FILE", code=422
        ) from error
    if not context.cert_store_stats()["x509_ca"]:
        context.load_verify_locations(certifi.where())
    return context


def _untrusted(error: BaseException | None) -> str:
    """Return what is wrong with the certificate for which a connection failed, "" if it failed for another reason."""
    for _ in range(10):
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {error.verify_message}; $SSL_CERT_FILE names a private authority's"
        error = error.__cause__ or error.__context__ if error is not None else None
    return ""
