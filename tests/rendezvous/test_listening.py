"""On which addresses a broker listens."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import trio

from peer.protocol.errors import Unavailable
from rendezvous.listening import listening, port_of


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


class Names(trio.abc.HostnameResolver):
    """Resolves one name to the addresses of the test."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def getaddrinfo(
        self, host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> Any:
        assert host == b"broker.example"
        found = [socket.getaddrinfo(address, port, family, type, proto, flags) for address in self.addresses]
        return [entry for entries in found for entry in entries]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        raise NotImplementedError


async def reaches(address: str, port: int) -> bool:
    try:
        stream = await trio.open_tcp_stream(address, port)
    except OSError:
        return False
    await stream.aclose()
    return True


@pytest.mark.parametrize("port_is_given", [False, True])
async def test_every_address_of_a_name_on_one_port(port_is_given: bool) -> None:
    """Seen to fail where only the first address was taken, and where each had drawn a port of its own."""
    addresses = ("127.0.0.2", "127.0.0.3", "::1") if has_ipv6() else ("127.0.0.2", "127.0.0.3")
    trio.socket.set_custom_hostname_resolver(Names(*addresses))
    port = 0
    if port_is_given:
        async with listening("127.0.0.2", 0, backlog=10) as listeners:
            port = port_of(listeners)
    async with listening("broker.example", port, backlog=10) as listeners:
        drawn = port_of(listeners)
        assert drawn == port or not port_is_given
        assert [await reaches(address, drawn) for address in addresses] == [True] * len(addresses)
        assert not await reaches("127.0.0.4", drawn)
    assert not await reaches("127.0.0.2", drawn)


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
async def test_the_address_of_all_is_of_both_families() -> None:
    async with listening("::", 0, backlog=10) as listeners:
        port = port_of(listeners)
        assert await reaches("127.0.0.1", port) and await reaches("::1", port)


async def test_where_one_address_is_taken_none_is_listened_on() -> None:
    trio.socket.set_custom_hostname_resolver(Names("127.0.0.2", "127.0.0.3"))
    async with listening("127.0.0.3", 0, backlog=10) as taken:
        port = port_of(taken)
        with pytest.raises(Unavailable, match=f"can't listen on broker.example port {port}") as refused:
            async with listening("broker.example", port, backlog=10):
                raise AssertionError
        assert "--port" in refused.value.fix and not await reaches("127.0.0.2", port)


async def test_a_name_without_address_is_refused() -> None:
    with pytest.raises(Unavailable, match="can't listen"):
        async with listening("no-such-host.invalid", 0, backlog=10):
            raise AssertionError
