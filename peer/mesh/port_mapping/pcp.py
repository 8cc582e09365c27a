"""Asking the gateway for a mapping by PCP, and by NAT-PMP where it knows no PCP."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Final

import trio

from peer.mesh.port_mapping import datagrams
from peer.mesh.port_mapping.datagrams import Granted, NatPmpAlone
from peer.protocol.errors import NO_FIX, Unavailable

TRIES: Final = (0.25, 0.5, 1.0, 2.0)
"""Seconds to wait for an answer, each time the request is sent. RFC 6886 goes on to 64 s: a router that maps ports is
one hop away, and is asked again later."""
ANSWERS: Final = 16
"""Datagrams that are looked at for each request."""


async def map_by_datagram(
    gateway: IPv4Address, own: IPv4Address, *, nonce: bytes, internal: int, suggested: int, seconds: int
) -> Granted:
    """Map a port, or renew that, or with `seconds` 0 end it. Raises Unavailable without an answer, Invalid if refused.

    `nonce`: the same for each request about one mapping, and known to nobody else.
    """
    suggested = suggested if seconds else 0  # RFC 6887, 15; RFC 6886, 3.4
    try:
        return await _exchange(
            gateway,
            datagrams.pcp_map(nonce, own=own, internal=internal, suggested=suggested, seconds=seconds),
            lambda raw: datagrams.read_pcp(raw, nonce=nonce, internal=internal),
        )
    except NatPmpAlone:
        return await _exchange(
            gateway,
            datagrams.nat_pmp_map(internal=internal, suggested=suggested, seconds=seconds),
            lambda raw: datagrams.read_nat_pmp(raw, internal=internal),
        )


async def _exchange(gateway: IPv4Address, request: bytes, read: Callable[[bytes], Granted | None]) -> Granted:
    # Connected, so that the kernel passes on what comes from that address and port alone.
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as asking:
        try:
            await asking.connect((str(gateway), datagrams.PORT))
            for wait in TRIES:
                with trio.move_on_after(wait):
                    await asking.send(request)
                    for _ in range(ANSWERS):
                        if (found := read(await asking.recv(datagrams.MAX_BYTES + 1))) is not None:
                            return found
                    break
        except OSError as error:  # nothing listens there
            raise Unavailable("the router does not support PCP", fix=NO_FIX) from error
    raise Unavailable("the router does not answer", fix=NO_FIX)
