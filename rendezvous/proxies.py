"""Who a request comes from where proxies are in front: X-Forwarded-For as far as the operator's proxies wrote it. Pure.

A client can send any X-Forwarded-For itself, and a proxy may append to its last line or add a line of its own. So all
lines are one list (RFC 9110 section 5.3), read from its end for as long as the writer of an entry is trusted.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from peer.protocol.errors import Invalid

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
MAX_ENTRIES = 32
"""Entries that are looked at, from the end; nobody has so many proxies in a row."""


def proxy_networks(named: Iterable[str]) -> tuple[Network, ...]:
    """Return the networks of the operator's proxies: addresses, or networks like 10.0.0.0/8. Raises Invalid."""
    networks = []
    for text in named:
        try:
            network = ipaddress.ip_network(text.strip())
        except ValueError as error:
            raise Invalid(
                f"{text!r} is not the address of a proxy",
                fix="write it like --behind-proxy 192.0.2.1, or 192.0.2.0/24",
            ) from error
        if network.prefixlen == 0:
            raise Invalid(
                f"--behind-proxy {text} would trust X-Forwarded-For from everybody",
                fix="give only the addresses of your proxies",
            )
        networks.append(network)
    return tuple(networks)


def is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    """Whether an address is a proxy of the operator."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in trusted)


def client_address(peer: str, lines: Iterable[str], trusted: Sequence[Network]) -> str:
    """Return where a request comes from: the connection's `peer`, or what trusted proxies wrote about it.

    `lines` are the values of all X-Forwarded-For lines, in order. An entry that is no address ends the list: the proxy
    that passed it on counts as the client.
    """
    client = peer
    if not trusted:
        return client
    for entry in reversed(",".join(lines).split(",")[-MAX_ENTRIES:]):
        if not is_trusted(client, trusted):
            break
        try:
            client = str(ipaddress.ip_address(entry.strip()))
        except ValueError:
            break
    return client
