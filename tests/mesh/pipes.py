"""Two Yamux connections joined by a pipe in memory, so that hours pass in no time; or one, and a bare end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing

from peer.mesh.guards.yamux import SafeYamux
from peer.mesh.guards.yamux_limits import YamuxLimits
from peer.mesh.guards.yamux_stream import SafeYamuxStream

Kind = Callable[..., Any]
"""SafeYamux, or another class that is made as it is."""


class Pipe:
    """One end of a pipe, looking like libp2p's secured connection."""

    def __init__(self, stream: trio.StapledStream, *, is_initiator: bool) -> None:
        self.stream = stream
        self.is_initiator = is_initiator

    async def read(self, n: int | None = None) -> bytes:
        try:
            return bytes(await self.stream.receive_some(n or 65536))
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            return b""

    async def write(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def close(self) -> None:
        await self.stream.aclose()

    def get_remote_address(self) -> None:
        return None


@asynccontextmanager
async def raw_pair(
    limits: YamuxLimits | None = None, *, lockstep: bool = False, kind: Kind = SafeYamux
) -> AsyncIterator[tuple[SafeYamux, trio.StapledStream]]:
    """A connection that dialled, and the bare end of the pipe behind it."""
    near, far = trio.testing.lockstep_stream_pair() if lockstep else trio.testing.memory_stream_pair()
    session = kind(Pipe(near, is_initiator=True), None, limits=limits or YamuxLimits())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.start)
        await session.event_started.wait()
        yield session, far
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def session_pair(
    limits: YamuxLimits | None = None, *, lockstep: bool = False, kind: Kind = SafeYamux
) -> AsyncIterator[tuple[SafeYamux, SafeYamux]]:
    """Two connections: the first dialled, the second accepted. In lockstep a write waits until it is read."""
    near, far = trio.testing.lockstep_stream_pair() if lockstep else trio.testing.memory_stream_pair()
    dialled = kind(Pipe(near, is_initiator=True), None, limits=limits or YamuxLimits())
    accepted = kind(Pipe(far, is_initiator=False), None, limits=limits or YamuxLimits())
    async with trio.open_nursery() as nursery:
        for session in (dialled, accepted):
            nursery.start_soon(session.start)
            await session.event_started.wait()
        yield dialled, accepted
        nursery.cancel_scope.cancel()


async def read_exactly(stream: SafeYamuxStream, size: int) -> bytes:
    parts = []
    while size:
        part = await stream.read(size)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
