"""Which address this machine's router has, and which one this machine has towards it."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

ROUTES: Final = Path("/proc/net/route")
_MAX_ROUTES: Final = 1 << 20
"""Characters that are read of it."""
_UP, _VIA_GATEWAY = 0x1, 0x2


def default_gateway(routes: str) -> IPv4Address | None:
    """Return the gateway of the default route that counts, from the text of /proc/net/route.

    None where there is none, and where that route has no gateway: it goes into a tunnel, whose far end maps nothing.
    """
    best: tuple[int, IPv4Address | None] | None = None
    for line in routes.splitlines()[1:]:
        try:
            _, destination, gateway, flags, _, _, metric, mask = line.split()[:8]
            if int(destination, 16) or int(mask, 16) or not int(flags, 16) & _UP:
                continue
            # Written as the machine's own words, which are little-endian wherever this runs.
            address = IPv4Address(int(gateway, 16).to_bytes(4, "little")) if int(flags, 16) & _VIA_GATEWAY else None
            found = int(metric), address
        except (ValueError, OverflowError):
            continue
        if best is None or found[0] < best[0]:
            best = found
    return None if best is None else best[1]


def find_gateway() -> IPv4Address | None:
    """Return this machine's default gateway; None without one, and where no /proc says it."""
    try:
        with ROUTES.open() as file:
            return default_gateway(file.read(_MAX_ROUTES))
    except OSError:
        return None


def own_address(gateway: IPv4Address) -> IPv4Address | None:
    """Return the address that this machine has towards the gateway. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(gateway), 9))
            return IPv4Address(probe.getsockname()[0])
        except OSError:
            return None
