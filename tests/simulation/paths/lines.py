"""A connection's bytes on their way: delayed, in order, held back while nothing passes, cut off when an end dies."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

from tests.simulation.paths.virtual import Sleeper, VirtualWorld

BUFFER = 256 * 1024
"""Bytes on their way in one direction; then whoever sends waits."""


class Broken(trio.BrokenResourceError):
    """This end is closed, or the other one has gone."""


class Line:
    """Two ends. `passes()`: whether the way lets anything through now.

    `names`: who is at its ends. `kind`: what for, in logs. What is sent while nothing passes comes when something does
    again, as TCP sends it again.
    """

    def __init__(
        self,
        *,
        names: tuple[str, str],
        kind: str,
        passes: Callable[[], bool],
        world: VirtualWorld,
    ) -> None:
        self.names, self.kind = names, kind
        self._passes = passes
        self.changes = trio.lowlevel.ParkingLot()
        """Who waits for something to pass here."""
        self.world = world
        self.stale = False
        """Nothing comes through any more, and nobody is told: an address that is gone, a machine without power."""
        self.latency = 10 ** world.random.uniform(-3, -0.7)
        self.bytes_per_second = 10 ** world.random.uniform(4.5, 5.5)
        self.ends = (End(self), End(self))
        self.ends[0].other, self.ends[1].other = self.ends[1], self.ends[0]

    def passes(self) -> bool:
        return not self.stale and self._passes()

    @property
    def over(self) -> bool:
        """Whether both ends are closed."""
        return all(end.closed for end in self.ends)

    def carries(self) -> int:
        """Bytes on their way now."""
        return sum(end.coming for end in self.ends)

    def cut(self) -> None:
        """End it at both ends: whoever is between has closed it."""
        for end in self.ends:
            end.put(None)


class End:
    """One end. Items are bytes, or what a WebSocket says of its end; None is the end of the other one."""

    other: End

    def __init__(self, line: Line) -> None:
        self.line = line
        self.closed = False
        self.heard = trio.current_time()
        """When something came, or had the way to come, last."""
        self.coming = 0
        self._items: deque[tuple[float, object]] = deque()
        self._last = 0.0
        self._over = False
        self._reader: Sleeper | None = None
        self._room = trio.Event()

    def put(self, item: object) -> None:
        """Have an item come here."""
        size = len(item) if isinstance(item, bytes) else 0
        at = max(self._last, trio.current_time() + self.line.latency) + size / self.line.bytes_per_second
        self._last = at
        self.coming += size
        self._items.append((at, item))
        if self._reader is not None and len(self._items) == 1:
            self.line.world.clock.wake_at(at, self._reader)

    async def receive(self) -> object:
        """Return the next item, None after the other end's close. Raises Broken after this end's."""
        while True:
            if self.closed:
                raise Broken("closed here")
            if self._over:
                await trio.lowlevel.checkpoint()
                return None
            due = self._items[0][0] if self._items else float("inf")
            if due > self.line.world.now:
                self._reader = self.line.world.clock.sleeper(due)
                await self._reader.wait()
                self._reader = None
            elif not self.line.passes():
                await self.line.changes.park()
            else:
                _, item = self._items.popleft()
                self.heard = trio.current_time()
                if isinstance(item, bytes):
                    self.coming -= len(item)
                    self._room.set()
                self._over = item is None
                return item

    async def send(self, item: object) -> None:
        """Send an item. Raises Broken where this end is closed, or the other one is known to be."""
        await trio.lowlevel.checkpoint()
        while self.other.coming > BUFFER and not (self.closed or self._over):
            self.other._room = trio.Event()
            await self.other._room.wait()
        if self.closed or self._over:
            raise Broken("no connection")
        if self.other.closed:
            if self.line.passes():
                self._over = True
                self._wake_reader()
                raise Broken("reset by the other end")
            return
        self.other.put(item)

    async def round_trip(self) -> None:
        """Wait until something has gone to the other end and back. Raises Broken."""
        while True:
            if self.closed or self._over:
                raise Broken("no connection")
            if self.line.passes():
                await trio.sleep(2 * self.line.latency)
                if self.line.passes():
                    if self.other.closed:
                        raise Broken("reset by the other end")
                    self.heard = trio.current_time()
                    return
            else:
                await self.line.changes.park()

    def end(self) -> None:
        """Close this end; the other one hears of it, if anything passes."""
        if not self.closed:
            self.closed = True
            self.other.put(None)
            self.wake()
            self.line.changes.unpark_all()

    def wake(self) -> None:
        self._wake_reader()
        self._room.set()
        self.other._room.set()

    def _wake_reader(self) -> None:
        if self._reader is not None:
            self._reader.wake()

    # --- what libp2p's handshake begins on

    async def read(self, n: int | None = None) -> bytes:
        """Return what comes next; b"" at the end."""
        item = await self.receive()
        return item if isinstance(item, bytes) else b""

    async def write(self, data: bytes) -> None:
        """Send bytes."""
        await self.send(bytes(data))

    async def close(self) -> None:
        """Close this end."""
        self.end()
        await trio.lowlevel.checkpoint()

    def get_remote_address(self) -> tuple[str, int] | None:
        return None
