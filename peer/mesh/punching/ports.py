"""A local port from which several TCP connections go out: to a relay, which sees where they come from, and to a peer.

A NAT whose mapping does not depend on where a connection goes (RFC 5382, REQ-1) gives all of them one address and port.
Nothing listens at such a port: what comes in from elsewhere is refused by the kernel.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import trio

ANYWHERE: Final = {4: "192.0.2.1", 6: "2001:db8::1"}
"""Addresses that nobody has, which go where all the internet does."""


def source(version: int) -> IPv4Address | IPv6Address:
    """Return this machine's address on the way to the internet, by IP 4 or 6. Sends nothing; raises OSError."""
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((ANYWHERE[version], 9))
        return ip_address(probe.getsockname()[0])


class LocalPort:
    """A free port at one address of this machine, this one's until `close`. Raises OSError where there is none."""

    def __init__(self, address: IPv4Address | IPv6Address) -> None:
        self._address = address
        self._held = _bound(address, 0)
        self.number: int = self._held.getsockname()[1]

    async def connect(self, address: str, port: int) -> trio.SocketStream:
        """Connect from this port. Raises OSError."""
        outgoing = trio.socket.from_stdlib_socket(_bound(self._address, self.number))
        try:
            await outgoing.connect((address, port))
            return trio.SocketStream(outgoing)
        except BaseException:
            outgoing.close()
            raise

    def close(self) -> None:
        """Let the port go; connections from it stay."""
        self._held.close()


def _bound(address: IPv4Address | IPv6Address, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setblocking(False)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # BSDs share a port by this one
        bound.bind((str(address), port))
    except BaseException:
        bound.close()
        raise
    return bound
