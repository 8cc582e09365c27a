"""The addresses that a host listens on: which this machine can have, and whether another program has them already."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Sequence

from multiaddr import Multiaddr

from peer.protocol.errors import Conflict, Unavailable


def possible(wanted: Sequence[Multiaddr]) -> list[Multiaddr]:
    """Return `wanted` without the wildcards of a family (IPv4, IPv6) that this machine lacks; all if none is left.

    By default a node listens on the wildcards of both. An address that somebody chose is never left out.
    """
    left = [address for address in wanted if not is_wildcard(address) or _has(_family(_ip(address)))]
    return left or list(wanted)


def is_wildcard(address: Multiaddr) -> bool:
    """Return whether an address stands for all of this machine's addresses of its family."""
    return ipaddress.ip_address(_ip(address)).is_unspecified


def is_for_others(address: Multiaddr) -> bool:
    """Return whether other machines reach this IPv4 address, as far as itself says."""
    ip = ipaddress.ip_address(_ip(address))
    return ip.version == 4 and not ip.is_loopback


def refuse_taken(address: Multiaddr) -> None:
    """Raise Conflict if another program listens on this address and port.

    libp2p listens with SO_REUSEPORT (hole punching dials from the listening port), so a second daemon would get half
    of the first one's connections without either noticing. A bind without that option shows it.
    """
    port = int(address.value_for_protocol("tcp"))
    if port == 0:
        return
    ip = _ip(address)
    with socket.socket(_family(ip)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ip, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise Unavailable(
                    f"cannot listen on {address}: {error.strerror}", fix="choose another `listen` in config.json"
                ) from error
            raise Conflict(
                f"port {port} is taken by another program", fix="choose another `listen` in config.json"
            ) from error


def _has(family: socket.AddressFamily) -> bool:
    """Return whether this machine has a family. A kernel can be without IPv6, or started without it."""
    try:
        with socket.socket(family) as probe:
            probe.bind(("", 0))
    except OSError:
        return False
    return True


def _ip(address: Multiaddr) -> str:
    names = {protocol.name for protocol in address.protocols()}
    return str(address.value_for_protocol("ip6" if "ip6" in names else "ip4"))


def _family(ip: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in ip else socket.AF_INET
