"""Which IP addresses are public, whatever form they are written in. Pure but for looking at this machine's own."""

from __future__ import annotations

import ipaddress
import re
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Final

import psutil

_NAT64 = IPv6Network("64:ff9b::/96")
_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")
"""RFC 8215: for translation inside a network, whose IPv4 addresses can be anywhere in it."""
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_DOCUMENTS: Final = IPv6Network("3fff::/20")
"""RFC 9637."""
_ISATAP: Final = 0x5EFE
"""RFC 5214, 6.1: before an IPv4 address, with a bit that may be set."""

NOT_PUBLIC: Final = frozenset({"localhost", "local", "internal", "arpa", "onion", "home", "lan", "invalid", "test"})
"""Last labels of names that no public address has (RFC 6761, RFC 6762, RFC 7686, and what networks at home use)."""
_NAME: Final = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+([a-z](?:[a-z0-9-]{0,61}[a-z0-9])?)", re.I)


def is_name_of_the_internet(host: str) -> bool:
    """Whether a host is named as those of the internet are: no address in any notation, no name of a network's own."""
    match = _NAME.fullmatch(host)
    return match is not None and len(host) <= 253 and match[1].lower() not in NOT_PUBLIC


def unwrapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 address stands for, else the address."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64 or (int(address) >> 32 == 0 and int(address) > 1):  # RFC 4291's IPv4-compatible addresses
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is one of the internet's. An IPv6 address that stands for an IPv4 one: see `unwrapped`."""
    if isinstance(address, IPv6Address) and (address not in _GLOBAL_UNICAST or address in _DOCUMENTS):
        return False  # for the library what nobody was given is public
    return address.is_global and not address.is_multicast


def stands_for_another(address: IPv4Address | IPv6Address) -> bool:
    """Whether an IPv6 address stands for an IPv4 one: mapped, translated, 6to4, Teredo or ISATAP."""
    if isinstance(address, IPv4Address):
        return False
    isatap = int(address) >> 32 & 0xFDFF_FFFF == _ISATAP
    return unwrapped(address) != address or address.teredo is not None or address in _LOCAL_NAT64 or isatap


def own_addresses() -> frozenset[IPv4Address | IPv6Address]:
    """This machine's addresses now."""
    found: set[IPv4Address | IPv6Address] = set()
    for addresses in psutil.net_if_addrs().values():
        for each in addresses:
            try:
                found.add(ipaddress.ip_address(each.address.partition("%")[0]))
            except ValueError:
                continue  # a hardware address
    return frozenset(found)
