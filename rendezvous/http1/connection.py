"""One connection of an HTTP/1.1 server: its requests, one after the other, and its waits, each with a bound."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote

import structlog
import trio
from starlette.types import ASGIApp, Message, Scope

from rendezvous.http1.requests import BadRequest, Request, RequestReader

log = structlog.get_logger(__name__)

RECEIVED_AT_ONCE: Final = 16 * 1024
LINGER_BYTES: Final = 1024 * 1024
LINGER_SECONDS: Final = 2.0
"""What is still read after an answer to a request that was not read whole: closing with bytes unread would reset the
connection, and its client might lose the answer (RFC 9112, 9.6)."""


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """Seconds."""

    idle: float = 60
    """Between requests, and for a TLS handshake. Longer than a client keeps an idle connection, so that it is the
    client who closes first."""
    head: float = 15
    """For the rest of a head once it has begun."""
    sending: float = 30
    """For a response, and a second more for each BYTES_A_SECOND of it."""


USUAL: Final = Timeouts()
BYTES_A_SECOND: Final = 4096
"""The slowest that a response is taken. What is not taken at all is dropped before, by listening.STALLED_MS."""


class Connection:
    """Answers the requests on `stream` with an ASGI application. Run by `serve`, ended by `finish` or by its client."""

    def __init__(
        self, stream: trio.abc.Stream, app: ASGIApp, *, scheme: str, client: tuple[str, int], timeouts: Timeouts
    ) -> None:
        self._stream = stream
        self._app = app
        self._scheme = scheme
        self._client = client
        self._timeouts = timeouts
        self._reader = RequestReader()
        self._refusal: BadRequest | None = None
        self._ended = False
        self._unread = False
        # One scope for all waits: what waits now sets its deadline.
        self._waits = trio.CancelScope()
        self._idle = False
        self._finishing = False

    async def serve(self) -> None:
        """Answer until the client leaves, sends what is no request, or is idle or slow for too long."""
        try:
            with self._waits:
                while await self._next_request():
                    if not await self._answer(self._reader.ready.popleft()):
                        break
                else:
                    if self._refusal is not None:
                        await self._refuse(self._refusal)
                if self._unread and not self._ended:
                    await self._linger()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client left, or spoke no TLS
        finally:
            await trio.aclose_forcefully(self._stream)

    def finish(self) -> None:
        """End the connection after the request that is being answered, or now if there is none."""
        self._finishing = True
        if self._idle:
            self._waits.cancel()

    async def _next_request(self) -> bool:
        """Whether there is a request; it is the first in `ready`."""
        reader = self._reader
        self._idle = reader.between_requests
        self._waits.deadline = trio.current_time() + self._timeouts.idle
        while not reader.ready:
            if self._refusal is not None or (self._finishing and reader.between_requests):
                return False
            await self._receive()
            if self._ended:
                return False
            if self._idle and not reader.between_requests:
                self._idle = False
                self._waits.deadline = trio.current_time() + self._timeouts.head
        self._idle = False
        return True

    async def _receive(self) -> None:
        data = await self._stream.receive_some(RECEIVED_AT_ONCE)
        if not data:
            self._ended = True
            return
        try:
            self._reader.feed(data)
        except BadRequest as refusal:
            self._refusal = refusal

    async def _answer(self, request: Request) -> bool:
        """Answer one request. Whether the connection goes on."""
        problem = _problem_of(request)
        if problem is not None:
            await self._refuse(problem)
            return False
        # The application bounds its own waits, those for the body included.
        self._waits.deadline = float("inf")
        exchange = _Exchange(self, request)
        try:
            await self._app(self._scope_of(request), exchange.receive, exchange.send)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise  # it sent to a client that has left
        except Exception as error:
            log.error("request.failed", kind=type(error).__name__, exc_info=error)
            return False
        self._unread = not request.complete
        return exchange.goes_on

    def _scope_of(self, request: Request) -> Scope:
        path, _, query = request.target.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": request.version,
            "method": request.method,
            "scheme": self._scheme,
            "path": unquote(path.decode("ascii")) if b"%" in path else path.decode("ascii"),
            "raw_path": path,
            "query_string": query.partition(b"#")[0],
            "root_path": "",
            "headers": request.headers,
            "client": self._client,
            "server": None,
        }

    async def send_within_bounds(self, data: bytes, *, last: bool = False) -> None:
        """Send, for as long as a slow client may take for that many bytes; `last`: as the last of a response."""
        self._waits.deadline = trio.current_time() + self._timeouts.sending + len(data) / BYTES_A_SECOND
        await self._stream.send_all(data)
        if not last:
            self._waits.deadline = float("inf")

    async def _refuse(self, refusal: BadRequest) -> None:
        self._unread = True
        body = refusal.message.encode() + b"\n"
        await self.send_within_bounds(
            response_head(refusal.status, [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))])
            + b"connection: close\r\n\r\n"
            + body
        )

    async def _linger(self) -> None:
        self._waits.deadline = trio.current_time() + LINGER_SECONDS
        if isinstance(self._stream, trio.SocketStream):
            await self._stream.send_eof()
        left = LINGER_BYTES
        while left > 0 and (data := await self._stream.receive_some(RECEIVED_AT_ONCE)):
            left -= len(data)

    @property
    def goes_on(self) -> bool:
        """Whether another request may be answered."""
        return not self._finishing and not self._ended

    async def receive_more(self) -> bool:
        """Wait for more of what the client sends; False where nothing more comes or is taken."""
        if self._ended or self._refusal is not None:
            return False
        await self._receive()
        return not self._ended


class _Exchange:
    """One request and its response, as ASGI sees it."""

    __slots__ = ("_connection", "_continue_asked", "_done", "_head", "_request", "_taken")

    def __init__(self, connection: Connection, request: Request) -> None:
        self._connection = connection
        self._request = request
        self._head = b""
        self._done = False
        self._taken = False
        expects = request.values(b"expect")
        self._continue_asked = bool(expects) and expects[0].lower() == b"100-continue"

    async def receive(self) -> Message:
        """Give the next piece of the body; behind it, wait until the client has left."""
        request, connection = self._request, self._connection
        if self._taken:
            await self._until_gone()
            return {"type": "http.disconnect"}
        if not request.pieces and not request.complete:
            if self._continue_asked:
                self._continue_asked = False
                await connection.send_within_bounds(b"HTTP/1.1 100 Continue\r\n\r\n")
            while not request.pieces and not request.complete:
                if not await connection.receive_more():
                    return {"type": "http.disconnect"}
        body = b"".join(request.pieces)
        request.pieces.clear()
        self._taken = request.complete
        return {"type": "http.request", "body": body, "more_body": not request.complete}

    async def _until_gone(self) -> None:
        while await self._connection.receive_more():
            pass
        if self._connection.goes_on:  # what came is no request: it is refused once this one is answered
            await trio.sleep_forever()

    async def send(self, message: Message) -> None:
        """Take the head of a response, then its body in one piece or in several whose length the head has."""
        if message["type"] == "http.response.start":
            self._head = self._head_of(int(message["status"]), message.get("headers", ()))
            return
        body: bytes = b"" if self._request.method == "HEAD" else message.get("body", b"")
        data, self._head = self._head + body, b""
        self._done = not message.get("more_body", False)
        if data:
            await self._connection.send_within_bounds(data, last=self._done)

    def _head_of(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        headers = list(headers)
        goes_on = self._request.keep_alive and self._request.complete and self._connection.goes_on
        if not any(name == b"content-length" for name, _ in headers) and status not in (204, 304):
            goes_on = False  # then the end of the connection is that of the body
        self._request.keep_alive = goes_on
        return response_head(status, headers) + (b"\r\n" if goes_on else b"connection: close\r\n\r\n")

    @property
    def goes_on(self) -> bool:
        """Whether the connection does, now that the application has returned."""
        return self._done and self._request.keep_alive and self._connection.goes_on


def response_head(status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return status line and headers, Date among them, without the empty line at their end."""
    lines = [_status_line(status), b"date: ", _date(int(time.time())), b"\r\n"]
    for name, value in headers:
        lines += (name, b": ", value, b"\r\n")
    head = b"".join(lines)
    if head.count(b"\n") != len(lines) // 4 + 1:
        raise ValueError("a header of a response has a line break in it")
    return head


@lru_cache(maxsize=128)
def _status_line(status: int) -> bytes:
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()


@lru_cache(maxsize=4)
def _date(seconds: int) -> bytes:
    return formatdate(seconds, usegmt=True).encode()


def _problem_of(request: Request) -> BadRequest | None:
    if request.version not in ("1.0", "1.1"):
        return BadRequest(505, "only HTTP/1.1 is spoken here")
    hosts = request.values(b"host")
    if len(hosts) > 1 or (not hosts and request.version == "1.1"):
        return BadRequest(400, "a request names one host")  # RFC 9112, 3.2
    if not request.target.startswith(b"/"):
        return BadRequest(400, "a request names a path")
    return None
