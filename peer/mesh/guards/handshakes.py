"""Which inbound handshake gives way when too many are under way. Pure: what ends one is a callable.

Theory. An honest handshake takes some round trips, so whoever opens connections faster than that could push it out,
were the oldest the one to go. Instead the network with the most handshakes gives way, and in it those first that have
sent nothing. A contact's address is a network of its own, and has a few places before any stranger's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

IPV4_NETWORK, IPV6_NETWORK = 24, 48
"""Bits of a network: the least that is routed on the internet, which is about what one attacker has."""
EXPECTED_PLACES: Final = 8
"""Handshakes from the address of a contact that give way to no stranger's."""


@dataclass(eq=False)
class Handshake:
    """One inbound connection that has proven nothing yet."""

    network: str
    end: Callable[[], None]
    expected: bool = False
    """Whether a contact was seen or announced at its address."""
    heard: bool = False
    """Whether it has sent anything."""


def network_of(ip: str) -> str:
    """Return the network of an IP address as text; the text itself if it is none."""
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return ip
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    bits = IPV4_NETWORK if address.version == 4 else IPV6_NETWORK
    return str(ipaddress.ip_network((address, bits), strict=False))


@dataclass
class Handshakes:
    """The handshakes under way, at most `places`. `expects(ip)`: whether a contact was seen or announced there."""

    places: int
    expects: Callable[[str], bool]
    entered: int = 0
    """How many there have been."""
    _under_way: dict[str, dict[Handshake, None]] = field(default_factory=dict)
    """By network, each oldest first: strangers make many of them, so none is looked for among all."""
    _number: int = 0

    def __len__(self) -> int:
        return self._number

    def enter(self, ip: str, end: Callable[[], None]) -> Handshake:
        """Add a handshake. If that is one too many, `end` of the one that gives way is called, maybe this one's."""
        self.entered += 1
        expected = self.expects(ip)
        handshake = Handshake(ip if expected else network_of(ip), end, expected)
        self._under_way.setdefault(handshake.network, {})[handshake] = None
        self._number += 1
        if self._number > self.places:
            loser = self._loser()
            self.leave(loser)
            loser.end()
        return handshake

    def leave(self, handshake: Handshake) -> None:
        """Remove a handshake that is over. Idempotent."""
        of_network = self._under_way.get(handshake.network, {})
        if handshake in of_network:
            del of_network[handshake]
            self._number -= 1
            if not of_network:
                del self._under_way[handshake.network]

    def _loser(self) -> Handshake:
        most = max(map(_taken, self._under_way.values()))
        fullest = [handshakes for handshakes in self._under_way.values() if _taken(handshakes) == most]
        silent = (each for handshakes in fullest for each in handshakes if not each.heard)
        return next(silent, next(iter(fullest[0])))  # the oldest of its network


def _taken(of_network: dict[Handshake, None]) -> int:
    expected = next(iter(of_network)).expected
    return len(of_network) - (EXPECTED_PLACES if expected else 0)
