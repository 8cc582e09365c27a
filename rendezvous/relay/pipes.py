"""The connection of one end of a pipe: it waits for the other end, then passes on what comes, unread."""

from __future__ import annotations

from typing import Final

import trio
from trio_websocket import ConnectionClosed

from peer.protocol.relays import messages
from peer.protocol.relays.messages import Join, Joined, Unknown
from rendezvous.relay.connection import (
    LEFT,
    NO_MESSAGE,
    NO_TICKET,
    NOT_PROVEN,
    TOO_LATE,
    TOO_MANY,
    Connection,
    ControlConnection,
    PipeEnd,
)
from rendezvous.relay.registry import CALLER, Device, Pipe
from rendezvous.relay.relay import Relay

_JOINED: Final = messages.encode(Joined())
_NOBODY: Final = (TOO_LATE, "the other end did not connect in time")
"""Whatever the reason: offline, unknown, refused and slow are one to whoever rang."""


async def serve_pipe(relay: Relay, connection: Connection) -> None:
    """Serve one end of a pipe until either end is over."""
    join = await _join(connection)
    end = PipeEnd(connection)
    found = relay.registry.join(join.ticket, end, now=relay.now())
    if found is None:
        relay.refused["no_ticket"] += 1
        await connection.fail(NO_TICKET, "that ticket is unknown, used or expired")
    pipe, side = found
    try:
        limits = relay.limits
        relay.admit(connection, frames_per_second=limits.pipe_frames_per_second, burst=limits.pipe_frame_burst)
        await _wait(pipe, end)
        other = pipe.ends[1 - side]
        device = pipe.caller if side == CALLER else pipe.callee
        assert device is not None
        if other is None:  # it left again before this end had its turn
            await connection.fail(LEFT, "the other end has disconnected")
        await _pass_on(relay, device, end, other)
    finally:
        left = relay.registry.leave(pipe, side)
        if left is not None:
            left.connection.end(LEFT, "the other end has disconnected")


async def _join(connection: Connection) -> Join:
    while True:
        match await connection.receive_message():
            case Join() as join:
                return join
            case Unknown():
                continue
            case _:
                await connection.fail(NO_MESSAGE, "the first message has to be a join")


async def _wait(pipe: Pipe[ControlConnection, PipeEnd], end: PipeEnd) -> None:
    """Wait until both ends are there, or the connection ends."""
    if pipe.joined:
        for each in pipe.ends:
            assert each is not None
            each.joined.set()
        return
    end.connection.late = _NOBODY
    end.connection.scope.deadline = pipe.deadline / 1000

    async def watch() -> None:
        # Without this nobody would see that it leaves. Bytes come after Joined.
        await end.connection.receive()
        await end.connection.fail(NO_MESSAGE, "the other end has not connected yet")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await end.joined.wait()
        nursery.cancel_scope.cancel()


async def _pass_on(relay: Relay, device: Device[ControlConnection], end: PipeEnd, other: PipeEnd) -> None:
    """Pass on what one end sends. One message is in hand at a time, so the reader's pace is the writer's."""
    connection = end.connection
    connection.late = (TOO_LATE, "no data was sent for too long")
    idle = relay.limits.pipe_idle_seconds
    connection.scope.deadline = trio.current_time() + idle
    await connection.send(_JOINED)
    end.told.set()
    await other.told.wait()
    while True:
        piece = await connection.receive()
        if not relay.registry.count(device, len(piece), day=relay.day()):
            relay.refused["bytes"] += 1
            await connection.fail(TOO_MANY, "this user's data limit for today is used up")
        if not device.is_admitted(relay.now()):
            await connection.fail(NOT_PROVEN, "this device may no longer use the relay")
        for each in (connection, other.connection):
            each.scope.deadline = trio.current_time() + idle
        if not await _send(other, piece):
            await connection.fail(LEFT, "the other end has disconnected")


async def _send(other: PipeEnd, piece: bytes) -> bool:
    """Send to the other end; return whether it is still there. How it ends is its own matter."""
    socket = other.connection.socket
    assert socket is not None
    try:
        await socket.send_message(piece)
    except ConnectionClosed:
        return False
    return True
