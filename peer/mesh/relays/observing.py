"""Asks a relay where a connection of this device comes from, as the internet sees it: one GET over that connection."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import h11
import trio

from peer.mesh.relays import websocket
from peer.mesh.relays.websocket import Route
from peer.protocol.errors import NO_FIX, Invalid, Unavailable
from peer.protocol.punching import ADDRESS_PATH, MAX_SEEN, Endpoint, parse_seen
from sandbox.network import dialing

Connect = Callable[[str, int], Awaitable[trio.SocketStream]]
"""(IP address, port) → a connection; OSError where there is none."""

_MAX_HEAD: Final = 8 * 1024


@dataclass(frozen=True, slots=True)
class Seen:
    """Where a relay sees `connection` come from. NATs keep that mapping for as long as it is open."""

    endpoint: Endpoint
    connection: trio.abc.Stream


async def ask(origin: str, version: int, connect: Connect, *, route: Route, chosen: bool) -> Seen:
    """Connect to a relay by IP `version` 4 or 6, and ask. Whoever gets the answer closes the connection.

    Raises Unavailable, also where the way there leads through an HTTP proxy, whose address it would be; and for a relay
    that does not know it: one behind a proxy, or an older one.
    """
    parts = urlsplit(origin)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    why = Unavailable(f"relay {origin} does not report this device's address", fix=NO_FIX)
    if route.proxy(host, port):
        raise why
    try:
        found = await websocket.permitted(
            await dialing.resolve(host, port), chosen=chosen, loopback_alone=route.loopback_alone
        )
        address = next((each for each in found if (":" in each) == (version == 6)), None)
        if address is None:
            raise why
        stream: trio.abc.Stream = await connect(address, port)
        try:
            if parts.scheme == "https":
                trusted = await trio.to_thread.run_sync(route.trusted)
                stream = trio.SSLStream(stream, trusted, server_hostname=host, https_compatible=True)
            return Seen(parse_seen(await _get(stream, parts.netloc)), stream)
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
    except (OSError, ssl.SSLError, UnicodeError, trio.BrokenResourceError, h11.ProtocolError, Invalid) as error:
        raise why from error


async def _get(stream: trio.abc.Stream, host: str) -> bytes:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
    # The relay closes after its answer; this end stays open.
    headers = [("Host", host), ("Connection", "close")]
    request = h11.Request(method=b"GET", target=ADDRESS_PATH, headers=headers)
    await stream.send_all(b"".join(connection.send(part) or b"" for part in (request, h11.EndOfMessage())))
    body = b""
    while True:
        match connection.next_event():
            case h11.NEED_DATA:
                connection.receive_data(await stream.receive_some(4096))
            case h11.Response(status_code=200):
                pass
            case h11.Data(data=data) if len(body) + len(data) <= MAX_SEEN:
                body += bytes(data)
            case h11.EndOfMessage():
                return body
            case _:
                raise Invalid("that is not a relay's answer", fix=NO_FIX)
