"""Floods of connections beside a contact on a slow line: which handshake gives way, and who gets in all the same.

The line is slow by count, not by time: for each piece that a contact sends, a flood larger than all places comes first.
That is 400 connections a second beside a round trip of 200 ms, on a machine of any speed.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
from libp2p.utils.varint import encode_delim

from peer.mesh.guards.handshakes import EXPECTED_PLACES, Handshakes, network_of
from peer.mesh.guards.swarm import SwarmLimits
from peer.mesh.host import MULTISTREAM, MeshHost, MeshLimits
from peer.protocol.errors import Unavailable
from tests.conftest import HANG
from tests.mesh.harness import make_host, until
from tests.mesh.test_host import port_of

PLACES = 16
LIMITS = MeshLimits(swarm=SwarmLimits(pending_handshakes=PLACES, handshake=HANG * 10), dial=HANG)


class Flood:
    """Connections from other addresses of this machine, which are kept open and send `words` or nothing."""

    def __init__(self, host: MeshHost, sources: list[str], words: bytes = b"") -> None:
        self._host = host
        self._sources = sources
        self._words = words
        self._sockets: list[Any] = []

    async def wave(self) -> None:
        for number in range(PLACES + 4):
            wanted = self._host._swarm.handshakes.entered + 1
            one = trio.socket.socket()
            await one.bind((self._sources[number % len(self._sources)], 0))
            await one.connect(("127.0.0.1", port_of(self._host)))
            self._sockets.append(one)
            await until(lambda wanted=wanted: self._host._swarm.handshakes.entered >= wanted)  # type: ignore[misc]
            with suppress(OSError):  # it was ended at once
                await one.send(self._words)
        await trio.testing.wait_all_tasks_blocked()

    def close(self) -> None:
        for one in self._sockets:
            one.close()


@asynccontextmanager
async def slow_line(host: MeshHost, flood: Flood) -> AsyncIterator[str]:
    """An address at which `host` answers, with a wave of the flood before each piece that is sent to it.

    But for the first piece: whoever dials speaks at once, so its first bytes come with the end of TCP's own handshake.
    """

    async def carry(client: trio.SocketStream) -> None:
        server = await trio.open_tcp_stream("127.0.0.1", port_of(host))
        async with trio.open_nursery() as both:

            async def back() -> None:
                async for piece in server:
                    await client.send_all(piece)
                await client.aclose()

            both.start_soon(back)
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                async for piece in client:
                    await server.send_all(piece)
                    await trio.testing.wait_all_tasks_blocked()
                    await flood.wave()
            both.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, carry, 0)
        yield f"/ip4/127.0.0.1/tcp/{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


ONE_NETWORK = ["127.9.9.9"]
SAME_NETWORK = ["127.0.0.9", "127.0.0.10"]
MANY_NETWORKS = [f"127.1.{number}.1" for number in range(100)]
TALKING = encode_delim(MULTISTREAM)


async def gets_in(sources: list[str], words: bytes, expects: Callable[[str], bool] = lambda _: False) -> bool:
    ana, ben = (
        make_host(limits=LIMITS),
        MeshHost(bytes(32), listen=["/ip4/127.0.0.1/tcp/0"], admits=lambda _: True, expects=expects, limits=LIMITS),
    )
    async with ana.running(), ben.running():
        flood = Flood(ben, sources, words)
        async with slow_line(ben, flood) as address:
            with suppress(Unavailable):
                await ana.connect(ben.peer_id, [address])
            reached = ana.connected(ben.peer_id)
        flood.close()
        return reached


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        pytest.param(ONE_NETWORK, b"", id="one network, silent"),
        pytest.param(ONE_NETWORK, TALKING, id="one network, talking"),
        pytest.param(SAME_NETWORK, b"", id="the contact's network, silent"),
        pytest.param(MANY_NETWORKS, b"", id="many networks, silent"),
    ],
)
async def test_a_contact_on_a_slow_line_gets_in_beside_a_flood(sources: list[str], words: bytes) -> None:
    """Seen to fail (all four) with the oldest handshake giving way."""
    assert await gets_in(sources, words)


@pytest.mark.parametrize("sources", [SAME_NETWORK, MANY_NETWORKS], ids=["the contact's network", "many networks"])
async def test_a_known_address_of_a_contact_comes_before_any_stranger(sources: list[str]) -> None:
    """From addresses that send, so nothing else tells a contact from them. Seen to fail without `expects`."""
    assert await gets_in(sources, TALKING, expects=lambda ip: ip == "127.0.0.1")


async def test_addresses_where_contacts_were_seen_are_forgotten_when_there_are_many() -> None:
    ana = make_host(limits=MeshLimits(swarm=SwarmLimits(addresses_remembered=3)))
    async with ana.running():
        for ip in ("a", "b", "c", "a", "d", "e"):
            ana._swarm._remember(ip)
        assert list(ana._swarm._seen_at) == ["a", "d", "e"]


async def test_an_address_where_a_contact_was_seen_is_a_known_one() -> None:
    """Seen to fail without remembering where admitted peers connect from."""
    ana, ben = make_host(limits=LIMITS), make_host(limits=LIMITS)
    async with ana.running(), ben.running():
        flood = Flood(ben, MANY_NETWORKS, TALKING)
        await ana.connect(ben.peer_id, ben.addresses())
        await until(lambda: ben.connected(ana.peer_id))
        ana.drop(ben.peer_id)
        await until(lambda: not ana.connected(ben.peer_id) and not ben.connected(ana.peer_id))
        async with slow_line(ben, flood) as address:
            await ana.connect(ben.peer_id, [address])
        flood.close()


# --- the rule alone


def places(count: int, *expected: str) -> tuple[Handshakes, list[str]]:
    ended: list[str] = []
    return Handshakes(count, expected.__contains__), ended


def test_networks() -> None:
    assert network_of("192.0.2.7") == network_of("::ffff:192.0.2.99") == "192.0.2.0/24"
    assert network_of("2001:db8:1:2::1") == network_of("2001:db8:1:ffff::2") != network_of("2001:db8:2::1")
    assert network_of("fe80::1%eth0") == "fe80::/48"
    assert network_of("") == ""


def test_the_greediest_network_gives_way_whoever_comes() -> None:
    rule, ended = places(4)
    for ip in ("10.0.0.1", "10.0.0.2", "10.0.0.3", "192.0.2.1", "198.51.100.1", "203.0.113.1"):
        rule.enter(ip, lambda ip=ip: ended.append(ip))  # type: ignore[misc]
    assert ended == ["10.0.0.1", "10.0.0.2"]


def test_a_contacts_address_is_no_place_for_a_flood() -> None:
    """A contact that floods from its own address shuts nobody out. Seen to fail where contacts never give way."""
    rule, ended = places(4 * EXPECTED_PLACES, "192.0.2.1")
    rule.enter("203.0.113.1", lambda: ended.append("stranger"))
    for _ in range(10 * EXPECTED_PLACES):
        rule.enter("192.0.2.1", lambda: ended.append("contact"))
    assert set(ended) == {"contact"}
    assert len(rule) == 4 * EXPECTED_PLACES


def test_a_contacts_address_is_kept_as_long_as_it_has_a_handshake() -> None:
    """Seen to fail where it stays (addresses without end), and where it goes with the first of two."""
    rule, _ = places(4, "192.0.2.1")
    first, second = (rule.enter("192.0.2.1", lambda: None) for _ in range(2))
    rule.leave(first)
    assert rule._under_way == {"192.0.2.1": {second: None}}
    rule.leave(second)
    assert not rule._under_way


def test_contacts_give_way_to_no_crowd_of_networks() -> None:
    """Seen to fail where a contact's address counts as any network."""
    rule, ended = places(4 * EXPECTED_PLACES, "192.0.2.1")
    for _ in range(EXPECTED_PLACES):
        rule.enter("192.0.2.1", lambda: ended.append("contact"))
    for number in range(250):
        rule.enter(f"10.0.{number}.1", lambda: ended.append("stranger"))
    assert set(ended) == {"stranger"}


def test_an_honest_handshake_survives_any_flood_of_few_networks() -> None:
    chance = random.Random(7)
    rule, ended = places(32)
    rule.enter("203.0.113.1", lambda: ended.append("honest"))
    for _ in range(5_000):
        one = rule.enter(f"10.0.{chance.randrange(8)}.{chance.randrange(256)}", lambda: ended.append("flood"))
        one.heard = chance.random() < 0.5
        if chance.random() < 0.1:
            rule.leave(one)
    assert "honest" not in ended
    assert len(rule) <= 32
