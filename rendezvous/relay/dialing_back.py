"""Dialling a device back, so that it learns whether a port of its is reached from outside.

A device says the port and nothing else: neither the address, which is the one that its connection comes from, nor what
is sent there. Any port may be asked for: people map 443, and what is sent is a line and random bytes, which the device
could send to its own address just as well.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Final
from urllib.parse import urlsplit

import trio

from peer.protocol.relays.addresses import is_loopback

_READ_AT_MOST: Final = 4096
"""Bytes until the other end closes; a device's mesh greets with twenty."""
_NAT64: Final = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))


def plain(address: str) -> str:
    """Return a connection's address in its own family, as IPv4 that came to a socket for both; "" for what is none."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    return str(parsed if isinstance(parsed, ipaddress.IPv4Address) else parsed.ipv4_mapped or parsed)


def may_dial_back(address: str, origin: str) -> bool:
    """Whether a plain address may be dialled: one of the internet's; this machine's where the relay is for it alone.

    Behind a proxy that was not named all connections seem to come from that proxy, which may be any machine here.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and (
        parsed.ipv4_mapped or parsed.sixtofour or parsed.teredo or any(parsed in network for network in _NAT64)
    ):
        return False  # it stands for another one
    if parsed.is_loopback:
        return is_loopback(urlsplit(origin).hostname or "")
    return parsed.is_global and not parsed.is_multicast


async def dial_back(address: str, port: int, sent: bytes, *, within: float) -> None:
    """Connect, send these bytes, and wait until the other end closes, all in so many seconds. A failure is an end."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with trio.move_on_after(within), trio.socket.socket(family, socket.SOCK_STREAM) as dialled:
        try:
            await dialled.connect((address, port))
            stream = trio.SocketStream(dialled)
            await stream.send_all(sent)
            received = 0
            while received < _READ_AT_MOST and (data := await stream.receive_some(_READ_AT_MOST)):
                received += len(data)
        except (OSError, trio.BrokenResourceError):
            pass
