"""Responses of the loopback API: documents and errors as JSON, event streams, and strict request bodies. No routes."""

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
"""What a handler returns: a document, to be sent as JSON, or a response."""
Handler = Callable[[Request], Awaitable[Reply]]


class Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A request body that refuses unknown members."""


def as_json(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Turn a handler into a Starlette endpoint: documents and errors become JSON, responses are passed on."""

    async def respond(request: Request) -> Response:
        try:
            reply = await handler(request)
        except DispatchError as error:
            return failure(error)
        except Exception as error:
            log.exception("api.failed", path=request.url.path, error=type(error).__name__)
            return failure(Internal("the daemon failed on this request"))
        return reply if isinstance(reply, Response) else document(reply)

    return respond


async def body_of(request: Request, shape: type[T]) -> T:
    """Return a request's JSON body as a `shape`. Raises Invalid, and TooLarge for a dispatch over its limits."""
    raw = await request.body()
    try:
        given = msgspec.json.decode(raw or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid("the request is not JSON", fix="send a JSON object") from error
    try:
        return msgspec.convert(given, shape)
    except msgspec.ValidationError as error:
        if issubclass(shape, SendRequest) and isinstance(given, dict):
            shape.refuse(given)
        raise Invalid(
            f"the request does not have the expected form: {error}", fix="docs/programs.md describes the requests"
        ) from error


def document(value: Document | list[Document], status: int = 200) -> Response:
    """Return a JSON response."""
    return Response(
        msgspec.json.encode(value),
        status_code=status,
        media_type="application/json",
        headers={"cache-control": "no-store", "x-content-type-options": "nosniff"},
    )


def failure(error: DispatchError) -> Response:
    """Return an error response: {"error": {code, message, fix}}."""
    return document({"error": error.to_json()}, error.code)


def number(text: str, least: int, most: int) -> int:
    """Parse a whole number from a query. Raises Invalid unless it is from `least` to `most`."""
    if not text.isascii() or not text.isdigit() or len(text) > 16 or not least <= int(text) <= most:
        raise Invalid(f"that number must be from {least} to {most}", fix="give a number in this range")
    return int(text)


class LiveView(StreamingResponse):
    """A stream of server-sent events. Calls `on_close` at its end, even if the reader left before the first byte."""

    def __init__(self, content: AsyncIterator[bytes], on_close: Callable[[], None]) -> None:
        super().__init__(content, media_type="text/event-stream", headers={"cache-control": "no-store"})
        self._on_close = on_close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_close()


def sse(kind: str, position: int | str, value: object) -> bytes:
    """Return one server-sent event (HTML standard, 9.2) whose data is JSON, on one line."""
    return f"event: {kind}\nid: {position}\ndata: ".encode() + msgspec.json.encode(value) + b"\n\n"
