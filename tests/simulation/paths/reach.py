"""Who reaches whom by which ways, and which connections there are. Directly, on a local network, at relays, brokers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Any

import trio

from tests.simulation.paths.lines import End, Line
from tests.simulation.paths.virtual import VirtualWorld

if TYPE_CHECKING:
    from tests.simulation.paths.broker import SimulatedBroker
    from tests.simulation.paths.nat import Nats
    from tests.simulation.paths.near import SimulatedLan
    from tests.simulation.paths.relays import SimulatedRelay
    from tests.simulation.paths.swarm import SimulatedSwarm

PORT = 4001


class Reach:
    """Names are people's. Call `changed` after a change of what is public here."""

    def __init__(self, world: VirtualWorld) -> None:
        self.world = world
        self.direct: set[tuple[str, str]] = set()
        """(Who dials, whom), where the other's address can be dialled."""
        self.sites: dict[str, str] = {}
        """Who → the local network that it is on."""
        self.isolated: set[str] = set()
        """Local networks whose access point keeps machines apart."""
        self.no_relay: set[tuple[str, str]] = set()
        """(Who, origin) where a relay is not reached."""
        self.asleep: set[str] = set()
        self.wakes: Counter[str] = Counter()
        """How often each slept."""
        self.brokers: dict[str, SimulatedBroker] = {}
        self.nats: Nats
        self.who: ContextVar[str] = ContextVar("who")
        """Whose task this is: what is played in place of a module's functions has no other way to know."""
        self._contexts: dict[str, Context] = {}
        self.relays: dict[str, SimulatedRelay] = {}
        self.swarms: dict[str, SimulatedSwarm] = {}
        """Who runs → what takes its connections in."""
        self.near_hosts: dict[str, SimulatedLan] = {}
        self.devices: dict[str, str] = {}
        """Device → whose it is."""
        self.address: dict[str, str] = {}
        self.moved_at: dict[str, float] = {}
        """When somebody came to another address, or woke."""
        self.lines: list[Line] = []
        self.dials = 0
        self.changes = trio.lowlevel.ParkingLot()
        self._moves = 0
        self._at: dict[str, str] = {}
        """IP → who has it."""
        self._watchers: dict[str, dict[Callable[[], object], None]] = {}
        """Person, relay or broker → what is told of a change there."""
        self._changed_at: dict[str, float] = {}
        self.still = False
        """Nobody asks again and again what has not changed. See still.py."""

    def changed(self, *names: str) -> None:
        """Let through what can go through now. `names`: of whom, people, relays or brokers, something has changed; or
        of all."""
        self.lines = [line for line in self.lines if not line.over]
        self.changes.unpark_all()
        for line in self.lines:
            line.changes.unpark_all()
        for name in names or (*self.address, *self.relays, *self.brokers):
            self._changed_at[name] = self.world.now
            for told in self._watchers.get(name, ()):
                told()

    def changed_at(self, *names: str) -> float:
        """Return when something changed last for one of these."""
        return max(self._changed_at.get(name, 0.0) for name in names)

    @contextmanager
    def watched(self, told: Callable[[], object], *names: str) -> Iterator[None]:
        """Meanwhile call `told` whenever something has changed for one of these."""
        for name in names:
            self._watchers.setdefault(name, {})[told] = None
        try:
            yield
        finally:
            for name in names:
                del self._watchers[name][told]

    async def disturbed(self, *names: str) -> None:
        """Wait until something has changed for one of these."""
        event = trio.Event()
        with self.watched(event.set, *names):
            await event.wait()

    # --- tasks

    def begin(self, name: str) -> None:
        """Have the current task, and what it starts, be of somebody's process."""
        self.who.set(name)
        self._contexts[name] = copy_context()

    def act_as(self, name: str, work: Callable[[], object]) -> None:
        """Do something as somebody's process, whose are then the tasks that it starts."""
        self._contexts[name].copy().run(work)

    def start_at(self, name: str, nursery: trio.Nursery, work: Callable[..., Any], *args: Any) -> None:
        """Start a task of somebody's process from another one."""
        self._contexts[name].copy().run(nursery.start_soon, work, *args)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something is so."""
        while not holds():
            await self.changes.park()

    # --- addresses

    def move(self, name: str) -> None:
        """Give somebody another address; what came over the one before is cut off, and nobody is told."""
        self._moves += 1
        self.moved_at[name] = self.world.now
        if name in self.address:
            del self._at[self.address[name].split("/")[2]]
        self.address[name] = f"/ip4/11.{self._moves >> 8 & 255}.{self._moves & 255}.1/tcp/{PORT}"
        self._at[self.address[name].split("/")[2]] = name
        for line in self.lines:
            if name in line.names:
                line.stale = True
        self.changed(name)

    def whose(self, address: str) -> str | None:
        """Return who has an address now, by its IP."""
        return self._at.get(address.split("/")[2])

    def address_of(self, device: str) -> str:
        return self.address[self.devices[device]]

    def device_of(self, name: str) -> str:
        return next(device for device, each in self.devices.items() if each == name)

    # --- ways

    def may_dial(self, a: str, b: str) -> bool:
        return (a, b) in self.direct and self.both_awake(a, b)

    def near(self, a: str, b: str) -> bool:
        """Whether two are on one local network that lets them speak."""
        site = self.sites.get(a, "")
        return bool(site) and site == self.sites.get(b) and site not in self.isolated and self.both_awake(a, b)

    def at_relay(self, name: str, origin: str) -> bool:
        return (name, origin) not in self.no_relay and name not in self.asleep

    def both_awake(self, a: str, b: str) -> bool:
        return a not in self.asleep and b not in self.asleep

    # --- connections

    def line(self, a: str, b: str, kind: str, passes: Callable[[], bool]) -> Line:
        made = Line(names=(a, b), kind=kind, passes=passes, world=self.world)
        self.lines.append(made)
        return made

    async def dial(self, name: str, address: str) -> End:
        """Connect to an address; the other end is served there. Raises OSError, or waits for as long as it may."""
        self.dials += 1
        await trio.sleep(10 ** self.world.random.uniform(-3, -0.7))
        callee = self.whose(address)
        if callee is None or not self.may_dial(name, callee):
            if self.world.random.random() < 0.5 and name not in self.asleep:
                raise ConnectionRefusedError(address)
            await self.until(lambda: (now := self.whose(address)) is not None and self.may_dial(name, now))
            callee = self.whose(address)
        assert callee is not None
        if callee not in self.swarms:
            raise ConnectionRefusedError(address)
        other = callee
        line = self.line(name, other, "direct", lambda: self.may_dial(name, other))
        self.swarms[other].take_in(line.ends[1])
        return line.ends[0]

    def between(self, a: str, b: str, what: Callable[[Line], object]) -> None:
        """Do something with each connection of two, without a relay."""
        for line in self.lines:
            if set(line.names) == {a, b}:
                what(line)
        self.changed(a, b)

    def kill(self, name: str, *, powerless: bool) -> None:
        """End every connection of somebody's process; without power nobody hears of it."""
        for line in self.lines:
            for end, at in zip(line.ends, line.names, strict=True):
                if at == name:
                    line.stale = line.stale or powerless
                    end.end()
        self.changed(name)
