"""The server name in a TLS ClientHello (RFC 8446, 4.1.2; RFC 6066, 3), read before anything is passed on.

Strict on purpose: what a server could read otherwise than this does is no ClientHello here. One that hides its real
name (Encrypted Client Hello, draft-ietf-tls-esni) is refused, also where that is only pretended. Pure.
"""

from __future__ import annotations

from typing import Final

MOST_BYTES: Final = 16 * 1024
"""Of one ClientHello with its record headers. Those with post-quantum key shares have about 2,000; all of it is read
again with each piece that comes.
"""

_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
_HOST_NAME: Final = 0
_ENCRYPTED: Final = frozenset({0xFE0D, 0xFFCE})
"""Encrypted Client Hello, and the ESNI that came before it."""
_RECORD_HEADER: Final = 5
_MOST_IN_RECORD: Final = 16_384


class NotAClientHello(Exception):
    """The message says why, for the person who reads the trace."""


def server_name(data: bytes) -> str | None:
    """Return the name that the client wants, in lower case; None while `data`, its first bytes, is too short to tell.

    Raises NotAClientHello for anything else, a ClientHello without a name among it.
    """
    hello = _handshake(data)
    if hello is None:
        if len(data) >= MOST_BYTES:
            raise NotAClientHello("its ClientHello is too long")
        return None
    return _name(_Reader(hello))


def _handshake(data: bytes) -> bytes | None:
    """The ClientHello message out of its records, without its header; None while some of it is missing."""
    message = b""
    at = 0
    while True:
        header = data[at : at + _RECORD_HEADER]
        # Told by its first bytes: what is not TLS need not send five.
        if any(byte not in allowed for byte, allowed in zip(header, ((_HANDSHAKE,), (3,), range(5)), strict=False)):
            raise NotAClientHello("it does not begin with TLS")
        if len(header) < _RECORD_HEADER:
            return None
        size = int.from_bytes(header[3:])
        if not 0 < size <= _MOST_IN_RECORD:
            raise NotAClientHello("its first TLS record has an impossible length")
        fragment = data[at + _RECORD_HEADER : at + _RECORD_HEADER + size]
        message += fragment
        if message[0:1] not in (b"", bytes([_CLIENT_HELLO])):
            raise NotAClientHello("its first TLS message is not a ClientHello")
        if len(message) >= 4:
            length = int.from_bytes(message[1:4])
            if length > MOST_BYTES:
                raise NotAClientHello("its ClientHello is too long")
            if len(message) > 4 + length:
                raise NotAClientHello("something follows its ClientHello")
            if len(message) == 4 + length:
                return message[4:]
        if len(fragment) < size:
            return None
        at += _RECORD_HEADER + size


class _Reader:
    """Reads values in turn from bytes that are all there."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        if len(taken) != size:
            raise NotAClientHello("its ClientHello is broken")
        self._at += size
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def vector(self, size_bytes: int, least: int = 0) -> _Reader:
        """A part with its length before it, in `size_bytes` bytes."""
        size = self.number(size_bytes)
        if size < least:
            raise NotAClientHello("its ClientHello is broken")
        return _Reader(self.take(size))

    @property
    def left(self) -> int:
        return len(self._data) - self._at


def _name(hello: _Reader) -> str:
    hello.take(2 + 32)  # version, random
    if hello.vector(1).left > 32:  # the session's id
        raise NotAClientHello("its ClientHello is broken")
    if hello.vector(2, 2).left % 2:  # cipher suites
        raise NotAClientHello("its ClientHello is broken")
    hello.vector(1, 1)  # compression methods
    extensions = hello.vector(2) if hello.left else _Reader(b"")
    if hello.left:
        raise NotAClientHello("its ClientHello is broken")
    seen: set[int] = set()
    name = ""
    while extensions.left:
        kind = extensions.number(2)
        content = extensions.vector(2)
        if kind in seen:
            raise NotAClientHello("its ClientHello has the same extension twice")
        seen.add(kind)
        if kind in _ENCRYPTED:
            raise NotAClientHello("it hides the name of its server (Encrypted Client Hello)")
        if kind == _SERVER_NAME:
            name = _host(content)
    if not name:
        raise NotAClientHello("its ClientHello names no server")
    return name


def _host(content: _Reader) -> str:
    names = content.vector(2, 1)
    if names.number(1) != _HOST_NAME:
        raise NotAClientHello("its ClientHello names no host")
    host = names.vector(2, 1)
    if names.left or content.left:
        raise NotAClientHello("its ClientHello names more than one server")
    text = host.take(host.left)
    try:
        return text.decode("ascii").lower()
    except UnicodeDecodeError:
        raise NotAClientHello("its ClientHello names no host") from None
