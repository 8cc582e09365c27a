"""What people do and what goes wrong with their paths, drawn from a seed; then it is calm, and everything is checked.

    make simulate-paths ARGS=SEED

plays one again and prints what happened.
"""

from __future__ import annotations

import hashlib
import logging
import random
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterator, MutableMapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import trio

from peer.protocol.content import FileRef
from peer.store import dispatches, outbox
from tests.simulation.nodes import Node, People, opened_once
from tests.simulation.paths import broker, nat, relays, still, swarm, virtual
from tests.simulation.paths.broker import SimulatedBroker
from tests.simulation.paths.machine import Machine, Machines
from tests.simulation.paths.nat import NATS, Nats
from tests.simulation.paths.oracle import Oracle
from tests.simulation.paths.reach import Reach
from tests.simulation.paths.relays import SimulatedRelay
from tests.simulation.paths.virtual import VirtualWorld
from tests.simulation.scenario import FINAL, HOUR, Play
from tests.steps.people import START

ORIGINS = ("https://r1.example", "https://r2.example")
BROKERS = ("https://b1.example", "https://b2.example", "https://b3.example")
TROUBLES = (
    *("crash", "power", "sleep", "roam", "direct", "direct", "one way", "site", "isolated", "new network") * 2,
    *("relay", "relay without power", "withholds", "no relay", "pipe", "pipe", "pipe", "drop", "vanish") * 2,
    *("broker", "silent broker", "forgets", "holds back", "no broker") * 2,
    *("nat", "flap", "disk", "clock", "moment") * 2,
    "revoke",
)
OF_ALL = frozenset({"relay", "relay without power", "withholds", "broker", "silent broker", "forgets", "holds back"})
FEW = 3
CALM = 0.5 * HOUR
QUIET = 0.15 * HOUR
"""At the end of it, in which nobody does anything any more."""
LARGEST_FILE = 1_500_000
ATTEMPTS = 60
"""Of a pair in that time: both look for a better path every five minutes, at a few addresses."""
EXPECTED = frozenset({"Unavailable", "TooSlowError"})
"""Errors that a node may log with a warning."""
TASKS = 120
"""Of a machine at the end, and its part of the relays'."""


@dataclass
class PathPlay(Play):
    """One scenario on paths."""

    hours: float = 0.25
    troubles: int = 15
    dispatches: int = 8
    lifetimes: tuple[int, ...] = (120, 300, 600)
    looks_every: float = 60.0
    still: bool = False
    """Whether what cannot have changed is not asked for (still.py): for many people and a long time."""
    only: tuple[str, ...] = TROUBLES
    """What goes wrong: one of these each time."""
    told: bool = False
    """Whether nodes' own log lines are kept too."""
    circle: int = 0
    circles: int = 1
    """`count` people are so many circles that know nobody outside, with the same relays and brokers; this is one."""
    longest: dict[str, float] = field(default_factory=dict)
    _made: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Who → the digests of files that they sent."""

    def run(self) -> Counter[str]:
        """Play it to its end; return how often what happened. Raises AssertionError, with what plays it again."""
        faults: list[str] = []
        try:
            virtual.run(lambda: self._play(faults), self._drawn_from)
        except Exception as error:
            error.add_note(self.again())
            raise
        assert not faults, "\n".join([*faults[:10], *self.log[-40:], self.again()])
        return self.happened

    def again(self) -> str:
        """Return what plays it again."""
        options = f"--people {self.count} --dispatches {self.dispatches} --hours {self.hours:g}"
        options += " --still" * self.still
        options += f" --only {self.only[0]}" * (self.only != TROUBLES)
        options += f" --circles {self.circles} --circle {self.circle}" * (self.circles > 1)
        return f"to play it again: make simulate-paths ARGS='{self.seed} {options} --troubles {self.troubles}'"

    @property
    def _drawn_from(self) -> int:
        return self.seed if self.circles == 1 else self.seed * self.circles + self.circle

    async def _play(self, faults: list[str]) -> None:
        world = self.world = VirtualWorld(self._drawn_from)
        self.random = world.random
        self.of_all = self.random if self.circles == 1 else random.Random(self.seed)
        reach = self.reach = Reach(world)
        reach.still = self.still
        reach.nats = Nats(reach)
        reach.brokers = {url: SimulatedBroker(reach, url, ORIGINS) for url in BROKERS}
        async with trio.open_nursery() as nursery:
            everybody = Machines(world, self.folder, reach, nursery)
            self.oracle = Oracle(everybody)
            self.oracle.on_transfer = lambda name, size: self._break_off(everybody, name, size)
            with ExitStack() as stack:
                stack.enter_context(opened_once())
                stack.enter_context(swarm.installed(reach))
                stack.enter_context(relays.reached(reach))
                stack.enter_context(broker.installed(reach))
                stack.enter_context(nat.installed(reach))
                stack.enter_context(still.installed(reach))
                stack.enter_context(self.oracle.transfers())
                stack.enter_context(self.oracle.look_ups())
                stack.enter_context(self._logged(faults))
                try:
                    for origin in ORIGINS:
                        reach.relays[origin] = SimulatedRelay(
                            reach,
                            origin,
                            lambda: START + int(world.now * 1000),
                            frozenset(each.key.public for each in reach.brokers.values()),
                        )
                        nursery.start_soon(reach.relays[origin].run)
                    self._set_up(everybody)
                    nursery.start_soon(world.drive)
                    nursery.start_soon(self.oracle.watch)
                    await trio.sleep(self.hours * HOUR)
                    self._calm(everybody)
                    await trio.sleep(CALM - QUIET)
                    before = reach.dials
                    await trio.sleep(QUIET)
                    self._check_growth(everybody, reach.dials - before)
                    self._check(everybody)
                except AssertionError as error:
                    faults.append(str(error))
                finally:
                    faults[:0] = self.oracle.faults
                    self.happened += self.oracle.seen
                    self.happened["dials that met through NATs"] += reach.nats.met
                    self.longest |= self.oracle.longest
                    for machine in everybody.machines:
                        machine.up = False
                    nursery.cancel_scope.cancel()
                    with trio.CancelScope(shield=True):
                        for machine in everybody.machines:
                            await machine.ended()
                            machine.person.db.close()

    @contextmanager
    def _logged(self, faults: list[str]) -> Iterator[None]:
        """A defect that a part survives is a fault all the same."""

        def take(_logger: object, level: str, line: MutableMapping[str, Any]) -> str:
            what = line.pop("event")
            trace = line.pop("exc_info", None)
            if self.told:
                self.log.append(f"{self.world.now:10.3f}   {what} {line}")
            unexpected = line.get("error", "Unavailable") not in EXPECTED
            if trace or (unexpected and level in ("warning", "error")):
                faults.append(f"{self.world.now:.3f}: {what} {line}\n{traceback.format_exc() if trace else ''}")
            raise structlog.DropEvent

        before = structlog.get_config()
        level = logging.DEBUG if self.told else logging.WARNING
        structlog.configure(processors=[take], wrapper_class=structlog.make_filtering_bound_logger(level))
        try:
            yield
        finally:
            structlog.configure(**before)

    # --- what happens

    def _set_up(self, everybody: People) -> None:
        assert isinstance(everybody, Machines)
        super()._set_up(everybody)
        if self.circles > 1:
            self._set_up_troubles_of_all(everybody)
        for pair in everybody.pairs.values():
            a, b = (each.name for each in pair)
            self.reach.direct |= set(self.random.choice([(), ((a, b),), ((b, a),), ((a, b), (b, a))]))
        for name in everybody.devices:
            self.reach.sites[name] = self._site()

    def _share(self, of: int) -> int:
        return of // self.circles + (self.circle < of % self.circles)

    def _set_up_troubles_of_all(self, everybody: Machines) -> None:
        """Have happen what concerns all circles, in each of them at the same time."""
        for _ in range(self.troubles):
            what, when, much = self.of_all.choice(self.only), self.of_all.random(), self.of_all.random()
            if what in OF_ALL and self.of_all.random() < FEW / self.count:
                self.world.at(when * self.hours * HOUR * 0.9, partial(self._trouble_of_all, everybody, what, much))

    def _trouble_of_all(self, everybody: Machines, what: str, much: float) -> None:
        self._note(what, f"{much:.3f}")
        one, other = next(iter(everybody.pairs.values()))
        self._cause(what, one, other, much)

    def _site(self) -> str:
        """Return a local network, "" for none: about two people are on one."""
        return self.random.choice(["", f"site {self.random.randrange(1 + self._share(self.count) // 2)}"])

    def _add(self, everybody: People, name: str) -> Node:
        """Add somebody, who uses two or three of the brokers: so anybody has one in common with anybody."""
        assert isinstance(everybody, Machines)
        machine = everybody.machine(super()._add(everybody, name).name)
        machine.use_brokers(
            self.random.sample(BROKERS, self.random.choice([2, 2, 3])), chosen_relays=self.random.random() < 0.3
        )
        self.reach.nats.kind[name] = self.random.choice(NATS)
        return machine

    def _file(self, sender: Node) -> FileRef:
        content = self.random.randbytes(int(10 ** self.random.uniform(*((4, 5.7) if self.still else (5, 6.3)))))
        digest = hashlib.sha256(content).digest()
        sender.person.context.blobs.destination(digest).write_bytes(content)
        self._made[sender.name].add(digest.hex())
        return FileRef(name=f"file-{self.random.random()}", size=len(content), digest=digest)

    def _trouble(self, everybody: People) -> None:
        assert isinstance(everybody, Machines)
        pairs = list(everybody.pairs.values())
        one, other = self.random.choice(pairs)[:: self.random.choice([1, -1])]
        much = self.random.random()
        what = self.random.choice(self.only)
        if what in OF_ALL and (self.circles > 1 or self.random.random() > FEW / self.count):
            what = "roam"  # a relay dies no more often for all the people that it has
        self._note(what, f"{one.name} {other.name} {much:.3f}")
        self._cause(what, one, other, much)

    def _cause(self, what: str, one: Machine, other: Machine, much: float) -> None:
        reach, a, b = self.reach, one.name, other.name
        relay = reach.relays[ORIGINS[int(much * 1000) % len(ORIGINS)]]
        a_broker = reach.brokers[BROKERS[int(much * 1000) % len(BROKERS)]]
        later = self.world.later
        match what:
            case "crash" | "power":
                one.crash(10 ** (2.5 * much), powerless=what == "power")
            case "moment":
                one.crash(1.0)
            case "sleep":
                one.sleep(500 * much)
            case "roam":
                reach.move(a)
                reach.sites[a] = self._site()
                one.notices()
            case "new network":  # beside the one it has
                reach.direct |= {(a, b), (b, a)}
                reach.changed(a, b)
                one.notices()
            case "direct":
                reach.direct ^= {(a, b), (b, a)}
                reach.changed(a, b)
            case "one way":
                reach.direct ^= {(a, b)}
                reach.changed(a, b)
            case "site":
                reach.sites[a] = reach.sites[b] = self._site()
                for machine in (one, other):
                    reach.move(machine.name)
                    machine.notices()
            case "isolated":
                reach.isolated ^= {reach.sites[a]}
                reach.changed(*(name for name, site in reach.sites.items() if site == reach.sites[a]))
            case "relay" | "relay without power":
                relay.die(powerless=what != "relay")
                later(10 ** (3 * much), relay.start)
            case "withholds":
                relay.withhold(True)
                later(300 * much, lambda: relay.withhold(False))
            case "no relay":
                reach.no_relay ^= {(a, relay.origin)}
                reach.changed(a)
            case "pipe":
                self.happened["pipes ended"] += relay.end_pipe(much)
            case "drop":
                reach.between(a, b, lambda line: line.cut())
            case "vanish":
                reach.between(a, b, lambda line: setattr(line, "stale", True))
            case "broker" | "silent broker":
                a_broker.stop(silent=what != "broker")
                later(10 ** (3 * much), a_broker.begin)
            case "forgets":
                a_broker.stop(silent=False)
                later(60 * much, lambda: a_broker.begin(forgets=True))
            case "holds back":
                a_broker.hold_back(True)
                later(600 * much, lambda: a_broker.hold_back(False))
            case "no broker":
                a_broker.unreached ^= {a}
                a_broker.changed(a)
            case "nat":
                reach.move(a)
                reach.nats.kind[a] = self.random.choice(NATS)
                one.notices()
            case "flap":
                for number in range(20):
                    later(number * 10 * much, lambda: self._cause("direct", one, other, much))
            case "disk":
                one.failing_until = self.world.now + 150 * much
            case "clock":
                one.clock.skew += 600 * (much - 0.5)
            case "revoke":
                one.revoke(other)
            case _:
                raise AssertionError(what)

    def _break_off(self, everybody: Machines, part: str, size: int) -> None:
        """Some transfers break while they run, if they take as long as most would."""
        if self.random.random() < (0.97 if self.still else 0.5):
            return
        device = part.rpartition(".part")[0].rpartition(".")[2]
        here = Path(part).relative_to(self.folder).parts[0]
        there = everybody.names[device]
        what = self.random.choice(["drop", "vanish", "moment", "pipe", "pipe"])
        one, other = everybody.machine(here), everybody.machine(there)
        much = self.random.random()

        def cause() -> None:
            self._note("in a transfer: " + what, f"{here} {there}")
            self._cause(what, one, other, much)

        self.world.later(self.random.uniform(0, size / 150_000), cause)

    def _calm(self, everybody: People) -> None:
        """Everything works, but not every path exists: each pair has some."""
        assert isinstance(everybody, Machines)
        reach = self.reach
        for each in reach.brokers.values():
            each.unreached.clear()
            each.hold_back(False)
            if not each.up or each.silent:
                each.begin()
        alive = self.of_all.choice([ORIGINS, ORIGINS[:1], ORIGINS[1:]])
        for origin, relay in reach.relays.items():
            relay.withholds = False
            if origin in alive and not relay.up:
                relay.start()
            if origin not in alive:
                relay.die(powerless=self.of_all.random() < 0.5)
                relay.gone = True
        reach.no_relay.clear()
        for machine in everybody.machines:
            machine.clock.skew = machine.failing_until = 0.0
        for pair in everybody.pairs.values():
            a, b = (each.name for each in pair)
            if self.random.random() < 0.5:
                reach.direct -= {(a, b), (b, a)}
        reach.changed()

    # --- what must be true

    def _check_growth(self, everybody: Machines, dials: int) -> None:
        pairs = len(everybody.pairs)
        assert dials <= ATTEMPTS * pairs, f"{dials} attempts in a time in which nothing changed"
        self.longest["attempts of a pair while nothing changed"] = dials / pairs
        tasks = trio.lowlevel.current_statistics().tasks_living
        self.longest["tasks of a machine"] = tasks / len(everybody.devices)
        assert tasks <= TASKS * len(everybody.devices), f"{tasks} tasks at the end"
        for machine in everybody.machines:
            for device, connections in self.reach.swarms[machine.name]._sessions.items():
                assert len(connections) <= 3, f"{len(connections)} connections of {machine.name} to {device}"

    def _check(self, everybody: People) -> None:
        assert isinstance(everybody, Machines)
        for machine in everybody.machines:
            assert machine.up and not machine.runs, f"{machine.name} runs {list(machine.runs)}"
            assert outbox.waiting_devices(machine.person.db) == [], f"{machine.name} has something to send"
            assert not list(dispatches.awaited_files(machine.person.db)), f"files never came to {machine.name}"
            self._check_files(machine)
        for dispatch_id, (sender, recipient) in self.sent.items():
            self._check_one(dispatch_id, sender, recipient)
        kept = sum(len(dispatches.in_states(node.person.db, "sent", tuple(FINAL))) for node in everybody.nodes)
        assert kept == len(self.sent), "a dispatch that nobody was told of was sent, or one was lost"

    def _check_files(self, machine: Machine) -> None:
        """What came is what was sent; and whatever is whole is what its name says."""
        for path in machine.person.context.blobs.folder.glob("??/*"):
            if path.suffix != ".part":
                assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name, "another file"
                self.happened["files equal"] += path.name not in self._made[machine.name]
