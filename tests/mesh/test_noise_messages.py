"""Our reading and writing of Noise messages beside the library's own, which peers may have.

Each docstring says what was taken out of peer/mesh/guards/noise_messages.py for its test to fail.
"""

from __future__ import annotations

import os
from typing import cast

import pytest
import trio
from cryptography.exceptions import InvalidTag
from hypothesis import given, settings
from hypothesis import strategies as st
from libp2p.abc import IRawConnection
from libp2p.security.noise.io import NoiseTransportReadWriter
from noise.connection import Keypair, NoiseConnection  # type: ignore[import-untyped]

from peer.mesh.guards.noise_messages import MAX_PLAINTEXT, MAX_RECEIVED, WITHOUT_PAUSE, NoiseMessages


class Bytes:
    """A connection that gives what is laid into it, as its reader asks, in reads of at most `most` bytes."""

    def __init__(self, most: int = MAX_RECEIVED) -> None:
        self.laid = bytearray()
        self.writes = 0
        self._most = most

    async def read(self, n: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        size = self._most if n is None else min(n, self._most)
        data = bytes(self.laid[:size])
        del self.laid[:size]
        return data

    async def write(self, data: bytes) -> None:
        self.writes += 1
        self.laid += data


def two_ends(conn: Bytes) -> tuple[NoiseTransportReadWriter, NoiseTransportReadWriter]:
    """The library's two ends of a connection that has been made; what one writes is for the other."""
    ends = []
    for initiator in (True, False):
        noise = NoiseConnection.from_name(b"Noise_XX_25519_ChaChaPoly_SHA256")
        noise.set_keypair_from_private_bytes(Keypair.STATIC, os.urandom(32))
        (noise.set_as_initiator if initiator else noise.set_as_responder)()
        noise.start_handshake()
        ends.append(noise)
    near, far = ends
    far.read_message(bytes(near.write_message()))
    near.read_message(bytes(far.write_message()))
    far.read_message(bytes(near.write_message()))
    near_end, far_end = (NoiseTransportReadWriter(cast(IRawConnection, conn), each) for each in ends)
    return near_end, far_end


@settings(max_examples=25)
@given(st.lists(st.sampled_from([0, 1, 100, MAX_PLAINTEXT]), max_size=6), st.sampled_from([1, 3, 1000, MAX_RECEIVED]))
def test_what_the_library_writes_is_read_in_any_pieces(sizes: list[int], most: int) -> None:
    """Seen to fail where what was left of a read was dropped."""

    async def main() -> None:
        conn = Bytes(most if sum(sizes) < 1000 else max(most, 1000))
        near, far = two_ends(conn)
        messages = [os.urandom(size) for size in sizes]
        for message in messages:
            await near.write_msg(message)
        ours = NoiseMessages(far)
        assert [await ours.read_msg() for _ in messages] == messages
        assert await ours.read_msg() == b"", "the end"

    trio.run(main)


async def test_the_library_reads_what_we_write() -> None:
    """By one write, however many messages it takes. Seen to fail with messages a byte larger, which have no length."""
    conn = Bytes()
    near, far = two_ends(conn)
    ours = NoiseMessages(near)
    for size in (0, 1, MAX_PLAINTEXT, 4 * MAX_PLAINTEXT + 1):
        sent = os.urandom(size)
        conn.writes = 0
        await ours.write_msg(sent)
        assert conn.writes == 1
        got = await far.read_msg()
        while conn.laid:
            got += await far.read_msg()
        assert got == sent


async def test_a_changed_message_is_no_message() -> None:
    conn = Bytes()
    near, far = two_ends(conn)
    await near.write_msg(b"first")
    await near.write_msg(b"second")
    conn.laid[-1] ^= 1
    ours = NoiseMessages(far)
    assert await ours.read_msg() == b"first"
    with pytest.raises(InvalidTag):
        await ours.read_msg()


async def test_no_more_is_held_than_a_read_may_return() -> None:
    """Seen to fail where what was handed out was kept until all had been."""
    conn = Bytes()
    near, far = two_ends(conn)
    for _ in range(30):
        await near.write_msg(bytes(MAX_PLAINTEXT))
    ours = NoiseMessages(far)
    for _ in range(30):
        assert len(await ours.read_msg()) == MAX_PLAINTEXT
        assert len(ours._received) <= MAX_RECEIVED


async def test_others_have_their_turn_while_many_small_messages_are_handed_out() -> None:
    """Seen to fail without the pause: all came by one read, and nobody else ran."""
    conn = Bytes()
    near, far = two_ends(conn)
    for _ in range(10 * WITHOUT_PAUSE):
        await near.write_msg(b"x")
    ours, turns = NoiseMessages(far), 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        for _ in range(10 * WITHOUT_PAUSE):
            assert await ours.read_msg() == b"x"
        nursery.cancel_scope.cancel()
    assert turns >= 10
