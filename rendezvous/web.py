"""HTTP around the routes: bounded bodies, JSON, problem details (RFC 9457), security headers. No routes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus

import msgspec
import structlog
import trio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Scope

from peer.protocol.errors import DispatchError, Internal, Invalid, TooLarge
from rendezvous.ratelimit import TooMany
from rendezvous.routing import MethodNotAllowed
from rendezvous.tokens import Bearer

log = structlog.get_logger()

MAX_BODY = 384 * 1024
"""Bytes: the largest write is 262,144 bytes of arguments in a signed statement, in base64url."""
BODY_SECONDS = 15
RETRY_SECONDS = "5"
"""Told with 503, which is over soon: a database that fails over, a broker that is restarted."""
RENEWED_TOKEN = "dispatch-token"  # noqa: S105 - a header's name
"""A read's response header with a fresh token, present once less than half of the old one's life is left."""
WAITED = "dispatch.waited"
"""Of a request's ASGI scope."""
PROBLEM = "application/problem+json"

SECURITY_HEADERS = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'"),
    (b"x-content-type-options", b"nosniff"),
    # Not no-referrer: browsers then send `Origin: null` with this origin's own forms.
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
"""Names in lower case, as ASGI has them."""


async def read_body(request: Request, *, limit: int = MAX_BODY) -> bytes:
    """Return the body. Raises TooLarge above `limit` bytes, Invalid when it does not arrive in BODY_SECONDS."""
    length = request.headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit() or len(length) > 18 or int(length) > limit:
        raise TooLarge(f"the body has {length[:18]} bytes; the limit is {limit}", fix="send less at once")
    body = bytearray()
    with trio.move_on_after(BODY_SECONDS) as scope:
        try:
            async for piece in request.stream():
                body += piece
                if len(body) > limit:
                    raise TooLarge(f"the body is over the limit of {limit} bytes", fix="send less at once")
        except ClientDisconnect as error:
            raise Invalid("the body ended too early", fix="send the whole body") from error
    if scope.cancelled_caught:
        raise Invalid(f"the body did not arrive within {BODY_SECONDS} s", fix="try again over a faster connection")
    return bytes(body)


async def read_json(request: Request) -> object:
    """Return the JSON document in the body. Raises Invalid and as `read_body`."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Invalid("the body must be application/json", fix="send JSON with this content type")
    body = await read_body(request)
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Invalid("the body is not JSON", fix="send a JSON object") from error


@contextmanager
def waiting(request: Request) -> Iterator[None]:
    """Note that a request waits, as it asked to, while the block runs: no time of ours."""
    began = time.perf_counter()
    try:
        yield
    finally:
        request.scope[WAITED] = waited(request.scope) + time.perf_counter() - began


def waited(scope: Scope) -> float:
    """Return the seconds that a request has waited, as it asked to."""
    return float(scope.get(WAITED, 0.0))


async def wait_while_connected(request: Request, told: trio.CancelScope, *, until: float) -> None:
    """Wait in `told` until it is cancelled, or trio's clock is at `until`.

    Raises ClientDisconnect once the client has left: nothing is to be done for it then.
    """
    told.deadline = until
    with waiting(request), told:
        while (await request.receive())["type"] != "http.disconnect":
            pass  # a body that nobody asked for
        raise ClientDisconnect


def number(request: Request, name: str, *, default: int, most: int) -> int:
    """Return a query parameter that is a whole number from 0 to `most`. Raises Invalid."""
    text = request.query_params.get(name, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 18 or int(text) > most:
        raise Invalid(f"{name} must be a whole number from 0 to {most}", fix="give a number in this range")
    return int(text)


def document(content: Mapping[str, object], *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON response."""
    return _json(content, status=status, media_type="application/json", headers=headers)


def renewal(bearer: Bearer) -> dict[str, str]:
    """Return the header with a fresh token, if one is due."""
    return {RENEWED_TOKEN: bearer.renewed} if bearer.renewed else {}


def problem(error: DispatchError) -> Response:
    """Return problem details; `code` and `fix` are this product's own members."""
    headers = {}
    if isinstance(error, TooMany):
        headers["retry-after"] = str(error.retry_after)
    if error.code == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["retry-after"] = RETRY_SECONDS
    if isinstance(error, MethodNotAllowed):
        headers["allow"] = ", ".join(error.allow)
    if error.code == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    content = {
        "type": "about:blank",
        "title": HTTPStatus(error.code).phrase,
        "status": error.code,
        "detail": error.message,
        "code": error.code,
        "fix": error.fix,
    }
    return _json(content, status=error.code, media_type=PROBLEM, headers=headers)


def _json(content: object, *, status: int, media_type: str, headers: Mapping[str, str] | None) -> Response:
    return Response(msgspec.json.encode(content), status, headers, media_type)


def unexpected(error: Exception) -> Response:
    """Log an unexpected exception and return a response that reveals nothing of it."""
    log.error("request.failed", exc_info=error)
    fix = "tell the broker's operator; its log says where it failed"
    return problem(Internal("the broker failed to handle this request", fix=fix))


def secure(response: Response) -> None:
    """Add SECURITY_HEADERS, except those that the route set itself."""
    given = {name for name, _ in response.raw_headers}
    response.raw_headers += [each for each in SECURITY_HEADERS if each[0] not in given]
