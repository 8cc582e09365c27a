"""Relays in virtual time: the real relay's registry, control and pipes behind lines, which die, return and withhold.

Only sockets, TLS and the WebSocket's own frames are left out (tests/rendezvous/relay has them).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast
from unittest import mock

import trio
from trio_websocket import CloseReason, ConnectionClosed, WebSocketConnection

from peer.mesh.relays import Route
from peer.mesh.relays.websocket import OPENED_WITHIN
from peer.protocol.errors import NO_FIX, Unavailable
from peer.protocol.relays.messages import CONTROL_PATH
from peer.protocol.turns import Place, Turns
from rendezvous.relay.admission import Admission
from rendezvous.relay.connection import STOPS, Connection
from rendezvous.relay.control import serve_control
from rendezvous.relay.handshakes import Handshake
from rendezvous.relay.limits import RelayLimits
from rendezvous.relay.pipes import serve_pipe
from rendezvous.relay.relay import Relay
from tests.simulation.paths.lines import Broken, End
from tests.simulation.paths.reach import Reach

STILL = RelayLimits(ping_seconds=1e6, silence_seconds=1e7, pipe_idle_seconds=1e7)
SECRET = b"of the relays in the simulation, long enough"


class WebSocket:
    """An end of a line with the methods of trio-websocket's connection that dispatch uses."""

    def __init__(self, end: End) -> None:
        self.end = end
        self.closed: CloseReason | None = None
        self.onward: Callable[[bytearray, int], Awaitable[None]] | None = None
        """What gets each message in place of the caller of `get_message`: the other end of a relay's pipe."""

    async def get_message(self) -> bytes:
        if self.closed is None:
            try:
                while isinstance(item := await self.end.receive(), bytes) and self.onward is not None:
                    await self.onward(bytearray(item), len(item))
            except Broken:
                item = None
            if isinstance(item, bytes):
                return item
            self.closed = self.closed or (item if isinstance(item, CloseReason) else CloseReason(1006, ""))
        else:
            await trio.lowlevel.checkpoint()
        raise ConnectionClosed(self.closed)

    async def send_message(self, message: bytes) -> None:
        try:
            if self.closed is None:
                await self.end.send(message)
                return
            await trio.lowlevel.checkpoint()
        except Broken:
            self.closed = self.closed or CloseReason(1006, "")
        raise ConnectionClosed(self.closed)

    async def ping(self) -> None:
        try:
            if self.closed is None:
                await self.end.round_trip()
                return
            await trio.lowlevel.checkpoint()
        except Broken:
            self.closed = self.closed or CloseReason(1006, "")
        raise ConnectionClosed(self.closed)

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        if self.closed is None:
            self.closed = CloseReason(code, reason)
            self.end.other.put(CloseReason(code, reason))
        self.end.end()
        await trio.lowlevel.checkpoint()


class Heard:
    """What the relay uses of its own streams. Messages are not in frames here, and there are no bounds and no turns."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket, self._end = socket, socket.end
        self.place = Place(Turns(lambda _what: None))

    @property
    def heard(self) -> float:
        return self._end.heard

    def allow(self, *, per_second: float, burst: int) -> None: ...

    def pass_on(
        self, onward: Callable[[bytearray, int], Awaitable[None]], _refuse: Callable[[int, str], object]
    ) -> None:
        self._socket.onward = onward

    async def send_all(self, message: memoryview) -> None:
        try:
            await self._end.send(bytes(message))
        except Broken as error:
            raise trio.BrokenResourceError from error


class SimulatedRelay:
    """One relay at `origin`. `run` it in a task; `die` and `start` it at any time."""

    def __init__(self, reach: Reach, origin: str, clock: Callable[[], int], brokers: frozenset[bytes]) -> None:
        """`brokers`: the keys of those whose users it serves, besides whoever has SECRET."""
        self.reach, self.origin, self._clock = reach, origin, clock
        self._admission = Admission(brokers=brokers, secret=SECRET)
        self.withholds = False
        """Takes connections, and passes on nothing of a pipe."""
        self.up = self.gone = False
        """`gone`: it does not return."""
        self.limits = RelayLimits() if not reach.still else STILL
        self._nursery: trio.Nursery | None = None
        self.start()

    def start(self) -> None:
        """Begin a process that knows nobody."""
        if self.up or self.gone:
            return
        self.up = True
        self.relay = Relay(self.origin, self._admission, limits=self.limits, clock=self._clock)
        self.reach.changed(self.origin)

    def die(self, *, powerless: bool) -> None:
        """End the process, and every connection with it."""
        if self.up:
            self.up = False
            for connection in tuple(self.relay.connections):
                connection.end(STOPS, "the relay stops")
            self.reach.kill(self.origin, powerless=powerless)

    def withhold(self, on: bool) -> None:
        self.withholds = on
        self.reach.changed(self.origin)

    def end_pipe(self, which: float) -> bool:
        """End one pipe, one that carries something if there is one. `which`: 0 … 1."""
        pipes = [line for line in self.reach.lines if line.kind == "pipe" and self.origin in line.names]
        pipes = [line for line in pipes if line.carries()] or pipes
        if pipes:
            pipes[int(which * (len(pipes) - 1))].cut()
        return bool(pipes)

    async def run(self) -> None:
        """Serve whoever connects, until cancelled."""
        async with trio.open_nursery() as self._nursery:
            await trio.sleep_forever()

    async def connect(self, name: str, path: str) -> WebSocket:
        """Connect somebody. Raises OSError, or waits for as long as it may."""
        self.reach.dials += 1
        await trio.sleep(10 ** self.reach.world.random.uniform(-3, -0.7))
        reached = self.reach.at_relay(name, self.origin)
        if reached and not self.up:
            raise ConnectionRefusedError(self.origin)
        await self.reach.until(lambda: self.up and self.reach.at_relay(name, self.origin))
        kind = "control" if path == CONTROL_PATH else "pipe"

        def passes() -> bool:
            return self.reach.at_relay(name, self.origin) and not (self.withholds and kind == "pipe")

        line = self.reach.line(name, self.origin, kind, passes)
        assert self._nursery is not None
        self._nursery.start_soon(self._serve, line.ends[1], path)
        return WebSocket(line.ends[0])

    async def _serve(self, end: End, path: str) -> None:
        """As serving.py does it, without HTTP."""
        relay = self.relay
        scope = trio.CancelScope(deadline=trio.current_time() + relay.limits.handshake_seconds)
        socket = WebSocket(end)
        heard = cast(Any, Heard(socket))
        connection = Connection(scope, Handshake(end.line.names[0], scope.cancel), heard)
        connection.socket = cast(WebSocketConnection, socket)
        connection.stream = heard
        relay.connections.add(connection)
        relay.handshakes.enter(connection.handshake)
        try:
            with scope:
                await (serve_control if path == CONTROL_PATH else serve_pipe)(relay, connection)
            if connection.ending is None and scope.cancelled_caught:
                connection.ending = connection.late
            await socket.aclose(*(connection.ending or (1000, "")))
        finally:
            end.end()
            relay.handshakes.leave(connection.handshake)
            relay.connections.discard(connection)


@contextmanager
def reached(reach: Reach) -> Iterator[None]:
    """Have relays be dialled on these networks."""

    async def open_websocket(
        _nursery: trio.Nursery, origin: str, path: str, *, route: Route, chosen: bool, max_message: int
    ) -> WebSocket:
        assert max_message
        try:
            with trio.fail_after(OPENED_WITHIN):
                return await reach.relays[origin].connect(reach.who.get(), path)
        except (OSError, trio.TooSlowError) as error:
            raise Unavailable(f"can't reach relay {origin}", fix=NO_FIX) from error

    with mock.patch("peer.mesh.relays.websocket.open_websocket", open_websocket):
        yield
