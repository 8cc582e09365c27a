"""One mapping at the gateway: made by whichever way the gateway knows, renewed and ended by the same."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from peer.mesh.port_mapping.gateway import find_gateway, own_address
from peer.mesh.port_mapping.igd import Service
from peer.mesh.port_mapping.pcp import map_by_datagram
from peer.mesh.port_mapping.upnp import map_at, map_by_upnp, unmap_at
from peer.protocol.errors import NO_FIX, DispatchError, Invalid, Unavailable

LEASE: Final = 2 * 3600
"""Seconds. What is not ended, after a crash, ends with its lease."""
SHORTEST: Final = 120
"""Seconds of a lease that are taken for granted; a gateway that grants less is still asked no more often."""


@dataclass(frozen=True, slots=True)
class Surrounding:
    """The gateway, and this machine's address towards it."""

    gateway: IPv4Address
    own: IPv4Address


@dataclass(frozen=True, slots=True)
class Mapping:
    """The gateway's port `external` leads to `internal` here, for so many seconds. `service`: None if by datagrams."""

    around: Surrounding
    internal: int
    external: int
    seconds: int
    service: Service | None = None


def look_around() -> Surrounding | None:
    """Return what a port would be mapped at now; None where no gateway is known."""
    gateway = find_gateway()
    own = None if gateway is None else own_address(gateway)
    if gateway is None or own is None or gateway == own or gateway.is_multicast or gateway.is_unspecified:
        return None
    return Surrounding(gateway, own)


async def add(around: Surrounding, internal: int, *, nonce: bytes, known: Mapping | None) -> Mapping:
    """Map a port, or renew the mapping that is `known`. Raises Unavailable, Invalid.

    `nonce`: 12 random bytes, the same for all mappings of a run of this program.
    """
    if known is not None and (known.around != around or known.internal != internal):
        known = None
    suggested = internal if known is None else known.external
    if known is not None and known.service is not None:
        try:
            external = await map_at(
                known.service, around.gateway, around.own, internal=internal, suggested=suggested, seconds=LEASE
            )
            return Mapping(around, internal, external, LEASE, known.service)
        except DispatchError:
            pass  # it was started anew, and has its services elsewhere
    try:
        granted = await map_by_datagram(
            around.gateway, around.own, nonce=nonce, internal=internal, suggested=suggested, seconds=LEASE
        )
        if not 0 < granted.external < 1 << 16 or not granted.seconds:
            raise Invalid("the router refused to map a port", fix=NO_FIX)
        return Mapping(around, internal, granted.external, max(SHORTEST, min(granted.seconds, LEASE)))
    except DispatchError as refused:
        try:
            service, external = await map_by_upnp(
                around.gateway, around.own, internal=internal, suggested=suggested, seconds=LEASE
            )
        except Unavailable:
            if isinstance(refused, Invalid):
                raise refused from None  # it is there, and says no
            raise
    return Mapping(around, internal, external, LEASE, service)


async def remove(mapping: Mapping, *, nonce: bytes) -> None:
    """End a mapping. Raises Unavailable, Invalid."""
    around = mapping.around
    if mapping.service is not None:
        await unmap_at(mapping.service, around.gateway, mapping.external)
    else:
        await map_by_datagram(
            around.gateway, around.own, nonce=nonce, internal=mapping.internal, suggested=0, seconds=0
        )
