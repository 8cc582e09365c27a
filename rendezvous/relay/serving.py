"""Serving a relay until it is stopped: accepting within bounds, what each one asks for, closing. Options: main.py."""

from __future__ import annotations

import ipaddress
import logging
import ssl
from collections.abc import Sequence
from functools import partial
from typing import Final

import structlog
import trio
from trio_websocket import WebSocketRequest, wrap_server_stream
from wsproto.utilities import ProtocolError

from peer.protocol.errors import Invalid, root_of
from peer.protocol.punching import ADDRESS_PATH, Endpoint, seen_text
from peer.protocol.relays.addresses import is_loopback
from peer.protocol.relays.masking import mask_in_c
from peer.protocol.relays.messages import CONTROL_PATH, MAX_MESSAGE, MAX_PIECE, SUBPROTOCOL
from rendezvous.connections import peer_and_port_of, peer_of
from rendezvous.proxies import client_address, is_trusted
from rendezvous.ratelimit import network_of
from rendezvous.relay.connection import STOPS, Connection
from rendezvous.relay.control import serve_control
from rendezvous.relay.dialing_back import plain
from rendezvous.relay.handshakes import Handshake
from rendezvous.relay.pipes import serve_pipe
from rendezvous.relay.relay import Relay
from rendezvous.relay.requests import Gone, Head, answer, read_head, refusal, websocket_path
from rendezvous.relay.streams import GuardedStream, TurnListener, TurnStream

RECEIVED_AT_ONCE: Final = 4 * 1024
DRAINED: Final = 64 * 1024
"""Bytes of a request that are read after the answer, so that closing does not throw the answer away."""
STOP_SECONDS: Final = 3

mask_in_c()

_log = structlog.get_logger("relay")


async def serve(
    relay: Relay,
    listeners: Sequence[trio.SocketListener],
    *,
    tls: ssl.SSLContext | None,
    started: trio.Event,
    stop: trio.Event,
) -> None:
    """Serve on `listeners` until `stop`, then tell all that are connected. Sets `started` when it accepts."""
    # Its own lines are about what clients send.
    logging.getLogger("trio-websocket").setLevel(logging.CRITICAL)
    in_turns = [TurnListener(listener, relay.turns) for listener in listeners]
    ready: list[trio.abc.Listener[trio.abc.Stream]] = [
        plain if tls is None else trio.SSLListener(plain, tls, https_compatible=True) for plain in in_turns
    ]

    async def serve_one(stream: trio.abc.Stream) -> None:
        await serve_stream(relay, stream)

    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            await accepting.start(partial(trio.serve_listeners, serve_one, ready, handler_nursery=connections))
            started.set()
            await stop.wait()
            accepting.cancel_scope.cancel()
        for connection in tuple(relay.connections):
            connection.end(STOPS, "the relay stops")
        connections.cancel_scope.deadline = trio.current_time() + STOP_SECONDS


async def serve_stream(relay: Relay, stream: trio.abc.Stream) -> None:
    """Serve one accepted connection, and close it. Whatever goes wrong in it concerns no other one."""
    socket = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    assert isinstance(socket, TurnStream)
    try:
        peer = peer_of(stream)
        with relay.open.place(peer) as free:
            if not free:
                relay.refused["connections"] += 1
                return
            proxied = is_trusted(peer, relay.proxies)
            scope = trio.CancelScope(deadline=trio.current_time() + relay.limits.handshake_seconds)
            handshake = Handshake("" if proxied else network_of(peer), partial(socket.place.end, scope.cancel))
            connection = Connection(scope, handshake, socket)
            relay.connections.add(connection)
            try:
                relay.handshakes.enter(handshake)
                await _serve(relay, connection, stream, peer)
            finally:
                relay.handshakes.leave(handshake)
                relay.connections.discard(connection)
    except* (trio.BrokenResourceError, trio.ClosedResourceError, ProtocolError, Gone):
        relay.refused["broken"] += 1
    except* Exception as raised:
        _log.error("connection.failed", exc_info=root_of(raised))
    finally:
        socket.place.free()
        await trio.aclose_forcefully(stream)


async def _serve(relay: Relay, connection: Connection, stream: trio.abc.Stream, peer: str) -> None:
    async with trio.open_nursery() as nursery:  # of what reads the socket, also while that is closed
        with connection.scope:
            try:
                head = await read_head(stream)
                client = connection.client = client_address(peer, _forwarded(head), relay.proxies)
                if head.path in (b"/health", b"/metrics"):
                    await _answer(stream, _report(relay, head, client))
                    return
                if head.path == ADDRESS_PATH.encode():
                    proxied = is_trusted(peer, relay.proxies)
                    await _answer(stream, answer(404, "behind a proxy\n") if proxied else _seen(head, stream))
                    return
                path = websocket_path(head)
            except Invalid as error:
                relay.refused["requests"] += 1
                await _answer(stream, refusal(error))
                return
            if client == peer:
                await _serve_socket(relay, connection, nursery, stream, head, path)
            else:
                with relay.open_through_proxies.place(client) as free:
                    if not free:
                        relay.refused["connections"] += 1
                        await _answer(stream, answer(429, "too many connections from your address\n"))
                        return
                    relay.handshakes.learn(connection.handshake, network_of(client))
                    await _serve_socket(relay, connection, nursery, stream, head, path)
        if connection.ending is None and connection.scope.cancelled_caught:
            connection.ending = connection.late
            relay.refused["late"] += 1
        if connection.socket is not None and connection.ending is not None:
            # What reads the socket fails where it wants to answer a ping now. The reason is sent all the same.
            with trio.CancelScope(deadline=trio.current_time() + relay.limits.close_seconds, shield=True):
                await connection.socket.aclose(*connection.ending)
        nursery.cancel_scope.cancel()


async def _serve_socket(
    relay: Relay, connection: Connection, nursery: trio.Nursery, stream: trio.abc.Stream, head: Head, path: str
) -> None:
    limits = relay.limits
    is_control = path == CONTROL_PATH
    guarded = connection.stream = GuardedStream(
        stream, head=head.raw, after=head.after, first=limits.first_frames, fragments=limits.fragments
    )
    request: WebSocketRequest = await wrap_server_stream(
        nursery,
        guarded,
        message_queue_size=1,
        max_message_size=MAX_MESSAGE if is_control else MAX_PIECE,
        receive_buffer_size=RECEIVED_AT_ONCE if is_control else MAX_PIECE,
    )
    # No extensions are accepted: to compress costs memory, and tells of secrets by lengths.
    connection.socket = await request.accept(subprotocol=SUBPROTOCOL)
    guarded.opened.set()
    await (serve_control if is_control else serve_pipe)(relay, connection)


def _forwarded(head: Head) -> list[str]:
    return [value.decode("latin-1") for value in head.all(b"x-forwarded-for")]


def _report(relay: Relay, head: Head, client: str) -> bytes:
    """Answer /health for everybody, and /metrics for this machine alone: the number of devices tells who is there."""
    if head.method != b"GET":
        return answer(405, "this path only takes GET\n")
    if head.path == b"/health":
        if relay.contacts_problem and not relay.admission.brokers and not relay.admission.secret:
            return answer(503, '{"status":"the list of contacts cannot be used"}', kind="application/json")
        return answer(200, '{"status":"ok"}', kind="application/json")
    if not is_loopback(client):
        return answer(403, "metrics are only served to the relay's own machine\n")
    return answer(200, relay.metrics(), kind="text/plain; version=0.0.4")


def _seen(head: Head, stream: trio.abc.Stream) -> bytes:
    """Say where a connection comes from: to whoever asks, since it is said to nobody else."""
    if head.method != b"GET":
        return answer(405, "this path only takes GET\n")
    address, port = peer_and_port_of(stream)
    try:
        seen = Endpoint(ipaddress.ip_address(plain(address)), port)
    except ValueError:
        raise Gone from None
    return answer(200, seen_text(seen), kind="application/json")


async def _answer(stream: trio.abc.Stream, response: bytes) -> None:
    await stream.send_all(response)
    if isinstance(stream, trio.abc.HalfCloseableStream):
        await stream.send_eof()
        drained = 0
        while drained < DRAINED and (data := await stream.receive_some(4096)):
            drained += len(data)
    else:
        await stream.aclose()
