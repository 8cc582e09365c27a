"""The local networks that this machine is on, loopback among them, and which addresses there count. Sends nothing."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from typing import Any, Final

import psutil

from sandbox.network.addresses import is_public

MAX_LINKS: Final = 16
"""Addresses that a machine announces itself from; one with many containers has hundreds of interfaces."""
_LINK_LOCAL: Final = IPv6Network("fe80::/10")
_LOOPBACK: Final = ("127.0.0.1", IPv4Network("127.0.0.1/32"))
"""Where people who share this machine find each other: no system lets packets of loopback in from outside."""


@dataclass(frozen=True, slots=True)
class Link:
    """One address of this machine on a local network; of IPv6 the link-local one. `index`: of its interface."""

    index: int
    address: str
    network: IPv4Network | IPv6Network

    @property
    def family(self) -> socket.AddressFamily:
        """AF_INET or AF_INET6."""
        return socket.AF_INET6 if self.network.version == 6 else socket.AF_INET

    @property
    def is_loopback(self) -> bool:
        """Whether this is loopback, where others are other nodes of this machine and have the same address."""
        return self.network == _LOOPBACK[1]

    def holds(self, ip: str) -> bool:
        """Return whether an address without a zone is another node's on this network, and not of the internet."""
        try:
            address = ipaddress.ip_address(ip)
        except ValueError:
            return False
        return address in self.network and not is_public(address) and (ip != self.address or self.is_loopback)

    def to(self, ip: str, port: int) -> tuple[Any, ...]:
        """Return an address of this network as sockets want it."""
        return (ip, port, 0, self.index) if self.network.version == 6 else (ip, port)


def here() -> tuple[Link, ...]:
    """Look at this machine's interfaces now; they change while a node runs."""
    indexes = {name: index for index, name in socket.if_nameindex()}
    addresses = {
        name: [(each.address, each.netmask) for each in every] for name, every in psutil.net_if_addrs().items()
    }
    flags = {name: stats.flags.split(",") for name, stats in psutil.net_if_stats().items()}
    return links(indexes, addresses, flags)


def links(
    indexes: Mapping[str, int],
    addresses: Mapping[str, Iterable[tuple[str, str | None]]],
    flags: Mapping[str, Iterable[str]],
) -> tuple[Link, ...]:
    """Return the links among interfaces: index, (address, netmask) and flags by name. Of each, one of either family.

    No tunnels, no addresses of the internet; at most MAX_LINKS. Loopback counts, also without the flag of multicast:
    Linux does not set it there, and sends multicast all the same.
    """
    found: dict[tuple[int, int], Link] = {}
    for name, index in sorted(indexes.items(), key=lambda item: item[1]):
        has = set(flags.get(name, ()))
        if {"up", "loopback"} <= has and any(address == _LOOPBACK[0] for address, _ in addresses.get(name, ())):
            found.setdefault((index, 4), Link(index, *_LOOPBACK))
        if not {"up", "multicast"} <= has or has & {"loopback", "pointopoint"}:
            continue
        for address, netmask in addresses.get(name, ()):
            link = _link(index, address, netmask)
            if link is not None:
                found.setdefault((index, link.network.version), link)
    return tuple(found.values())[:MAX_LINKS]


def _link(index: int, address: str, netmask: str | None) -> Link | None:
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
        mask = ipaddress.ip_address(netmask or "")
    except ValueError:
        return None  # a hardware address, or one of no network
    if ip.version == 6:
        return Link(index, str(ip), _LINK_LOCAL) if ip in _LINK_LOCAL else None
    if ip.is_loopback or ip.is_unspecified or is_public(ip):
        return None
    network: IPv4Interface | IPv6Interface = ipaddress.ip_interface(f"{ip}/{mask}")
    return Link(index, str(ip), network.network) if network.network.num_addresses > 1 else None
