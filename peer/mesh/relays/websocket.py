"""Opens a WebSocket to a relay: its name resolved and checked, through the HTTP proxy where there is one, TLS, bounded.

A relay's origin may come from a contact, who could have this machine connect to its neighbours; so only public
addresses are dialled, unless this machine's person chose the relay or the node serves this machine alone.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import httpx
import trio
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection, wrap_client_stream

from peer.protocol.errors import NO_FIX, Unavailable
from peer.protocol.relays import messages
from peer.protocol.relays.masking import mask_in_c
from sandbox.network import dialing
from sandbox.network.addresses import is_public, own_addresses

OPENED_WITHIN: Final = 15.0
"""Seconds from the look-up of the name to the end of the WebSocket's handshake."""
CLOSED_WITHIN: Final = 1.0
HURRIED: Final = 0.02
_RECEIVED_AT_ONCE: Final = 256 * 1024

mask_in_c()


@dataclass(frozen=True)
class Route:
    """This machine's way to relays. `proxy(host, port)`: the address of its HTTP proxy for that, "" for none.

    `trusted()`: the TLS context; it may take a moment, so it is called in a thread. `loopback_alone`: the node listens
    on loopback addresses and nowhere else, as in a demo: then relays are here too.
    """

    proxy: Callable[[str, int], str]
    trusted: Callable[[], ssl.SSLContext]
    loopback_alone: bool = False


async def open_websocket(
    nursery: trio.Nursery, origin: str, path: str, *, route: Route, chosen: bool, max_message: int
) -> WebSocketConnection:
    """Return an open WebSocket, whose reader is a task in `nursery`. Raises Unavailable.

    `chosen`: this machine's person named the relay, so it may be in a private network.
    """
    parts = urlsplit(origin)
    host = parts.hostname or ""
    try:
        with trio.fail_after(OPENED_WITHIN):
            stream = await _connect(origin, route, chosen=chosen)
            try:
                if parts.scheme == "https":
                    trusted = await trio.to_thread.run_sync(route.trusted)
                    tls = trio.SSLStream(stream, trusted, server_hostname=host, https_compatible=True)
                    await tls.do_handshake()
                    stream = tls
                websocket = await wrap_client_stream(
                    nursery,
                    stream,  # type: ignore[arg-type]  # typed for sockets, made for any stream
                    parts.netloc,
                    path,
                    subprotocols=[messages.SUBPROTOCOL],
                    max_message_size=max_message,
                    receive_buffer_size=_RECEIVED_AT_ONCE,
                )
                if websocket.closed or websocket.subprotocol != messages.SUBPROTOCOL:
                    raise Unavailable(f"{origin} is not a relay", fix="check its address")
            except BaseException:
                await trio.aclose_forcefully(stream)
                raise
            return websocket
    except (
        OSError,
        ssl.SSLError,
        trio.TooSlowError,
        trio.BrokenResourceError,
        HandshakeError,
        ConnectionClosed,
    ) as error:
        raise Unavailable(f"can't reach relay {origin}", fix=NO_FIX) from error


async def close(websocket: WebSocketConnection) -> None:
    """Close it: say so, and wait for the answer for a second; where this task is cancelled, so is its reader."""
    cancelled = trio.current_effective_deadline() <= trio.current_time()
    with (
        trio.CancelScope(shield=True),
        trio.move_on_after(HURRIED if cancelled else CLOSED_WITHIN),
        suppress(Exception),
    ):
        await websocket.aclose()


async def _connect(origin: str, route: Route, *, chosen: bool) -> trio.abc.Stream:
    parts = urlsplit(origin)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    if proxy := route.proxy(host, port):
        trusted = await trio.to_thread.run_sync(route.trusted)
        try:
            return await dialing.through(httpx.Proxy(proxy), host, port, trusted)
        except dialing.Unreachable as error:
            raise Unavailable(f"can't reach relay {origin}: {error}", fix=NO_FIX) from error
    addresses = await dialing.resolve(host, port)
    allowed = await permitted(addresses, chosen=chosen, loopback_alone=route.loopback_alone)
    if not allowed:
        raise Unavailable(f"relay {origin} has no public internet address", fix=NO_FIX)
    last: OSError | None = None
    for address in allowed[:4]:
        try:
            stream = await trio.open_tcp_stream(address, port)
        except OSError as error:
            last = error
            continue
        stream.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
        return stream
    assert last is not None
    raise last


async def permitted(addresses: Sequence[str], *, chosen: bool, loopback_alone: bool) -> list[str]:
    """Return those to dial. The address that is checked is the one that is dialled."""
    if chosen:
        return list(addresses)
    own = await trio.to_thread.run_sync(own_addresses)
    found = []
    for text in addresses:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:  # with a zone: link-local
            continue
        if (is_public(address) and address not in own) or (loopback_alone and address.is_loopback):
            found.append(text)
    return found
