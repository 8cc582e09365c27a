"""Bytes of a connection to requests, within bounds. No I/O; how a connection goes on: connection.py.

llhttp is strict: it refuses what two servers could read in two ways (a length and chunks, two lengths, bare line feeds,
folded headers), which is what request smuggling needs.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import httptools

MAX_HEAD: Final = 16 * 1024
"""Bytes of a request's line and headers, and of all that frames its body beyond a fair part of it."""
MAX_PIPELINED: Final = 8
"""Requests that may have come while one is being answered."""
_FRAMING_PER_BYTE: Final = 8
"""Chunks of one byte have five or six around it."""


class BadRequest(Exception):
    """What came is no request that is answered: with `status` and a sentence, after which the connection ends."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Request:
    """One request: its head, and of its body the pieces that have come and were not taken. Names of headers are in
    lower case; `target` is as it was sent."""

    __slots__ = ("complete", "headers", "keep_alive", "method", "pieces", "target", "version")

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.method = ""
        self.version = ""
        self.keep_alive = False
        self.pieces: list[bytes] = []
        self.complete = False

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of all headers of this name."""
        return [value for found, value in self.headers if found == name]


class RequestReader:
    """Takes what a client sends, and has what is complete of it in `ready`: requests whose heads have come, in order.

    After a `BadRequest`, or with a request that is the last of its connection, nothing more is taken.
    """

    __slots__ = ("_framing", "_in_head", "_parser", "_passed_mark", "_piece_bytes", "_request", "ready")

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._request: Request | None = None
        self._in_head = True
        self._framing = 0
        self._piece_bytes = 0
        self._passed_mark = False
        self.ready: deque[Request] = deque()

    @property
    def between_requests(self) -> bool:
        """Whether nothing of a further request has come."""
        return self._request is None

    def feed(self, data: bytes) -> None:
        """Take what was received. Raises BadRequest; what was complete before stays in `ready`."""
        self._passed_mark = False
        self._piece_bytes = 0
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # An `Upgrade` is ignored (RFC 9110, 7.8), but llhttp reads nothing behind it.
            self.ready[-1].keep_alive = False
        except httptools.HttpParserError as error:
            raise BadRequest(400, "that is not an HTTP/1.1 request") from error
        # The pieces of a body are its application's to bound; a head, and what is around the pieces, are bounded here.
        # llhttp does not say how far in `data` a head or body ended, so that the rest of it is not counted.
        framing = self._framing + len(data) - (1 + _FRAMING_PER_BYTE) * self._piece_bytes
        self._framing = 0 if self._passed_mark else max(0, framing)
        if self._framing > MAX_HEAD:
            raise BadRequest(431 if self._in_head else 400, f"the head of a request may have {MAX_HEAD} bytes")
        if len(self.ready) > MAX_PIPELINED:
            raise BadRequest(400, "too many requests were sent before the first was answered")

    # -- called by httptools

    def on_message_begin(self) -> None:
        self._request = Request()
        self._in_head = True

    def on_url(self, piece: bytes) -> None:
        assert self._request is not None
        self._request.target += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        assert self._request is not None
        if self._in_head:  # what comes behind a body is nobody's
            self._request.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        request = self._request
        assert request is not None
        request.method = self._parser.get_method().decode("ascii")
        request.version = self._parser.get_http_version()
        request.keep_alive = self._parser.should_keep_alive()
        self._in_head = False
        self._passed_mark = True
        self.ready.append(request)

    def on_body(self, piece: bytes) -> None:
        assert self._request is not None
        self._piece_bytes += len(piece)
        self._request.pieces.append(piece)

    def on_message_complete(self) -> None:
        assert self._request is not None
        self._request.complete = True
        self._request = None
        self._passed_mark = True
