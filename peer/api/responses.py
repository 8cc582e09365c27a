"""How the loopback port answers: documents and errors as JSON, request bodies of exactly one shape. No routes here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from peer.client.requests import SendRequest
from peer.protocol.documents import Document
from peer.protocol.errors import DispatchError, Internal, Invalid

log = structlog.get_logger(__name__)

T = TypeVar("T")
Reply = Response | Document | list[Document]
"""What a route gives: a document to be sent as JSON, or a response as it is."""
Handler = Callable[[Request], Awaitable[Reply]]


class Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A request body; unknown members are refused."""


def as_json(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Return the route of a handler that gives a document or raises one of our errors; a response is passed on."""

    async def respond(request: Request) -> Response:
        try:
            answer = await handler(request)
        except DispatchError as error:
            return failure(error)
        except Exception as error:
            log.exception("api.failed", path=request.url.path, error=type(error).__name__)
            return failure(Internal("the daemon failed at this"))
        return answer if isinstance(answer, Response) else document(answer)

    return respond


async def body_of(request: Request, shape: type[T]) -> T:
    """Return a request's body as `shape`. Raises Invalid, and TooLarge for what a dispatch may not hold."""
    raw = await request.body()
    try:
        given = msgspec.json.decode(raw or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid("the request is not JSON") from error
    try:
        return msgspec.convert(given, shape)
    except msgspec.ValidationError as error:
        if issubclass(shape, SendRequest) and isinstance(given, dict):
            shape.refuse(given)
        raise Invalid(f"the request is not of the form it must have: {error}") from error


def document(value: Document | list[Document], status: int = 200) -> Response:
    """Return a document as JSON."""
    return Response(
        msgspec.json.encode(value),
        status_code=status,
        media_type="application/json",
        headers={"cache-control": "no-store", "x-content-type-options": "nosniff"},
    )


def failure(error: DispatchError) -> Response:
    """Return an error as {"error": {code, message, fix}}."""
    return document({"error": error.to_json()}, error.code)


def number(text: str, least: int, most: int) -> int:
    """Return a query's whole number. Raises Invalid."""
    if not text.isascii() or not text.isdigit() or len(text) > 16 or not least <= int(text) <= most:
        raise Invalid(f"that number must be {least} to {most}")
    return int(text)


class LiveView(StreamingResponse):
    """A stream of server-sent events that says when it is over, also when its reader has gone before its first byte."""

    def __init__(self, content: AsyncIterator[bytes], over: Callable[[], None]) -> None:
        super().__init__(content, media_type="text/event-stream", headers={"cache-control": "no-store"})
        self._over = over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._over()


def sse(kind: str, position: int | str, value: object) -> bytes:
    """Return one server-sent event (HTML standard, 9.2) whose data is JSON, on one line."""
    return f"event: {kind}\nid: {position}\ndata: ".encode() + msgspec.json.encode(value) + b"\n\n"
