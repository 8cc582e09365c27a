"""The only way out of a sandbox: a unix socket that passes model requests on with the person's key, within a budget.

What may be asked is a `ModelApi`'s to check. A request for which the API has no room is kept here and asked again
(waiting.py); the client waits for its answer. Nothing else is repeated: of the rest the agent program decides. No
redirects, nothing from this process's environment. Bodies and keys are never logged: there is no logging here at all.
What a run spent is in `ModelProxy.usage`.
"""

from __future__ import annotations

import contextlib
import hmac
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import h11
import httpx
import trio

from sandbox.errors import SandboxError, quoted
from sandbox.model_api import waiting
from sandbox.model_api.connection import ClientConnection, ProxyLimits, listen
from sandbox.model_api.cost_budget import CostBudget
from sandbox.model_api.interface import (
    Allowance,
    AnswerMeter,
    Explanation,
    Failure,
    ModelApi,
    ModelRequest,
    Refused,
    Usage,
)
from sandbox.model_api.route import checked_base, checked_proxy, trust, untrusted
from sandbox.model_api.turn_budget import Turn, TurnBudget
from sandbox.model_api.waiting import Busy

_PASSED_BACK: Final = ("content-type", "request-id", "retry-after", "x-should-retry")
_MAX_ERROR: Final = 64 * 1024
_HELD: Final = 64 * 1024
"""Bytes of a streamed answer that are held until its content begins."""
NAMES_TOLD: Final = 20
"""Members of requests that are told as left out, of one run."""

Tell = Callable[[str, str], Awaitable[None]]
"""Adds (status, detail) to the run's trace."""


class _Exchange(NamedTuple):
    """One request that was checked, on its way. `headers`: those of the client that are passed on."""

    connection: ClientConnection
    client: httpx.AsyncClient
    request: ModelRequest
    headers: list[tuple[bytes, bytes]]
    turn: Turn


class ModelProxy:
    """One run's access to the model.

    `api`: which API it is. `base_url`: where it is, or a gateway to it, http or https, path allowed; None is the public
    one. `api_key` None: every request is answered 401 with the fix. `budget_usd`, `max_turns` (see `TurnBudget`; None:
    unbounded), `max_requests`: once reached, further requests are answered 403. `allowance`: the tools and models of
    this run. `secret`: what a client must send as its key, or is answered 401; None asks nobody. `ca_file`: authorities
    in place of the system's, `more_ca_file`: beside them. `http_proxy`: on the way to an https base_url, its address
    may hold a password. `patience_seconds`: from now on, how long a request waits for an API that has no room, 0 for
    not at all. `tell`: gets what people should know. `transport` replaces the network in tests. Raises SandboxError
    422 for an address that is none.
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
        more_ca_file: str | None = None,
        http_proxy: str | None = None,
        patience_seconds: float = 0.0,
        tell: Tell | None = None,
        max_turns: int | None = None,
        max_requests: int = 1000,
        limits: ProxyLimits | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.usage = Usage()
        self.base_url = checked_base(base_url or api.public_url)
        self._api = api
        self._key = api_key.strip() if api_key else ""
        if not self._key.isascii() or not self._key.isprintable():
            raise SandboxError(
                "the model's key contains characters that no key has",
                fix="`dispatch config set model.api_key -`",
                code=422,
            )
        self._max_requests = max_requests
        self._allowance = allowance
        self._secret = secret
        self._limits = limits or ProxyLimits()
        self._transport = transport
        self._trust = trust(ca_file, more_ca_file)
        self._http_proxy = checked_proxy(http_proxy, self._trust) if http_proxy else None
        self._until = trio.current_time() + patience_seconds if patience_seconds else 0.0
        self._tell = tell
        self._left_out: set[str] = set()
        self._waiting: list[Busy] = []
        self.explanation: Explanation | None = None
        """Of the failure that the client was last told; None since the last whole answer."""
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

    @property
    def waits_for(self) -> str:
        """Why a request waits at this moment: "overloaded (529)"; "" if none does."""
        return str(self._waiting[-1]) if self._waiting else ""

    @contextlib.asynccontextmanager
    async def serving(self, socket_path: Path) -> AsyncIterator[None]:
        """Listen on `socket_path` (must not exist; 0600) while inside; connections end on leaving."""
        listener = listen(socket_path)
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
                    proxy=self._http_proxy,
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
                await self._tell_left_out(checked)
                async with self._cost.reserved(checked.least_usd):
                    self.usage.requests += 1
                    if not checked.asks:
                        await self._ask(_Exchange(connection, client, checked, headers, Turn()))
                        return connection.next()
                    async with self._turns.turn() as turn:
                        await self._ask(_Exchange(connection, client, checked, headers, turn))
        except Refused as refusal:
            self.usage.refused += 1
            await connection.answer(refusal.status, self._api.error_body(refusal.status, refusal.message))
        return connection.next()

    async def _tell_left_out(self, request: ModelRequest) -> None:
        for name in request.left_out:
            if name in self._left_out or len(self._left_out) >= NAMES_TOLD:
                continue
            self._left_out.add(name)
            if self._tell is not None:
                detail = f"{quoted(name)}: unknown member of a request to the model"
                await self._tell("model_member_left_out", detail)

    def _check_secret(self, request: h11.Request) -> None:
        """Only the agent program has the secret; whatever else reaches the socket is refused."""
        given = self._api.client_key(request.headers)
        if self._secret is not None and not hmac.compare_digest(given, self._secret.encode()):
            raise Refused(401, "this proxy only serves the run's own agent program")

    async def _ask(self, exchange: _Exchange) -> None:
        """Pass a request on, again and again while the API has no room for it and the run has time."""
        began, tries = trio.current_time(), 0
        while (busy := await self._pass_on(exchange)) is not None:
            seconds = waiting.seconds(
                busy,
                tries,
                now=datetime.now(UTC),
                least=self._limits.least_wait_seconds,
                spread=random.random(),  # noqa: S311 - no secret
            )
            if trio.current_time() + seconds >= self._until:
                raise self._no_room(busy, seconds)
            if tries == 0 and self._tell is not None:
                next_try = f"next try in {waiting.words(seconds)}, and so on until it answers or the run's time is over"
                await self._tell("model_waiting", f"the model's API is {busy}; {next_try}")
            await self._wait(exchange.connection, busy, seconds)
            tries += 1
        if tries and self._tell is not None:
            waited = waiting.words(trio.current_time() - began)
            await self._tell("model_answered", f"the model's API answered after {waited}")

    async def _wait(self, connection: ClientConnection, busy: Busy, seconds: float) -> None:
        self._waiting.append(busy)
        try:
            with trio.move_on_after(seconds):
                await connection.left()
                raise trio.BrokenResourceError("the client left while its request waited")
        finally:
            self._waiting.remove(busy)

    def _no_room(self, busy: Busy, seconds: float) -> Refused:
        later = f"; it asks to wait {waiting.words(seconds)}, but this run has less time" if self._until else ""
        self.explanation = Explanation(
            f"the model's API was {busy}{later}", "dispatch it again later, or with more `--minutes` on the edge", 503
        )
        # Not its own status: for that the program would ask again by itself.
        return Refused(403, self.explanation.reason)

    async def _pass_on(self, exchange: _Exchange) -> Busy | None:
        """Ask once and pass the answer back; or return why there is none yet, with nothing passed back or counted."""
        connection, client, request, headers, turn = exchange
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
                        return await self._pass_error(connection, request, response)
                    streamed = "event-stream" in response.headers.get("content-type", "")
                    meter = self._api.meter(request, streamed=streamed)
                    return await self._pass_answer(connection, request, response, meter, turn)
        except (httpx.HTTPError, httpx.InvalidURL, trio.TooSlowError) as problem:
            if connection.answering:
                raise trio.BrokenResourceError from problem
            raise self._unreachable(problem) from problem
        finally:
            # What the API broke off itself before any content is asked for anew, and costs nothing.
            if meter is not None and request.asks and (meter.begun or meter.failure is None):
                turn.began = True
                self._count(request, meter)

    def _count(self, request: ModelRequest, meter: AnswerMeter) -> None:
        cost = meter.cost()
        self.usage.input_tokens += cost.input_tokens
        self.usage.output_tokens += cost.output_tokens
        if request.priced:
            self.usage.cost_usd += cost.usd
        else:
            self.usage.assumed_usd += cost.usd

    async def _pass_answer(
        self,
        connection: ClientConnection,
        request: ModelRequest,
        response: httpx.Response,
        meter: AnswerMeter,
        turn: Turn,
    ) -> Busy | None:
        back = [(name, value) for name in _PASSED_BACK if (value := response.headers.get(name)) is not None]
        held = b""
        async for chunk in response.aiter_raw():
            meter.feed(chunk)
            if meter.size > self._limits.response_bytes:
                raise trio.BrokenResourceError("the answer is too large")
            held += chunk
            if connection.answering or meter.begun or len(held) > _HELD:
                await self._pass_chunk(connection, response, back, held)
                held = b""
        if meter.failure is not None:
            busy = self._busy(meter.failure, response)
            if busy is not None and not connection.answering:
                return busy
            self.explanation = self._api.explain(meter.failure, request.model)
        elif not (connection.answering or meter.whole):
            raise httpx.RemoteProtocolError("the answer ended before its content began")
        if held or not connection.answering:
            await self._pass_chunk(connection, response, back, held)
        await connection.end()
        turn.whole = meter.whole
        if meter.whole:
            short = meter.shortfall
            self.explanation = self._api.explain(short, request.model) if short is not None else None
        return None

    async def _pass_chunk(
        self,
        connection: ClientConnection,
        response: httpx.Response,
        headers: list[tuple[str, str]],
        chunk: bytes,
    ) -> None:
        if not connection.answering:
            await connection.start(response.status_code, headers)
        await connection.data(chunk)

    def _busy(self, failure: Failure, response: httpx.Response) -> Busy | None:
        headers = {name.lower(): value for name, value in response.headers.items()}
        why = self._api.overloaded(failure, headers) if self._until else ""
        return Busy(failure, why, headers) if why else None

    async def _pass_error(
        self, connection: ClientConnection, request: ModelRequest, response: httpx.Response
    ) -> Busy | None:
        status = response.status_code
        if status < 400:
            raise Refused(502, "the model's API answered with a redirect, which is not followed")
        body = b""
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > _MAX_ERROR:
                raise Refused(502, f"the model's API answered {status}")
        failure = self._api.failure(status, body)
        if (busy := self._busy(failure, response)) is not None:
            return busy
        self.explanation = self._api.explain(failure, request.model)
        back = [(name, value) for name in _PASSED_BACK[1:] if (value := response.headers.get(name)) is not None]
        # A gateway may echo what it was sent.
        secret = self._key.removeprefix("Bearer ").encode()
        await connection.answer(status, body.replace(secret, b"[key]"), back)
        return None

    def _unreachable(self, problem: Exception) -> Refused:
        fix = "check `dispatch config get model.base_url`; if a proxy is needed, `dispatch config set model.proxy URL`"
        if isinstance(problem, httpx.ProxyError):
            why = f"the HTTP proxy in between answered {quoted(str(problem))}"
            fix = "`dispatch config set model.proxy -`, with its user name and password: http://NAME:PASSWORD@HOST:PORT"
        elif why := untrusted(problem):
            fix = "if a private CA issued it, `dispatch config set model.ca_file FILE`"
        else:
            why = type(problem).__name__
        self.explanation = Explanation(f"the model's API could not be reached ({why})", fix, 502)
        return Refused(502, self.explanation.reason)
