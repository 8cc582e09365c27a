"""The socket itself, on this machine's loopback: what it takes, and that a flood leaves time for everything else."""

from __future__ import annotations

import ipaddress
import socket
import struct

import pytest
import trio
from trio.testing import MockClock

from peer.mesh.lan import links, multicast, packets
from peer.mesh.lan.links import Link
from peer.mesh.lan.multicast import Multicast
from tests.conftest import HANG

LO = Link(socket.if_nametoindex("lo"), "127.0.0.1", ipaddress.ip_network("127.0.0.0/8"))


def sender(ip: str, port: int = packets.PORT) -> socket.socket:
    """Another machine of the link."""
    found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    where = struct.pack("4s4si", bytes(4), socket.inet_aton(ip), LO.index)
    found.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, where)
    found.bind((ip, port))
    return found


def multicast_on_lo() -> Multicast:
    try:
        return Multicast(LO)
    except OSError as error:
        pytest.skip(f"no multicast here: {error.strerror}")


TO = (packets.GROUP_IPV4, packets.PORT)


async def test_packets_of_the_link_come_with_their_address() -> None:
    air = multicast_on_lo()
    try:
        with sender("127.0.0.9") as other, sender("127.0.0.9", 0) as wrong_port, sender(LO.address) as own:
            wrong_port.sendto(b"another port", TO)
            own.sendto(b"this machine", TO)
            other.sendto(b"right", TO)
            with trio.fail_after(HANG):
                assert await air.receive() == (b"right", "127.0.0.9")
    finally:
        air.close()


async def test_on_loopback_packets_of_this_machine_come_once() -> None:
    (link,) = [each for each in links.here() if each.is_loopback]
    try:
        one, two = Multicast(link), Multicast(link)
    except OSError as error:
        pytest.skip(f"no multicast here: {error.strerror}")
    try:
        await one.send(b"first")
        await one.send(b"second")
        with trio.fail_after(HANG):
            for air in (one, two):
                assert [await air.receive(), await air.receive()] == [
                    (b"first", link.address),
                    (b"second", link.address),
                ]
    finally:
        one.close()
        two.close()


async def test_two_programs_of_this_machine_share_the_port() -> None:
    """Beside avahi or another of ours. What is meant for this machine alone (unicast) comes to neither."""
    one, two = multicast_on_lo(), multicast_on_lo()
    try:
        with sender("127.0.0.9") as other:
            other.sendto(b"to one machine", ("127.0.0.1", packets.PORT))
            other.sendto(b"to all", TO)
            with trio.fail_after(HANG):
                assert (await one.receive())[0] == (await two.receive())[0] == b"to all"
    finally:
        one.close()
        two.close()


async def test_of_a_flood_so_many_packets_are_read_in_a_second(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multicast, "AT_ONCE", 5)
    air = multicast_on_lo()
    read: list[bytes] = []

    async def hear() -> None:
        while True:
            read.append((await air.receive())[0])

    try:
        with sender("127.0.0.9") as other:
            for number in range(20):
                other.sendto(b"%d" % number, TO)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(hear)
                await trio.testing.wait_all_tasks_blocked(0.05)
                assert len(read) == 5
                mock_clock.jump(1.0)
                await trio.testing.wait_all_tasks_blocked(0.05)
                assert len(read) == 10
                nursery.cancel_scope.cancel()
    finally:
        air.close()
