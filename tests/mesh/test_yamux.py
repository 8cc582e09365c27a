"""The Yamux connection, between two of ours and against a peer that breaks every rule.

"Stock" below is py-libp2p 0.8.1's own Yamux, put in the place of ours in tests/mesh/pipes.py: that is how these tests
were seen to fail.
"""

from __future__ import annotations

import os

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable, MuxedStreamEOF, MuxedStreamError, MuxedStreamReset

from peer.mesh.guards.yamux import SafeYamux, YamuxLimits
from peer.mesh.guards.yamux_header import INITIAL_WINDOW, Flag, Kind, pack, unpack
from peer.mesh.guards.yamux_stream import SafeYamuxStream
from tests.mesh.harness import until
from tests.mesh.pipes import raw_pair, read_exactly, session_pair


async def opened(dialled: SafeYamux, accepted: SafeYamux) -> tuple[SafeYamuxStream, SafeYamuxStream]:
    near = await dialled.open_stream()
    return near, await accepted.accept_stream()


async def test_what_is_written_is_read_and_the_end_comes_after_it() -> None:
    data = os.urandom(3_000_000)
    async with session_pair() as (dialled, accepted):
        near, far = await opened(dialled, accepted)
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                await near.write(data)
                await near.close()

            nursery.start_soon(send)
            assert await read_exactly(far, len(data)) == data
            with pytest.raises(MuxedStreamEOF):
                await far.read(1)
        await far.write(b"half closed")
        await far.close()
        assert await read_exactly(near, 11) == b"half closed"
        await until(lambda: not dialled.streams and not accepted.streams)


async def test_bulk_both_ways_beside_new_streams_does_not_deadlock(autojump_clock: trio.testing.MockClock) -> None:
    """Fault 5. Stock: each read loop waits to acknowledge a stream, behind bulk that the other one does not read."""
    size = 2_000_000
    async with session_pair(lockstep=True) as (dialled, accepted):
        near, far = await opened(dialled, accepted)

        async def open_many(opener: SafeYamux, other: SafeYamux) -> None:
            for _ in range(100):
                stream = await opener.open_stream()
                await (await other.accept_stream()).reset()
                await stream.reset()

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(near.write, bytes(size))
                nursery.start_soon(far.write, bytes(size))
                nursery.start_soon(read_exactly, near, size)
                nursery.start_soon(read_exactly, far, size)
                nursery.start_soon(open_many, dialled, accepted)
                nursery.start_soon(open_many, accepted, dialled)


async def test_a_writer_waits_for_a_reader_that_pauses(autojump_clock: trio.testing.MockClock) -> None:
    """Fault 7. Stock: "Timed out waiting for window update after 5 seconds"."""
    data = os.urandom(INITIAL_WINDOW + 100_000)
    async with session_pair() as (dialled, accepted):
        near, far = await opened(dialled, accepted)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.write, data)
            await trio.sleep(600)
            assert far.buffered == INITIAL_WINDOW
            assert await read_exactly(far, len(data)) == data


async def test_a_silent_peer_is_given_up_and_a_quiet_one_is_not(autojump_clock: trio.testing.MockClock) -> None:
    """Fault 12. Stock: the connection with the silent peer lives on for the whole hour."""
    async with session_pair() as (dialled, accepted):
        await trio.sleep(3600)
        assert dialled.is_established and accepted.is_established
    async with raw_pair() as (session, _far):
        stream = await session.open_stream()
        start = trio.current_time()
        with trio.fail_after(3600):
            await session.event_closed.wait()
        assert trio.current_time() - start <= 40
        with pytest.raises(MuxedStreamReset):
            await stream.read(1)


async def test_a_peer_that_takes_nothing_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    """It sends, so it is not silent, but the pipe to it is full. Seen to fail without the deadline on writes."""
    async with raw_pair(YamuxLimits(dead_after=1e9), lockstep=True) as (session, _far):
        start = trio.current_time()
        with trio.fail_after(3600):
            await session.event_closed.wait()
        assert trio.current_time() - start <= 40


async def test_more_than_the_window_ends_the_connection() -> None:
    """Fault 14. Stock: it logs a warning and buffers on, 572 MB from one peer."""
    async with raw_pair() as (session, far):
        stream = await session.open_stream()
        for _ in range(5):
            await far.send_all(pack(Kind.DATA, 0, stream.stream_id, 60_000) + bytes(60_000))
        await session.event_closed.wait()
        assert stream.buffered <= INITIAL_WINDOW


async def test_a_flood_of_streams_is_cut_off() -> None:
    """Fault 14. Stock: each SYN costs a stream for ever, 849 MB for a million."""
    async with raw_pair() as (session, far):
        for number in range(2, 2002, 2):
            await far.send_all(pack(Kind.WINDOW_UPDATE, Flag.SYN, number, 0))
        await until(lambda: len(session.streams) == session.limits.inbound_streams)
        refused = 0
        buffer = b""
        while refused < 1000 - session.limits.inbound_streams:
            buffer += await far.receive_some()
            while len(buffer) >= 12:
                header, buffer = unpack(buffer), buffer[12:]
                refused += bool(header.flags & Flag.RST)
        assert len(session.streams) == session.limits.inbound_streams


async def test_streams_opened_and_reset_at_once_do_not_pile_up() -> None:
    """SYN, RST, SYN, RST … passes a cap on open streams. Seen to fail without the bound on the backlog."""
    async with raw_pair() as (session, far):
        for number in range(2, 4002, 2):
            await far.send_all(pack(Kind.WINDOW_UPDATE, Flag.SYN, number, 0))
            await far.send_all(pack(Kind.WINDOW_UPDATE, Flag.RST, number, 0))
        await far.send_all(pack(Kind.PING, Flag.SYN, 0, 77))
        while pack(Kind.PING, Flag.ACK, 0, 77) not in await far.receive_some():
            pass
        accepted = 0
        with trio.move_on_after(0.1):
            while True:
                await session.accept_stream()
                accepted += 1
        assert accepted == session.limits.inbound_streams


async def test_a_flood_of_pings_nobody_reads_the_answers_of_ends_the_connection() -> None:
    """Stock answers from its read loop and blocks there; seen to fail without the cap on control frames."""
    async with raw_pair(lockstep=True) as (session, far), trio.open_nursery() as nursery:

        async def flood() -> None:
            try:
                while True:
                    await far.send_all(pack(Kind.PING, Flag.SYN, 0, 1) * 100)
            except trio.BrokenResourceError:
                pass

        nursery.start_soon(flood)
        with trio.fail_after(5):
            await session.event_closed.wait()


@pytest.mark.parametrize(
    "frame",
    [
        b"\x01" + bytes(11),
        b"\x00\x09" + bytes(10),
        pack(Kind.WINDOW_UPDATE, Flag.SYN, 3, 0),
        pack(Kind.WINDOW_UPDATE, Flag.SYN, 0, 0),
        pack(Kind.WINDOW_UPDATE, Flag.SYN, 2, 0) * 2,
        pack(Kind.GO_AWAY, 0, 0, 0),
    ],
    ids=["version", "type", "our parity", "stream 0", "SYN twice", "go away"],
)
async def test_a_broken_rule_ends_the_connection_and_nothing_else(frame: bytes) -> None:
    async with raw_pair() as (session, far):
        stream = await session.open_stream()
        await far.send_all(frame)
        await session.event_closed.wait()
        with pytest.raises(MuxedStreamReset):
            await stream.read(1)
        with pytest.raises(MuxedStreamError):
            await session.open_stream()
        with pytest.raises(MuxedConnUnavailable):
            while True:
                await session.accept_stream()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_bytes_at_all_end_at_worst_this_connection(data: st.DataObject) -> None:
    headers = st.builds(
        pack,
        st.sampled_from(Kind),
        st.integers(0, 15),
        st.sampled_from([0, 1, 2, 3, 4, 2**32 - 1]),
        st.sampled_from([0, 1, 12, 2**31, 2**32 - 1]),
    )
    junk = b"".join(data.draw(st.lists(st.one_of(headers, st.binary(max_size=40)), max_size=40)))

    async def run() -> None:
        async with raw_pair() as (session, far):
            await session.open_stream()
            await far.send_all(junk)
            await far.aclose()
            await session.event_closed.wait()

    trio.run(run)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_frames_may_come_in_any_pieces(data: st.DataObject) -> None:
    body = os.urandom(300)
    wire = b"".join(
        (
            pack(Kind.WINDOW_UPDATE, Flag.SYN, 2, 0),
            pack(Kind.DATA, 0, 2, 100) + body[:100],
            pack(Kind.DATA, 0, 8, 50) + bytes(50),
            pack(Kind.DATA, Flag.FIN, 2, 200) + body[100:],
        )
    )
    cuts = sorted(data.draw(st.sets(st.integers(1, len(wire) - 1), max_size=12)))

    async def run() -> None:
        async with raw_pair(lockstep=False) as (session, far):
            for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
                await far.send_all(wire[start:end])
                await trio.testing.wait_all_tasks_blocked()
            stream = await session.accept_stream()
            assert await read_exactly(stream, 300) == body
            with pytest.raises(MuxedStreamEOF):
                await stream.read(1)

    trio.run(run)


async def test_closing_lets_queued_frames_leave() -> None:
    """Seen to fail with GO_AWAY among the control frames, which overtake data: the last answer was lost."""
    async with session_pair() as (dialled, accepted):
        near, far = await opened(dialled, accepted)
        await near.write(b"last words")
        await dialled.close()
        assert await read_exactly(far, 10) == b"last words"


async def test_a_fast_reader_gets_a_larger_window_within_the_budget() -> None:
    limits = YamuxLimits(window_budget=INITIAL_WINDOW)
    async with session_pair(limits) as (dialled, accepted):
        pairs = [await opened(dialled, accepted) for _ in range(3)]
        async with trio.open_nursery() as nursery:
            for near, far in pairs:
                nursery.start_soon(near.write, bytes(4_000_000))
                nursery.start_soon(read_exactly, far, 4_000_000)
        assert sum(far.extra_window for _, far in pairs) <= INITIAL_WINDOW


async def test_small_writes_pass_bulk_on_the_same_connection() -> None:
    """The writer's queue is short and fair. Seen to fail with queued_data of 64 MB: it came after the bulk."""
    async with session_pair(lockstep=True) as (dialled, accepted):
        bulk, bulk_far = await opened(dialled, accepted)
        small, small_far = await opened(dialled, accepted)
        got = 0

        async def read_bulk() -> None:
            nonlocal got
            while got < 8_000_000:
                got += len(await bulk_far.read(65536))

        # A window as large as it gets, so that only the queue can hold the bulk back.
        bulk.window_updated(64_000_000)
        bulk_far._receive_allowance += 64_000_000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bulk.write, bytes(8_000_000))
            nursery.start_soon(read_bulk)
            while got < 500_000:
                await trio.lowlevel.checkpoint()
            await small.write(b"first")
            await read_exactly(small_far, 5)
            assert got < 2_000_000
