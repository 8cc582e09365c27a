"""Which IP addresses that another device announced may be dialled from this machine. Dials nothing: dialing.py.

Whoever is a contact could otherwise have this machine connect to ports of itself, of its neighbours on the link and of
networks behind it, and read from the time that takes what is there.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import psutil
from multiaddr import Multiaddr

from sandbox.network.addresses import is_public, unwrapped

_SHARED = IPv4Network("100.64.0.0/10")
"""RFC 6598, which overlay networks use: there an interface has a single address, and reaches the whole range."""


@dataclass(frozen=True)
class Surroundings:
    """This machine's addresses, the networks that its interfaces are on, and whether it serves itself alone."""

    own: frozenset[IPv4Address | IPv6Address]
    networks: tuple[IPv4Network | IPv6Network, ...]
    loopback_alone: bool
    """This node listens on loopback addresses and nowhere else, as in a demo: then its contacts are here too."""

    def may_dial(self, ip: str) -> bool:
        """Return whether to dial an address from elsewhere: a public one, or one on a network of this machine."""
        try:
            address = unwrapped(ipaddress.ip_address(ip))
        except ValueError:
            return False
        if address.is_loopback or address in self.own:
            return self.loopback_alone
        if address.is_unspecified or address.is_multicast or address.is_link_local or address.is_reserved:
            return False
        return is_public(address) or any(address in network for network in self.networks)


def surroundings(listen: Iterable[Multiaddr]) -> Surroundings:
    """Look at this machine's interfaces now; they change while a node runs."""
    own: set[IPv4Address | IPv6Address] = set()
    networks: list[IPv4Network | IPv6Network] = []
    for addresses in psutil.net_if_addrs().values():
        for each in addresses:
            try:
                address = ipaddress.ip_address(each.address.partition("%")[0])
            except ValueError:
                continue  # a hardware address
            own.add(address)
            if isinstance(address, IPv4Address) and address in _SHARED:
                networks.append(_SHARED)
            elif each.netmask and not (address.is_loopback or address.is_link_local):
                networks.append(ipaddress.ip_network((address, _prefix(each.netmask)), strict=False))
    return Surroundings(frozenset(own), tuple(networks), all(_is_loopback(address) for address in listen))


def loopback_alone(listen: Iterable[str]) -> bool:
    """Return whether a node that listens on these multiaddrs serves this machine alone."""
    return all(_is_loopback(Multiaddr(address)) for address in listen)


def _prefix(netmask: str) -> int:
    # psutil gives ffff:ffff:: for IPv6, which ipaddress takes for IPv4 alone.
    return int(ipaddress.ip_address(netmask)).bit_count()


def _is_loopback(address: Multiaddr) -> bool:
    names = [protocol.name for protocol in address.protocols()]
    family = next((name for name in ("ip4", "ip6") if name in names), None)
    return family is not None and ipaddress.ip_address(address.value_for_protocol(family)).is_loopback
