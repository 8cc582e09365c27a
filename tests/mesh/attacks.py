"""What a peer can do to a Yamux connection, each a function of the connection's class.

test_yamux.py has ours withstand them; test_stock.py shows that py-libp2p's own does not.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from peer.mesh.guards.yamux import SafeYamux
from peer.mesh.guards.yamux_header import INITIAL_WINDOW, Flag, Kind, pack, unpack
from tests.conftest import HANG
from tests.mesh import pipes
from tests.mesh.pipes import raw_pair, read_exactly, session_pair


async def bulk_both_ways_beside_new_streams(kind: pipes.Kind = SafeYamux) -> None:
    """Raises TooSlowError when both ends stand still. Needs a clock that jumps."""
    size = 2_000_000
    async with session_pair(lockstep=True, kind=kind) as (dialled, accepted):
        near = await dialled.open_stream()
        far = await accepted.accept_stream()

        async def open_many(opener: SafeYamux, other: SafeYamux) -> None:
            for _ in range(100):
                stream = await opener.open_stream()
                await (await other.accept_stream()).reset()
                await stream.reset()

        with trio.fail_after(HANG):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(near.write, bytes(size))
                nursery.start_soon(far.write, bytes(size))
                nursery.start_soon(read_exactly, near, size)
                nursery.start_soon(read_exactly, far, size)
                nursery.start_soon(open_many, dialled, accepted)
                nursery.start_soon(open_many, accepted, dialled)


async def reader_pauses(kind: pipes.Kind = SafeYamux) -> None:
    """Ten minutes long; then it reads, and all must be there. Needs a clock that jumps."""
    data = os.urandom(INITIAL_WINDOW + 100_000)
    async with session_pair(kind=kind) as (dialled, accepted):
        near = await dialled.open_stream()
        far = await accepted.accept_stream()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.write, data)
            await trio.sleep(600)
            with trio.fail_after(600):
                assert await read_exactly(far, len(data)) == data


async def peer_falls_silent(kind: pipes.Kind = SafeYamux) -> float:
    """Return after how many seconds it was given up. Raises TooSlowError after an hour. Needs a clock that jumps."""
    async with raw_pair(kind=kind) as (session, _far):
        start = trio.current_time()
        with trio.fail_after(3600):
            await session.event_closed.wait()
        return trio.current_time() - start


@asynccontextmanager
async def more_than_the_window(kind: pipes.Kind = SafeYamux) -> AsyncIterator[tuple[Any, Any]]:
    """300 kB into a window of 256 KiB that nobody reads; gives the connection and the stream when all was taken in."""
    async with raw_pair(kind=kind) as (session, far):
        stream = await session.open_stream()
        for _ in range(5):
            await far.send_all(pack(Kind.DATA, 0, stream.stream_id, 60_000) + bytes(60_000))
        await answered(far)
        yield session, stream


async def flood_of_streams(count: int, kind: pipes.Kind = SafeYamux) -> tuple[int, int]:
    """Open so many streams against somebody who takes each; return how many are open, and how many were reset."""
    async with raw_pair(kind=kind) as (session, far), trio.open_nursery() as nursery:

        async def take() -> None:
            while True:
                await session.accept_stream()

        nursery.start_soon(take)
        for number in range(2, 2 * count + 2, 2):
            await far.send_all(pack(Kind.WINDOW_UPDATE, Flag.SYN, number, 0))
            if number % 20 == 0:
                await trio.testing.wait_all_tasks_blocked()
        said = await answered(far)
        nursery.cancel_scope.cancel()
        refused = sum(bool(unpack(said[at:]).flags & Flag.RST) for at in range(0, len(said) - 11, 12))
        return len(session.streams), refused


async def answered(far: trio.StapledStream) -> bytes:
    """Wait until all that was sent before is taken in, or the connection ended; return what came back."""
    said = b""
    with trio.fail_after(HANG):
        try:
            await far.send_all(pack(Kind.PING, Flag.SYN, 0, 77))
            while pack(Kind.PING, Flag.ACK, 0, 77) not in said:
                if not (more := await far.receive_some()):
                    break
                said += more
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
    return said
