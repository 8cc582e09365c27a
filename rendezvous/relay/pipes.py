"""The connection of one end of a pipe: it waits for the other end, then passes on what comes, unread."""

from __future__ import annotations

from typing import Final

import trio

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
    """Pass on what one end sends, until the pipe ends. One piece is in hand at a time."""
    connection = end.connection
    connection.late = (TOO_LATE, "no data was sent for too long")
    idle = relay.limits.pipe_idle_seconds
    connection.scope.deadline = trio.current_time() + idle

    async def onward(piece: bytearray, size: int) -> None:
        if connection.ending is not None:
            return  # only the closing handshake is still of interest
        if not relay.registry.count(device, size, day=relay.day()):
            relay.refused["bytes"] += 1
            connection.end(TOO_MANY, "this user's data limit for today is used up")
            return
        if not device.is_admitted(relay.now()):
            connection.end(NOT_PROVEN, "this device may no longer use the relay")
            return
        for each in (connection, other.connection):
            each.scope.deadline = trio.current_time() + idle
        await other.told.wait()
        if not await other.connection.forward(piece):
            connection.end(LEFT, "the other end has disconnected")

    assert connection.stream is not None
    connection.stream.pass_on(onward, connection.end)
    await connection.send(_JOINED)
    end.told.set()
    await connection.receive()  # ends with the connection, or with a message that was begun before it was joined
    await connection.fail(NO_MESSAGE, "the other end was not there yet")
