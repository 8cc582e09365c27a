"""The same attacks on py-libp2p 0.8.1 as it comes, where they succeed: why each guard of peer/mesh is there.

One that fails here after a change of the pin says that the library has learned to defend itself, and its guard may go.
"""

from __future__ import annotations

import os
import socket

import pytest
import trio
from libp2p import new_host
from libp2p.abc import INetStream
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.network.config import ConnectionConfig
from libp2p.network.exceptions import SwarmException
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.stream_muxer.exceptions import MuxedStreamError
from multiaddr import Multiaddr

from peer.mesh.guards.yamux_header import INITIAL_WINDOW
from tests.conftest import HANG
from tests.mesh import attacks
from tests.mesh.harness import LOOPBACK, until
from tests.mesh.stock import StockYamux, plaintext_thief


def stock_host(*, connections: int = 0, seed: bytes | None = None) -> BasicHost:
    """A host as the library makes them; with `connections`, room for so many inbound ones."""
    config = None
    if connections:
        config = ConnectionConfig(max_connections=connections, min_connections=0, low_watermark=0, high_watermark=0)
    host = new_host(key_pair=create_new_key_pair(seed or os.urandom(32)), connection_config=config)
    assert isinstance(host, BasicHost)
    return host


def where(host: BasicHost) -> PeerInfo:
    return PeerInfo(host.get_id(), host.get_addrs())


async def test_fault_1_a_host_is_joined_as_another_peer_with_its_public_key() -> None:
    friend = create_new_key_pair(os.urandom(32)).public_key
    pair, plaintext = plaintext_thief(friend, os.urandom(32))
    victim, thief = stock_host(), new_host(key_pair=pair, sec_opt=plaintext)
    async with victim.run([Multiaddr(LOOPBACK)]), thief.run([Multiaddr(LOOPBACK)]):
        await thief.connect(where(victim))
        await until(lambda: ID.from_pubkey(friend) in victim.get_network().connections)


async def test_fault_2_a_name_that_is_not_utf_8_ends_the_host() -> None:
    victim, other = stock_host(), stock_host()
    with pytest.raises(BaseExceptionGroup) as ended, trio.fail_after(HANG):
        async with other.run([Multiaddr(LOOPBACK)]), victim.run([Multiaddr(LOOPBACK)]):
            await other.connect(where(victim))
            (connection,) = other.get_network().connections[victim.get_id()]
            stream = await connection.new_stream()
            await stream.write(b"\x13/multistream/1.0.0\n\x03\xff\xfe\n")
            await trio.sleep_forever()
    assert ended.group_contains(UnicodeDecodeError)


async def test_fault_3_connections_that_are_long_over_keep_new_ones_out() -> None:
    victim = stock_host(connections=2)
    async with victim.run([Multiaddr(LOOPBACK)]):
        for _ in range(2):
            peer = stock_host()
            async with peer.run([Multiaddr(LOOPBACK)]):
                await peer.connect(where(victim))
                await until(lambda: bool(victim.get_network().connections))
                await peer.disconnect(victim.get_id())
                await until(lambda: not victim.get_network().connections)
        late = stock_host()
        async with late.run([Multiaddr(LOOPBACK)]):
            with pytest.raises(SwarmException):
                await late.connect(where(victim))


async def test_fault_5_both_ends_stand_still(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(BaseExceptionGroup) as stood:
        await attacks.bulk_both_ways_beside_new_streams(StockYamux)
    assert stood.group_contains(trio.TooSlowError)


async def test_fault_7_a_reader_that_pauses_ends_its_writer(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(BaseExceptionGroup) as ended:
        await attacks.reader_pauses(StockYamux)
    assert ended.group_contains(MuxedStreamError)


@pytest.mark.parametrize("how", ["finished", "reset", "lost"])
async def test_fault_8_every_end_looks_the_same(how: str) -> None:
    writer, reader = stock_host(), stock_host()
    read = trio.Event()

    async def half(stream: INetStream) -> None:
        await stream.write(b"half of it")
        await read.wait()
        if how == "finished":
            await stream.close()
        elif how == "reset":
            await stream.reset()
        else:
            await writer.disconnect(reader.get_id())

    writer.set_stream_handler(TProtocol("/test/half/1"), half)
    async with writer.run([Multiaddr(LOOPBACK)]), reader.run([Multiaddr(LOOPBACK)]):
        await reader.connect(where(writer))
        stream = await reader.new_stream(writer.get_id(), [TProtocol("/test/half/1")])
        assert await stream.read(100) == b"half of it"
        read.set()
        with pytest.raises(StreamEOF):
            await stream.read(100)


async def test_fault_11_a_peer_that_is_back_is_not_even_tried() -> None:
    one, back = stock_host(), stock_host()
    with socket.socket() as kept:  # so that nobody else gets the port meanwhile
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind(("127.0.0.1", 0))
        address = Multiaddr(f"/ip4/127.0.0.1/tcp/{kept.getsockname()[1]}")
        async with one.run([Multiaddr(LOOPBACK)]):
            with pytest.raises(SwarmException):
                await one.connect(PeerInfo(back.get_id(), [address]))
            async with back.run([address]):
                with pytest.raises(SwarmException, match="negative cache"):
                    await one.connect(where(back))


async def test_fault_12_a_silent_peer_is_never_given_up(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(BaseExceptionGroup) as lived:
        await attacks.peer_falls_silent(StockYamux)
    assert lived.group_contains(trio.TooSlowError)


async def test_fault_13_two_hosts_have_one_port() -> None:
    first, second = stock_host(), stock_host()
    async with first.run([Multiaddr(LOOPBACK)]):
        port = first.get_addrs()[0].value_for_protocol("tcp")
        async with second.run([Multiaddr(f"/ip4/127.0.0.1/tcp/{port}")]):
            assert second.get_addrs()[0].value_for_protocol("tcp") == port


async def test_fault_14_more_than_the_window_is_kept() -> None:
    async with attacks.more_than_the_window(StockYamux) as (session, stream):
        assert not session.is_closed
        assert len(session.stream_buffers[stream.stream_id]) > INITIAL_WINDOW


async def test_fault_14_every_stream_of_a_flood_is_opened() -> None:
    assert await attacks.flood_of_streams(1000, StockYamux) == (1000, 0)


async def test_fault_16_what_five_failures_open_shuts_everybody_out() -> None:
    victim, friend = stock_host(), stock_host()
    swarm = victim.get_network()
    assert isinstance(swarm, Swarm)
    breaker = swarm._resource_manager.circuit_breaker if swarm._resource_manager else None
    assert breaker is not None

    def fails() -> None:
        raise OSError

    for _ in range(5):
        with pytest.raises(OSError):
            breaker.call(fails)
    async with victim.run([Multiaddr(LOOPBACK)]), friend.run([Multiaddr(LOOPBACK)]):
        with pytest.raises(SwarmException):
            await friend.connect(where(victim))
