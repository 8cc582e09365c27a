"""The client's HTTP/1.1 for the daemon on 127.0.0.1: requests to bytes, bytes to responses and events. No I/O here.

Why not a library: `dispatch inbox` should feel instant (60 ms in all). Importing httpx takes about 200 ms, http.client
about 40 ms (it imports the e-mail parser and TLS) and h11 nearly as long; importing this module takes a third of that.
One request per connection, no redirects, no proxies, no compression, and the server is our own daemon: the remaining
part of RFC 9112 is here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from peer.protocol.errors import Internal

MAX_HEAD = 64 * 1024
MAX_BODY = 64 * 1024 * 1024
"""Bytes. The limits of a run bound its trace far below this, so a longer body is not from our daemon."""


class EndedEarly(Exception):
    """The connection closed before the response was complete."""


class ServerEvent(NamedTuple):
    """One server-sent event (HTML standard, 9.2): its kind, the stream's last id, and the data as text."""

    kind: str
    id: str
    data: str


def request(method: str, path: str, *, host: str, token: str, body: bytes | None, headers: dict[str, str]) -> bytes:
    """Return the bytes of one request after which the daemon closes the connection."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {token}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    elif method != "GET":
        lines.append("Content-Length: 0")
    return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + (body or b"")


class Response:
    """Parses one response incrementally. `status` is 0 until the head is complete.

    Add bytes with `feed` (b"" at the end of the stream); get the body with `take`. `complete` is True once the whole
    response was received. Raises Internal for anything but HTTP/1.1, EndedEarly if the stream ends in the middle.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.complete = False
        self._raw = bytearray()
        self._body = bytearray()
        self._left: int | None = None  # bytes left of the body or chunk; None: until the end of the stream
        self._chunked = False

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        self._raw += data
        if not self.status and not self._head():
            if not data:
                raise EndedEarly
            return
        self._content()
        if not data and not self.complete:
            if self._chunked or self._left is not None:
                raise EndedEarly
            self.complete = True

    def take(self) -> bytes:
        """Return the bytes of the body received since the last call."""
        taken = bytes(self._body)
        self._body.clear()
        return taken

    def _head(self) -> bool:
        end = self._raw.find(b"\r\n\r\n")
        if end < 0:
            if len(self._raw) > MAX_HEAD:
                raise _broken("its header is too long")
            return False
        first, *lines = self._raw[:end].decode("latin-1").split("\r\n")
        del self._raw[: end + 4]
        version, _, rest = first.partition(" ")
        if version not in ("HTTP/1.1", "HTTP/1.0") or not rest[:3].isdigit():
            raise _broken("it does not speak HTTP/1.1")
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.status = int(rest[:3])
        self._chunked = self.headers.get("transfer-encoding", "").lower() == "chunked"
        if self._chunked:
            self._left = 0
        elif (length := self.headers.get("content-length")) is not None:
            if not length.isdigit():
                raise _broken("its content length is not a number")
            self._left = int(length)
        elif self.status in (204, 304):
            self._left = 0
        return True

    def _content(self) -> None:
        while not self.complete:
            if self._chunked and self._left == 0:
                line, found, _ = self._raw.partition(b"\r\n")
                if not found:
                    return
                del self._raw[: len(line) + 2]
                if not line:
                    continue  # the line end after a chunk's data
                size_text = line.split(b";")[0].strip()
                if not 0 < len(size_text) <= 8 or size_text.strip(b"0123456789abcdefABCDEF"):
                    raise _broken("its chunks are malformed")
                self._left = int(size_text, 16)
                self.complete = self._left == 0
                continue
            size = len(self._raw) if self._left is None else min(self._left, len(self._raw))
            self._body += self._raw[:size]
            del self._raw[:size]
            if self._left is not None:
                self._left -= size
                if self._left == 0 and not self._chunked:
                    self.complete = True
                    return
            if len(self._body) > MAX_BODY:
                raise _broken("its answer is too long")
            if not self._raw:
                return


class EventParser:
    """Splits a body of type text/event-stream into events. Send `last_id` as Last-Event-ID when reconnecting."""

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        self._rest = b""
        self._kind = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[ServerEvent]:
        """Yield the events that `data` completes."""
        *lines, self._rest = (self._rest + data).replace(b"\r\n", b"\n").split(b"\n")
        if len(self._rest) > MAX_BODY:
            raise _broken("an event is too long")
        for raw in lines:
            line = raw.decode("utf-8", "replace")
            if not line:
                if self._data:
                    yield ServerEvent(self._kind or "message", self.last_id, "\n".join(self._data))
                self._kind, self._data, self._size = "", [], 0
                continue
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                self._kind = value
            elif field == "data":
                self._data.append(value)
                self._size += len(value) + 1
                if self._size > MAX_BODY:
                    raise _broken("an event is too long")
            elif field == "id" and "\0" not in value:
                self.last_id = value


def _broken(what: str) -> Internal:
    return Internal(
        f"what answers on the daemon's port is not the dispatch daemon: {what}", fix="restart `dispatch-daemon`"
    )
