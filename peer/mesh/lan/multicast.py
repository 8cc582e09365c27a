"""The socket by which mDNS packets of one link go and come. What is in them: packets.py.

It has the port of mDNS together with whatever responder this machine has already, and is bound to the group's address
alone, so that it takes no packet that is meant for that one.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import Final, Protocol

import trio

from peer.mesh.lan.links import Link
from peer.mesh.lan.packets import GROUP_IPV4, GROUP_IPV6, MAX_PACKET, PORT

AT_ONCE: Final = 300
"""Packets of a link that are read in one second. A busy network has tens; a flood beyond it stays in the kernel's
buffer, which drops what is too much."""
_IP_MULTICAST_ALL: Final = 49
"""Linux: 0 for packets of this socket's own interface alone. Python has no name for it."""
_WITH_INTERFACE: Final = "4s4si"


class Air(Protocol):
    """One link's multicast."""

    async def send(self, packet: bytes) -> None:
        """Send a packet to everybody on the link. Raises OSError."""

    async def receive(self) -> tuple[bytes, str]:
        """Return a packet and the address that it came from, without a zone. Raises OSError."""

    def close(self) -> None:
        """Close it."""


class Multicast:
    """The real one. Raises OSError where this machine has no multicast there, or keeps the port to itself."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._second, self._read = 0, 0
        plain = socket.socket(link.family, socket.SOCK_DGRAM)
        try:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if hasattr(socket, "SO_REUSEPORT"):
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            (_join_ipv6 if link.family == socket.AF_INET6 else _join_ipv4)(plain, link)
            self._socket = trio.socket.from_stdlib_socket(plain)
        except BaseException:
            plain.close()
            raise

    async def send(self, packet: bytes) -> None:
        """Send a packet to everybody on the link, from the link's own address. Raises OSError."""
        if self._link.family == socket.AF_INET:
            await self._socket.sendto(packet, (GROUP_IPV4, PORT))
            return
        source = socket.inet_pton(socket.AF_INET6, self._link.address) + struct.pack("@I", self._link.index)
        ancillary = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, source)]
        await self._socket.sendmsg([packet], ancillary, 0, (GROUP_IPV6, PORT, 0, self._link.index))

    async def receive(self) -> tuple[bytes, str]:
        """Return the next packet from another node on this link, sent from the port of mDNS. Raises OSError.

        On loopback our own come too: there a socket hears itself.
        """
        while True:
            await self._breathe()
            packet, source = await self._socket.recvfrom(MAX_PACKET + 1)
            ip = source[0].partition("%")[0]
            if source[1] == PORT and self._link.holds(ip):
                return packet, ip

    async def _breathe(self) -> None:
        """Leave the rest of a second in which very much came."""
        if int(trio.current_time()) == self._second and self._read >= AT_ONCE:
            await trio.sleep_until(self._second + 1)
        if (second := int(trio.current_time())) != self._second:
            self._second, self._read = second, 0
        self._read += 1

    def close(self) -> None:
        """Leave the group."""
        self._socket.close()


def _join_ipv4(plain: socket.socket, link: Link) -> None:
    group, own = socket.inet_aton(GROUP_IPV4), socket.inet_aton(link.address)
    if sys.platform == "linux":
        plain.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        _bind_to_interface(plain, link)
    plain.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
    # macOS sends packets on loopback in no other way than by looping them. Linux sends them there either way, once.
    plain.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, int(link.is_loopback))
    sender = struct.pack(_WITH_INTERFACE, bytes(4), own, link.index)
    plain.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, sender)
    member = struct.pack(_WITH_INTERFACE, group, own, link.index)
    plain.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
    plain.bind((GROUP_IPV4, PORT))


def _bind_to_interface(plain: socket.socket, link: Link) -> None:
    """Have Linux give a socket what comes over its own interface, and nothing else.

    Membership of the group is not enough: where several sockets share a port (SO_REUSEPORT) and one is a member on the
    interface that a packet came over, Linux picks one of all of them by a hash (seen on 6.18). Every second machine
    would not be heard. On loopback it also keeps out what another interface lets in with a source of 127.0.0.1.
    Before Linux 5.7 this needs a privilege.
    """
    try:
        name = socket.if_indextoname(link.index).encode()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name)
    except PermissionError:
        if link.is_loopback:
            raise


def _join_ipv6(plain: socket.socket, link: Link) -> None:
    plain.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    plain.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    plain.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
    plain.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, link.index)
    member = socket.inet_pton(socket.AF_INET6, GROUP_IPV6) + struct.pack("@I", link.index)
    plain.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)
    plain.bind((GROUP_IPV6, PORT, 0, link.index))
