"""What must be true of paths at any time, looked at from outside every few virtual seconds; of transfers; of brokers.

Bounds are virtual seconds in which a usable path stood as it was: both processes up and awake, their disks and clocks
in order, the way itself unchanged, and so one of the brokers that both use. What other brokers do counts for nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final
from unittest import mock
from weakref import WeakKeyDictionary

import trio

from peer.broker.brokers import Brokers
from peer.broker.sync import PRESENCE_CACHE_SECONDS
from peer.mesh import blobs
from peer.mesh.host import MeshHost
from peer.mesh.paths import WAITS
from peer.mesh.peer_record import Announcement
from peer.protocol.relays.rings import WINDOW_MS
from peer.store import contacts, outbox
from tests.simulation.paths.broker import SimulatedBroker, addresses_in
from tests.simulation.paths.machine import Machine, Machines
from tests.simulation.paths.swarm import SimulatedSwarm

LOOK: Final = 15.0
STILL_LOOK: Final = 240.0
"""Seconds between two looks: in a short play, and in a long one."""
CONNECTED_WITHIN: Final = 240.0
"""For what waits, a path exists: a relay is tried again after a minute, a peer after 75 s, either may take 15 s."""
BETTER_WITHIN: Final = WAITS[-1] + 30.0
"""On a relay, and a direct path exists: the longest wait, a dial, and a connection that lingers."""
WOKEN_WITHIN: Final = 120.0
"""The same once a machine has seen another network: a minute between two wakes, a dial, and what a broker is asked."""
DELIVERED_WITHIN: Final = 600.0
"""The same statement waits at the head of an outbox, and a path exists."""
ANNOUNCED_WITHIN: Final = 180.0
"""At each broker that answers: it is tried again after 75 s at most, and half a minute passes between two looks at what
is announced; a request may take some seconds."""
LOOKED_UP_WITHIN: Final = 2.0
"""What one broker has: a way there and back, and some pauses of the store."""

Pair = tuple[Machine, Machine]


def _ways(pair: Pair) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return who of a pair may have something for which device."""
    a, b = pair
    return (a.name, b.device), (b.name, a.device)


class Oracle:
    """`faults`: what was not true. `seen`: how often what happened of which a run should have some."""

    def __init__(self, everybody: Machines) -> None:
        self.everybody = everybody
        self.reach = everybody.reach
        self.faults: list[str] = []
        self.seen: Counter[str] = Counter()
        self.longest: dict[str, float] = {}
        self._better_within = BETTER_WITHIN + 2 * STILL_LOOK if self.reach.still else BETTER_WITHIN
        self.on_transfer: Callable[[str, int], None] = lambda _name, _size: None
        """Told of each transfer that begins: the name of its partial file, and how many bytes are to come."""
        self._relayed: dict[str, frozenset[str]] = {}
        """Who runs → the devices that they have connections to through a relay, as of this look."""
        self._relayed_at: WeakKeyDictionary[SimulatedSwarm, tuple[int, frozenset[str]]] = WeakKeyDictionary()
        """The same, and after how many changes of its connections."""
        self._waiting: dict[str, tuple[int, frozenset[str]]] = {}
        """Who → how many changes their store had had when it was read, and the devices that something waits for."""
        self._ways = cache(_ways)
        self._since: dict[object, float] = {}
        self._parts: dict[object, int] = {}
        """Partial file, or that and its process → where the last fetch ended."""

    # --- paths

    async def watch(self) -> None:
        """Look until cancelled."""
        looks = 0
        while True:
            await trio.sleep(STILL_LOOK if self.reach.still else LOOK)
            held: dict[object, float] = {}
            self._relayed = {
                name: self._relayed_devices(machine.host, self.reach.swarms[name])
                for machine in self.everybody.machines
                if machine.host is not None and (name := machine.name) in self.reach.swarms
            }
            concerned = self._concerned() if self.reach.still else set()
            for pair in self.everybody.pairs.values():
                if not self.reach.still or not concerned.isdisjoint(self._ways(pair)):
                    self._look_at(pair, held)
            looks += 1
            for number, machine in enumerate(self.everybody.machines):
                if not self.reach.still or (number + looks // 4) % 10 == 0:  # four looks in a row at each tenth of them
                    self._look_at_announcements(machine, held)
            self._since = held

    def _concerned(self) -> set[tuple[str, str]]:
        """Return (name, device) of all for whom something waits, or who are at a relay: nothing else has bounds."""
        found = set()
        for machine in self.everybody.machines:
            if machine.host is not None:
                devices = self._relayed.get(machine.name, frozenset()) | self._waiting_devices(machine)
                found |= {(machine.name, device) for device in devices}
        return found

    def _relayed_devices(self, host: MeshHost, swarm: SimulatedSwarm) -> frozenset[str]:
        """Return the devices that there is a connection to through a relay; they are looked at only after a change."""
        if swarm not in self._relayed_at or self._relayed_at[swarm][0] != swarm.changes:
            self._relayed_at[swarm] = swarm.changes, frozenset(host.relayed())
        return self._relayed_at[swarm][1]

    def _waiting_devices(self, one: Machine) -> frozenset[str]:
        """Return the devices that something waits for; the store is read only if it has changed."""
        db = one.person.db
        changes, found = self._waiting.get(one.name, (-1, frozenset[str]()))
        if changes != db.total_changes:
            found = frozenset(outbox.waiting_devices(db))
            self._waiting[one.name] = (db.total_changes, found)
        return found

    def _look_at(self, pair: Pair, held: dict[object, float]) -> None:
        a, b = pair
        now = trio.current_time()

        def since(what: object) -> float:
            """Since when it holds, which it does now."""
            held[what] = self._since.get(what, now)
            return held[what]

        well = self._well(a) and self._well(b)
        brokers = [since(("broker", url, *rest)) for url, *rest in self._common(a, b)] if well else []
        found = min(brokers, default=now)
        well = well and bool(brokers)
        direct = [since(way) for way in self._direct_ways(a, b)] if well else []
        relayed = [since(way) for way in self._relayed_ways(a, b)] if well else []
        punchable = since(("punch", *self._lives(a, b))) if relayed and self._may_punch(a, b) else None
        for one, other in (pair, (b, a)):
            if one.host is None:
                continue
            path = one.host.path(other.device)
            self.seen[f"connected: {path}"] += 1
            if other.device in self._relayed.get(one.name, ()):
                began = since(("on a relay", one.name, other.name, one.life))
                if direct:
                    both = max(began, min(direct))
                    self._bound(
                        "at a relay though there is a direct path", one, other, (both, found), self._better_within
                    )
                    if both < one.noticed and any(way in held for way in self._dialable_ways(one, other)):
                        self._bound("at a relay after a wake", one, other, (one.noticed, found), WOKEN_WITHIN)
                if punchable is not None and punchable <= began:
                    # Later it is tried once an hour.
                    self._bound(
                        "at a relay though the NATs let through", one, other, (began, found), self._better_within
                    )
            if other.device not in self._waiting_devices(one):
                continue
            waiting = outbox.next_for(one.person.db, other.device)
            assert waiting is not None
            # What waits at the other side counts for this one alone if this one can dial.
            usable = [since(way) for way in self._dialable_ways(one, other)] if well else []
            usable += relayed
            if not usable:
                continue
            first = since(("waits", one.name, other.name, waiting.n, one.life))
            way = max(min(usable), found)
            self._bound("not delivered though there is a path", one, other, (first, way), DELIVERED_WITHIN)
            if path is None:
                gone = since(("not connected", one.name, other.name, one.life))
                self._bound("not connected though there is a path", one, other, (gone, first, way), CONNECTED_WITHIN)

    def _bound(self, what: str, one: Machine, other: Machine, since: tuple[float, ...], bound: float) -> None:
        lasted = trio.current_time() - max(since)
        self.longest[what] = max(self.longest.get(what, 0.0), lasted)
        if lasted > bound:
            self.faults.append(f"{self._now}: {one.name} and {other.name}: {what}, for {lasted:.0f} s")

    def _well(self, one: Machine) -> bool:
        return (
            one.host is not None
            and one.name not in self.reach.asleep
            and trio.current_time() >= max(one.failing_until, one.mute_until)
        )

    def _common(self, a: Machine, b: Machine) -> Iterator[tuple[object, ...]]:
        """Yield each broker at which each of two finds the other, with everything of it that may change."""
        for url in a.brokers:
            broker = self.reach.brokers[url]
            answers = url in b.brokers and broker.honest and broker.for_(a.name) and broker.for_(b.name)
            if answers and self._knows(a, b, url) and self._knows(b, a, url):
                yield (url, broker.life, *self._lives(a, b))

    def _knows(self, one: Machine, other: Machine, url: str) -> bool:
        """Whether one knows that the other is at a broker: they met there, or the other has said so since."""
        if url in self.everybody.met_at[frozenset((one.name, other.name))]:
            return True
        known = contacts.device(one.person.db, other.device)
        return known is not None and bool(known.hello)

    def _may_punch(self, a: Machine, b: Machine) -> bool:
        return self.reach.nats.punchable(a.name, b.name) and self._well(a) and self._well(b)

    def _dialable_ways(self, a: Machine, b: Machine) -> Iterator[tuple[object, ...]]:
        """Yield each direct way by which `a` can connect to `b`, with everything in it that may change."""
        reach = self.reach
        lives = self._lives(a, b)
        if reach.may_dial(a.name, b.name):
            yield ("dial", *lives)
        if reach.near(a.name, b.name):
            yield ("near", reach.sites[a.name], *lives)

    def _direct_ways(self, a: Machine, b: Machine) -> list[tuple[object, ...]]:
        return [*self._dialable_ways(a, b), *self._dialable_ways(b, a)]

    def _relayed_ways(self, a: Machine, b: Machine) -> Iterator[tuple[object, ...]]:
        if abs(a.clock() - b.clock()) > WINDOW_MS - 10_000:
            return
        for origin, relay in self.reach.relays.items():
            if relay.up and not relay.withholds and all(self.reach.at_relay(one.name, origin) for one in (a, b)):
                yield ("relay", origin, relay.relay, *self._lives(a, b))

    def _lives(self, a: Machine, b: Machine) -> tuple[object, ...]:
        reach = self.reach
        return tuple((one.name, one.life, reach.wakes[one.name], reach.address[one.name]) for one in (a, b))

    def _life(self, part: str) -> int:
        """Return which process of its machine a partial file is written by."""
        return self.everybody.machine(Path(part).relative_to(self.everybody.folder).parts[0]).life

    @property
    def _now(self) -> str:
        return f"{trio.current_time():.3f}"

    # --- brokers

    def _look_at_announcements(self, one: Machine, held: dict[object, float]) -> None:
        """Each broker that answers has what this machine says of itself, whatever the others do."""
        if one.network_stack is None or not self._well(one):
            return
        now = trio.current_time()
        addresses = tuple(each.partition("/p2p/")[0] for each in one.network_stack.reachable_at())
        for url in one.brokers:
            broker = self.reach.brokers[url]
            if not broker.for_(one.name):
                continue
            # One that held back shows what it has forgotten meanwhile, and says that it has it: nobody can know better.
            has = [*filter(None, [broker.announced.get(one.person.user)]), *broker.of_user(one.person.user)]
            if any(each.expires > broker.now() and set(addresses_in(each.box)) == set(addresses) for each in has):
                continue
            what = ("announced", url, broker.life, one.name, one.life, self.reach.wakes[one.name], addresses)
            held[what] = self._since.get(what, now)
            self._bound(f"not announced at a broker that answers, {url}", one, one, (held[what],), ANNOUNCED_WITHIN)

    @contextmanager
    def look_ups(self) -> Iterator[None]:
        """Watch each look-up of a contact: it waits for no broker where another one has the answer."""
        presence_of = Brokers.presence_of

        async def watched(brokers: Brokers, user: str) -> dict[str, Announcement]:
            one = self.everybody.machine(self.reach.who.get())
            other = self.everybody.of_user[user]
            began, lives = trio.current_time(), self._lives(one, other)
            could = self._settled(one, other, began)
            found: dict[str, Announcement] | None = None
            try:
                found = await presence_of(brokers, user)
            finally:
                lasted = trio.current_time() - began
                still = [each for each in self._settled(one, other, began) if each in could]
                if still and self._lives(one, other) == lives and one.network_stack is not None:
                    self.seen["look-ups with a broker that has the answer"] += 1
                    if lasted > LOOKED_UP_WITHIN or (found is not None and other.device not in found):
                        what = f"{one.name} looks up {other.name}, {lasted:.1f} s: {sorted(found or {})}"
                        self.faults.append(f"{self._now}: {what}, though {still[0].url} answers")
            assert found is not None
            return found

        with mock.patch.object(Brokers, "presence_of", watched):
            yield

    def _settled(self, one: Machine, other: Machine, began: float) -> list[SimulatedBroker]:
        """Return the brokers that had an answer of the other one for a while when a look-up began, and still have."""
        settled = began - PRESENCE_CACHE_SECONDS - LOOKED_UP_WITHIN
        found = []
        for url in one.brokers:
            broker = self.reach.brokers[url]
            if not (url in other.brokers and broker.honest and broker.for_(one.name)):
                continue
            changed = max(broker.changed_at, broker.first_at.get(other.device, began), self.reach.moved_at[one.name])
            if changed < settled and broker.of_user(other.person.user) and self._knows(one, other, url):
                found.append(broker)
        return found

    # --- transfers

    @contextmanager
    def transfers(self) -> Iterator[None]:
        """Watch each fetch: it goes on at the byte at which the one before ended, and keeps all that came."""
        pull, receive_pieces = blobs._pull, blobs._receive_pieces
        came: dict[int, int] = {}

        class Counted:
            def __init__(self, stream: Any) -> None:
                self._stream = stream

            async def gather(self, pieces: list[bytes], size: int, *, deadline: float) -> None:
                try:
                    await self._stream.gather(pieces, size, deadline=deadline)
                finally:  # what came before an error is kept, too
                    came[id(self._stream)] += sum(map(len, pieces))

        async def counted(stream: Any, *rest: Any) -> Any:
            return await receive_pieces(Counted(stream), *rest)  # type: ignore[arg-type]

        async def watched(stream: Any, part: Any, size: int, *rest: Any) -> None:
            name, began = str(part._path), part.offset
            came[id(stream)] = 0
            before, gone, stopped = self._parts.get((name, self._life(name)), self._parts.get(name, 0)), False, False
            self.on_transfer(name, size - began)
            try:
                await pull(stream, part, size, *rest)
                stopped = gone = True
            except Exception as error:
                # Not where the process ended, and with it what was in its memory. Refused: the part is removed.
                stopped, gone = True, isinstance(error, blobs.Refused)
                raise
            finally:
                arrived = came.pop(id(stream))
                if arrived and began != before:
                    self.faults.append(f"{self._now}: a fetch began at byte {began}, the last one ended at {before}")
                if stopped and part.offset != began + arrived:
                    self.faults.append(f"{self._now}: {arrived} bytes came after byte {began}, {part.offset} are kept")
                self._parts[name] = 0 if gone else part.offset
                if gone and arrived:  # that it is whole is known to this process alone until it is stored
                    self._parts[name, self._life(name)] = part.offset
                self.seen["transfers resumed"] += bool(began and arrived)

        with mock.patch.object(blobs, "_pull", watched), mock.patch.object(blobs, "_receive_pieces", counted):
            yield
