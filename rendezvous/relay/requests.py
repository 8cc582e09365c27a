"""The head of an HTTP request, read within bounds before anything is made of it, and short answers to it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import h11
import trio

from peer.protocol.errors import NO_FIX, DispatchError, Invalid
from peer.protocol.relays.messages import CONTROL_PATH, PIPE_PATH, SUBPROTOCOL

MAX_HEAD: Final = 16 * 1024
"""Bytes."""
_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{22}==")
_PHRASES: Final = {200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed"}
_PHRASES_MORE: Final = {426: "Upgrade Required", 431: "Request Header Fields Too Large", 429: "Too Many Requests"}


class Gone(Exception):
    """The client left in the middle."""


@dataclass(frozen=True, slots=True)
class Head:
    """A request's head. `raw`: its own bytes; `after`: what came behind it. Names of headers are in lower case."""

    method: bytes
    path: bytes
    version: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    raw: bytes
    after: bytes

    def all(self, name: bytes) -> list[bytes]:
        """Return the values of all headers of this name."""
        return [value for found, value in self.headers if found == name]

    def words(self, name: bytes) -> set[bytes]:
        """Return the words of a list in headers of this name."""
        return {word.strip() for value in self.all(name) for word in value.split(b",")}


async def read_head(stream: trio.abc.ReceiveStream) -> Head:
    """Read a request's head, however slowly it comes. Raises Invalid with the status as its code, and Gone."""
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    received = bytearray()
    while True:
        try:
            event = parser.next_event()
        except h11.RemoteProtocolError as error:
            raise Invalid("that is not an HTTP request", fix=NO_FIX, code=error.error_status_hint) from error
        if isinstance(event, h11.Request):
            after, _ = parser.trailing_data
            raw = bytes(received[: len(received) - len(after)])
            headers = tuple((bytes(name), bytes(value)) for name, value in event.headers)
            return Head(bytes(event.method), bytes(event.target), bytes(event.http_version), headers, raw, bytes(after))
        data = await stream.receive_some(4096)
        if not data:
            raise Gone
        received += data
        parser.receive_data(data)


def websocket_path(head: Head) -> str:
    """Return which of the relay's two paths a request opens a WebSocket to. Raises Invalid, its code the status.

    What wsproto would refuse is refused here, since trio-websocket waits for ever after such a refusal.
    """
    path = head.path.decode("ascii", "replace")
    if path not in (CONTROL_PATH, PIPE_PATH):
        raise Invalid("there is nothing here", fix=NO_FIX, code=404)
    if head.method != b"GET":
        raise Invalid("this path only takes GET", fix=NO_FIX, code=405)
    upgrade = b"websocket" in {word.lower() for word in head.words(b"upgrade")} and b"upgrade" in {
        word.lower() for word in head.words(b"connection")
    }
    if not upgrade or head.version != b"1.1" or head.all(b"sec-websocket-version") != [b"13"]:
        raise Invalid("this path only takes WebSockets, version 13", fix=NO_FIX, code=426)
    one_each = all(len(head.all(name)) == 1 for name in (b"host", b"upgrade", b"connection", b"sec-websocket-key"))
    body = head.all(b"content-length") or head.all(b"transfer-encoding")
    if body or not one_each or not _KEY.fullmatch(head.all(b"sec-websocket-key")[0]) or not _is_ascii(head):
        raise Invalid("that is not a valid WebSocket handshake", fix=NO_FIX, code=400)
    if SUBPROTOCOL.encode() not in head.words(b"sec-websocket-protocol"):
        raise Invalid(f"this path only speaks {SUBPROTOCOL}", fix=NO_FIX, code=400)
    return path


def _is_ascii(head: Head) -> bool:
    return all(value.isascii() for _, value in head.headers)


def answer(status: int, body: str, *, kind: str = "text/plain") -> bytes:
    """Return a whole response, after which the connection ends."""
    content = body.encode()
    phrase = {**_PHRASES, **_PHRASES_MORE}.get(status, "")
    lines = (
        f"HTTP/1.1 {status} {phrase}",
        f"Content-Type: {kind}; charset=utf-8",
        f"Content-Length: {len(content)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
        *(("Upgrade: websocket",) if status == 426 else ()),
        *(("Allow: GET",) if status == 405 else ()),
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def refusal(error: DispatchError) -> bytes:
    """Return the response to a request that is refused."""
    status = error.code if 400 <= error.code < 500 and error.code != 422 else 400
    return answer(status, error.message + "\n")
