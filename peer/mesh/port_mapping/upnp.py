"""Asking the gateway for a mapping by UPnP: the search on the link, then HTTP with the gateway's address alone."""

from __future__ import annotations

import secrets
from ipaddress import IPv4Address
from typing import Final

import h11
import trio

from peer.mesh.port_mapping import igd
from peer.mesh.port_mapping.igd import CONFLICT, Location, Refused, Service
from peer.protocol.errors import NO_FIX, DispatchError, Unavailable

SEARCH_SECONDS: Final = 3.0
"""MX is one; a second search goes out after one more, since datagrams get lost."""
SEARCH_PAUSE: Final = 1.0
ANSWERS: Final = 64
"""Datagrams that are looked at: everybody on the link may answer."""
SERVICES: Final = 4
"""Services of a description that are called."""
EXCHANGE_SECONDS: Final = 5.0
MAX_BODY: Final = 128 * 1024
"""Bytes of a description or an answer; those of routers have a few thousand."""
PORTS_TRIED: Final = 3
"""External ports, where those before are mapped to somebody else."""


async def map_by_upnp(
    gateway: IPv4Address, own: IPv4Address, *, internal: int, suggested: int, seconds: int
) -> tuple[Service, int]:
    """Map a port; return the service that did it, and the external port. Raises Unavailable, Invalid.

    A router that maps for ever only is refused: after a crash nobody would close that port.
    """
    at = await _search(gateway, own)
    if at is None:
        raise Unavailable("no router answers UPnP", fix=NO_FIX)
    status, description = await _exchange(gateway, at, b"GET", [], b"")
    why: DispatchError = Unavailable("the router has no service that maps ports", fix=NO_FIX)
    for service in igd.services(description, at, gateway)[:SERVICES] if status == 200 else []:
        try:
            return service, await map_at(service, gateway, own, internal=internal, suggested=suggested, seconds=seconds)
        except DispatchError as error:
            why = error
    raise why


async def map_at(
    service: Service, gateway: IPv4Address, own: IPv4Address, *, internal: int, suggested: int, seconds: int
) -> int:
    """Map a port, or renew that, at a service that is known; return the external port. Raises Unavailable, Invalid."""
    external = suggested
    for left in reversed(range(PORTS_TRIED)):
        try:
            call = igd.add_mapping(internal=internal, external=external, own=own, seconds=seconds)
            await _call(service, gateway, *call)
        except Refused as error:
            if error.error != CONFLICT or not left:
                raise
            external = 49152 + secrets.randbelow(65536 - 49152)
        else:
            return external
    raise AssertionError


async def unmap_at(service: Service, gateway: IPv4Address, external: int) -> None:
    """End a mapping. Raises Unavailable, Invalid."""
    await _call(service, gateway, *igd.delete_mapping(external))


async def _search(gateway: IPv4Address, own: IPv4Address) -> Location | None:
    """Ask the link, and the gateway itself, where the gateway describes itself. What others answer is dropped."""
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as asking:
        # To the link of that address, and no further.
        asking.setsockopt(trio.socket.IPPROTO_IP, trio.socket.IP_MULTICAST_IF, own.packed)
        asking.setsockopt(trio.socket.IPPROTO_IP, trio.socket.IP_MULTICAST_TTL, 1)
        found: Location | None = None
        with trio.move_on_after(SEARCH_SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_send_searches, asking, gateway)
                for _ in range(ANSWERS):
                    raw, sender = await asking.recvfrom(2048)
                    if sender[0] == str(gateway) and (found := igd.found_location(raw, gateway)) is not None:
                        break
                nursery.cancel_scope.cancel()
    return found


async def _send_searches(asking: trio.socket.SocketType, gateway: IPv4Address) -> None:
    while True:
        for datagram in igd.searches():
            for place in (igd.SEARCH, (str(gateway), igd.SEARCH[1])):
                try:
                    await asking.sendto(datagram, place)
                except OSError:
                    continue  # this link has no multicast, or nothing listens there
        await trio.sleep(SEARCH_PAUSE)


async def _call(service: Service, gateway: IPv4Address, name: str, arguments: list[tuple[str, str]]) -> None:
    headers = [("Content-Type", 'text/xml; charset="utf-8"'), ("SOAPAction", f'"{service.kind}#{name}"')]
    status, body = await _exchange(
        gateway, service.control, b"POST", headers, igd.envelope(service.kind, name, arguments)
    )
    igd.check_answer(status, body, name)


async def _exchange(
    gateway: IPv4Address, at: Location, method: bytes, headers: list[tuple[str, str]], body: bytes
) -> tuple[int, bytes]:
    """Make one HTTP request to the gateway; return status and body. No redirect is followed. Raises Unavailable."""
    why = Unavailable("the router's HTTP response is malformed", fix=NO_FIX)
    try:
        with trio.fail_after(EXCHANGE_SECONDS):
            async with await trio.open_tcp_stream(str(gateway), at.port) as stream:
                connection = h11.Connection(h11.CLIENT)
                request = h11.Request(
                    method=method,
                    target=at.target,
                    headers=[
                        ("Host", f"{gateway}:{at.port}"),
                        ("Connection", "close"),
                        ("Content-Length", str(len(body))),
                        *headers,
                    ],
                )
                parts = (request, *((h11.Data(body),) if body else ()), h11.EndOfMessage())
                await stream.send_all(b"".join(connection.send(part) or b"" for part in parts))
                return await _response(connection, stream)
    except (OSError, trio.BrokenResourceError, trio.TooSlowError, h11.ProtocolError) as error:
        raise why from error


async def _response(connection: h11.Connection, stream: trio.SocketStream) -> tuple[int, bytes]:
    status, body = 0, b""
    while True:
        match connection.next_event():
            case h11.NEED_DATA:
                connection.receive_data(await stream.receive_some(16 * 1024))
            case h11.Response() as response:
                status = response.status_code
            case h11.Data(data=data):
                body += bytes(data)
                if len(body) > MAX_BODY:
                    raise Unavailable("the router's answer did not end", fix=NO_FIX)
            case h11.EndOfMessage():
                return status, body
            case h11.InformationalResponse():
                pass
            case _:
                raise Unavailable("the router's HTTP response is malformed", fix=NO_FIX)
