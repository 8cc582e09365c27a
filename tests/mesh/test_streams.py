"""Frames in pieces, and a stream's limits, deadlines and ends."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from libp2p.abc import INetStream
from libp2p.io.utils import read_exactly
from libp2p.utils import encode_delim, read_delim

from peer.mesh.host import MULTISTREAM
from peer.mesh.streams import Stream, StreamEnded, StreamStalled
from peer.protocol import codec
from peer.protocol.errors import DispatchError, Invalid, TooLarge, Unavailable
from peer.protocol.frames import Deframer, encode_varint, frame
from tests.conftest import HANG
from tests.mesh.harness import two_hosts


@given(st.lists(st.binary(max_size=300), max_size=8), st.data())
def test_frames_come_out_as_they_went_in_whatever_the_pieces(payloads: list[bytes], data: st.DataObject) -> None:
    wire = b"".join(frame(payload) for payload in payloads) + b"raw"
    deframer = Deframer()
    found: list[bytes] = []
    while wire:
        size = data.draw(st.integers(1, len(wire)))
        deframer.feed(wire[:size])
        wire = wire[size:]
        while len(found) < len(payloads) and (payload := deframer.next_frame(300)) is not None:
            found.append(payload)
    assert found == payloads
    assert deframer.take(100) == b"raw"


@given(st.integers(0, 2**28 - 1))
def test_varints_are_read_back(number: int) -> None:
    deframer = Deframer()
    deframer.feed(encode_varint(number))
    if number:
        assert deframer.next_frame(number) is None
        with pytest.raises(TooLarge):
            deframer.next_frame(number - 1)
    else:
        assert deframer.next_frame(0) == b""


@pytest.mark.parametrize("number", [-1, 2**28])
def test_lengths_beyond_four_bytes_are_refused(number: int) -> None:
    with pytest.raises(TooLarge):
        encode_varint(number)


@pytest.mark.parametrize("wire", [b"\x80\x00", b"\xff\xff\xff\xff", b"\x81\x80\x00"])
def test_lengths_have_one_form(wire: bytes) -> None:
    deframer = Deframer()
    deframer.feed(wire)
    with pytest.raises(Invalid):
        deframer.next_frame(1 << 28)


@given(st.binary(max_size=50))
def test_any_bytes_are_a_frame_or_refused(wire: bytes) -> None:
    deframer = Deframer()
    deframer.feed(wire)
    try:
        while deframer.next_frame(20) is not None:
            pass
    except DispatchError:
        pass


async def test_deadlines_end_a_stream_that_stands_still() -> None:
    """Seen to fail without fail_after: the test's own deadline ended it."""

    async def nothing(stream: Stream) -> None:
        await trio.sleep_forever()

    async with two_hosts() as (ana, ben):
        ben.handle("/test/nothing/1", nothing)
        with trio.fail_after(HANG):
            stream = await ana.open_stream(ben.peer_id, "/test/nothing/1")
            with pytest.raises(StreamStalled):
                await stream.receive(max_bytes=10, deadline=0.05)
            stream = await ana.open_stream(ben.peer_id, "/test/nothing/1")
            with pytest.raises(StreamStalled):
                await stream.write(bytes(50_000_000), deadline=0.5)
            with pytest.raises(StreamEnded):  # half a frame is out: nothing may follow it
                await stream.write(b"more", deadline=1)


async def test_what_a_stream_opens_with_waits_for_no_answer() -> None:
    """Seen to fail with the opening sent after the negotiation's answer, for which the other side wants it first."""
    request = frame(codec.encode("request"))

    async def late(stream: INetStream) -> None:
        for expected in (MULTISTREAM, b"/test/late/1"):
            assert await read_delim(stream) == expected
        assert await read_exactly(stream, len(request)) == request
        await stream.write(encode_delim(MULTISTREAM) + encode_delim(b"/test/late/1") + frame(codec.encode("answer")))
        await trio.sleep_forever()

    async with two_hosts() as (ana, ben):
        ben._swarm.set_stream_handler(late)
        stream = await ana.open_stream(ben.peer_id, "/test/late/1", opening=request)
        assert await stream.receive(max_bytes=100, deadline=HANG) == "answer"


async def test_what_a_stream_opens_with_comes_first_or_nobody_takes_it() -> None:
    async def both(stream: Stream) -> None:
        await stream.send([await stream.receive(max_bytes=100) for _ in range(2)], deadline=HANG)

    async with two_hosts() as (ana, ben):
        ben.handle("/test/both/1", both)
        opening = frame(codec.encode("first"))
        stream = await ana.open_stream(ben.peer_id, "/test/both/1", opening=opening)
        await stream.send("second", deadline=HANG)
        assert await stream.receive(max_bytes=100, deadline=HANG) == ["first", "second"]
        with pytest.raises(Unavailable):
            await ana.open_stream(ben.peer_id, "/test/unknown/1", opening=opening)


async def test_what_came_before_a_stall_is_kept() -> None:
    """A transfer goes on from there. Seen to fail with the reset before what was buffered had been taken."""

    async def ten(stream: Stream) -> None:
        await stream.write(b"0123456789", deadline=HANG)
        await trio.sleep_forever()

    async with two_hosts() as (ana, ben):
        ben.handle("/test/ten/1", ten)
        stream = await ana.open_stream(ben.peer_id, "/test/ten/1")
        pieces = [await stream.read(1, deadline=HANG)]
        with pytest.raises(StreamStalled):
            await stream.gather(pieces, 1_000_000, deadline=0.5)
        assert b"".join(pieces) == b"0123456789"
        with pytest.raises(StreamEnded):
            await stream.read(1, deadline=HANG)


async def test_a_cancelled_write_ends_its_stream() -> None:
    """Seen to fail without the reset: the next frame was read as the rest of the cancelled one."""
    got: list[object] = []

    async def listen(stream: Stream) -> None:
        await trio.sleep(0.2)
        got.append(await stream.receive(max_bytes=1 << 27))

    async with two_hosts() as (ana, ben):
        ben.handle("/test/listen/1", listen)
        stream = await ana.open_stream(ben.peer_id, "/test/listen/1")
        with trio.move_on_after(0.05):
            await stream.write(frame(bytes(1_000_000)), deadline=HANG)
        with pytest.raises(StreamEnded):
            await stream.send("next", deadline=HANG)
        with pytest.raises(StreamEnded):
            await stream.receive(max_bytes=10, deadline=HANG)
    assert got == []


async def test_the_end_of_a_connection_is_said_on_its_streams() -> None:
    """Fault 8. Seen to fail with the muxer's own exceptions let through, which callers do not know."""

    async def wait(stream: Stream) -> None:
        await stream.receive(max_bytes=10)

    async with two_hosts() as (ana, ben):
        ben.handle("/test/wait/1", wait)
        stream = await ana.open_stream(ben.peer_id, "/test/wait/1")
        ben.drop(ana.peer_id)
        with pytest.raises(StreamEnded):
            await stream.receive(max_bytes=10, deadline=HANG)
        with pytest.raises(StreamEnded):
            await stream.send("x", deadline=HANG)


async def test_finishing_ends_one_direction_only() -> None:
    """Fault 17. Seen to fail with a FIN that closes both: the answer was lost."""
    async with two_hosts() as (ana, ben):

        async def answer(stream: Stream) -> None:
            with pytest.raises(StreamEnded):
                while await stream.read(100, deadline=HANG):
                    pass
            for number in range(3):
                await stream.send(["late", number], deadline=HANG)

        ben.handle("/test/answer/1", answer)
        stream = await ana.open_stream(ben.peer_id, "/test/answer/1")
        await stream.write(b"all of it", deadline=HANG)
        await stream.finish()
        for number in range(3):
            assert await stream.receive(max_bytes=100, deadline=HANG) == ["late", number]


async def test_a_read_gives_what_is_there_and_at_most_what_was_asked() -> None:
    """Fault 17. Seen to fail with a read that waits until it has all it asked for."""
    async with two_hosts() as (ana, ben):
        go_on = trio.Event()

        async def some(stream: Stream) -> None:
            await stream.write(b"0123456789", deadline=HANG)
            await go_on.wait()

        ben.handle("/test/some/1", some)
        stream = await ana.open_stream(ben.peer_id, "/test/some/1")
        read = b""
        while len(read) < 10:
            part = await stream.read(4, deadline=HANG)
            assert 1 <= len(part) <= 4
            read += part
        assert read == b"0123456789"
        go_on.set()
