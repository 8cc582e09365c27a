"""A person's node on paths: the NetworkStack of a real one on simulated networks; its process dies and begins anew.

What a person and their agents do is the other simulation's (tests/simulation/nodes.py), as are clocks and disks.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, cast

import trio

from peer.machine.broker_list import BrokerSignIn
from peer.machine.networks import NetworkWatch
from peer.machine.settings import RELAYS_OF_BROKER, Settings
from peer.machine.supervision import supervise
from peer.mesh.host import MeshHost
from peer.mesh.lan import Lan
from peer.node.deadlines import Deadlines
from peer.node.network_stack import NetworkStack
from peer.protocol.errors import Unavailable
from peer.steps import running
from peer.steps.effects import DeadlineSet, Effect, Effects, StopRun, StopRunsOfEdge
from peer.steps.journal import Journal
from peer.store import connection
from peer.store.database import Store
from tests.simulation.nodes import SCOPE, Node
from tests.simulation.nodes import People as Everybody
from tests.simulation.paths.near import SimulatedLan
from tests.simulation.paths.reach import PORT, Reach
from tests.simulation.paths.relays import SECRET
from tests.simulation.paths.virtual import VirtualWorld
from tests.steps.people import connect

T = TypeVar("T")

RESTARTED_AFTER = 5.0
"""Seconds after which a service manager starts a process again that has ended."""


class SimulatedStore:
    """A node's store on one connection, without threads. A crash comes before a commit, or before its effects."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    async def write(self, step: Callable[[sqlite3.Connection], T]) -> T:
        machine = self._machine
        await self._pause()
        if machine.world.now < machine.failing_until:
            raise Unavailable("the disk is full", fix="free some space")
        with connection.writing(machine.person.db) as db:
            value = step(db)
        if not machine.reach.still:
            await self._pause()
        return value

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        if not self._machine.reach.still:
            await self._pause()
        return query(self._machine.person.db)

    async def _pause(self) -> None:
        """Wait shortly, and while the machine sleeps; like the real one not to be cancelled, but by a crash."""
        machine, life = self._machine, self._machine.life
        with trio.CancelScope(shield=True) as scope:
            machine.stepping.add(scope)
            try:
                await trio.sleep(10 ** machine.world.random.uniform(-4, -1.5))
                if machine.name in machine.reach.asleep:
                    await machine.reach.until(lambda: machine.name not in machine.reach.asleep)
            finally:
                machine.stepping.discard(scope)
        if life != machine.life:
            await trio.sleep_forever()


class Watch:
    """In place of NetworkWatch: what the world says of this machine's networks and sleep."""

    def __init__(self, changed: Callable[[], None], woke: Callable[[], None]) -> None:
        self.changed, self.woke = changed, woke

    async def run(self) -> None:
        await trio.sleep_forever()


class Machine(Node):
    """`up`: its process runs. Everything below `_run` ends with it."""

    def __init__(self, network: Machines, folder: Path, name: str) -> None:
        super().__init__(network, folder, name)
        self.reach = network.reach
        self.everybody = network
        store = cast(Store, SimulatedStore(self))
        self.person.context = dataclasses.replace(self.person.context, store=store)
        self.stepping: set[trio.CancelScope] = set()
        self.host: MeshHost | None = None
        self.network_stack: NetworkStack | None = None
        self.settings = Settings(map_port="off")
        self.up = False
        self.noticed = 0.0
        """When it last saw another network, or that it slept."""
        self._over = trio.Event()
        self._over.set()
        self._scope = trio.CancelScope()

    @property
    def device(self) -> str:
        return self.person.device

    # --- life

    def start(self) -> None:
        if self.world.now < self.failing_until:  # it ends at once, and its service manager starts it again
            self.world.later(RESTARTED_AFTER, self.start)
            return
        self.up = True
        self.everybody.nursery.start_soon(self._live)

    def crash(self, seconds: float, *, powerless: bool = False) -> None:
        if not self.up:
            return
        self.up = False
        self.life += 1
        self.runs.clear()
        self.host = self.network_stack = None
        self.reach.kill(self.name, powerless=powerless)
        for scope in tuple(self.stepping):
            scope.cancel()
        self._scope.cancel()
        self.world.later(seconds, self.start)

    async def ended(self) -> None:
        """Wait until nothing of its process is left."""
        await self._over.wait()

    async def _live(self) -> None:
        await self._over.wait()
        self._over = trio.Event()
        self.reach.begin(self.name)
        try:
            with trio.CancelScope() as self._scope:
                await self._run()
        finally:
            self._over.set()

    async def _run(self) -> None:
        """As Node.running."""
        life = self.life
        journal = Journal(self.person.context, lambda effects: self._apply(list(effects)))
        self._deadlines = Deadlines(journal)
        stack = self._stack = NetworkStack(
            journal,
            [f"/ip4/0.0.0.0/tcp/{PORT}"],
            lambda: self.settings,
            lambda _broker, _token: None,
            people_changed=lambda: None,
            lan=cast(Lan, SimulatedLan(self.reach, self.name)),
            watch=lambda changed, woke: cast(NetworkWatch, Watch(changed, woke)),
            jitter=self.world.random.random,
        )
        self.step(running.interrupt_all)
        try:
            await stack.prepare()
        except Unavailable:  # the disk is full: it ends, and its service manager starts it again
            self.crash(RESTARTED_AFTER)
            return
        async with stack.host.running(), trio.open_nursery() as nursery:
            stack.start(nursery)
            nursery.start_soon(supervise, "deadlines", self._deadlines.run)
            async with stack.exchanging(nursery):
                if life == self.life:
                    self.host, self.network_stack = stack.host, stack
                await trio.sleep_forever()

    def use_brokers(self, urls: Sequence[str], *, chosen_relays: bool) -> None:
        """Be signed in at these. `chosen_relays`: and at relays that this person chose, not those of brokers."""
        first, *others = (BrokerSignIn(url=url, token="t") for url in urls)
        self.settings = Settings(
            broker=first.url,
            token=first.token,
            brokers=tuple(others),
            relays=tuple(self.reach.relays) if chosen_relays else (RELAYS_OF_BROKER,),
            relay_token=SECRET.decode() if chosen_relays else "",
            map_port="off",
        )

    @property
    def brokers(self) -> list[str]:
        return [each.url for each in self.settings.sign_ins]

    def soon(self, action: Callable[[], None]) -> None:
        super().soon(lambda: self.reach.act_as(self.name, action))

    # --- what follows a step

    def _apply(self, effects: Sequence[Effect]) -> None:
        """As Node._apply."""
        for effect in effects:
            match effect:
                case StopRun(dispatch_id):
                    self._stop(dispatch_id)
                case StopRunsOfEdge(edge_id):
                    for dispatch_id in list(self.runs):
                        if self.person.row(dispatch_id).edge_id == edge_id:
                            self._stop(dispatch_id)
                case DeadlineSet(at):
                    self._deadlines.consider(at)
                case _:
                    pass
        self._stack.apply(Effects(effects))

    def expire(self) -> None:
        """Deadlines do it."""

    def stands_still(self) -> bool:
        return self.name in self.reach.asleep or self.host is None or super().stands_still()

    # --- what happens to the machine

    def sleep(self, seconds: float) -> None:
        """Do nothing for a while; connections are found dead afterwards, as others see them now."""
        reach = self.reach
        if self.name in reach.asleep:
            return
        reach.asleep.add(self.name)
        reach.wakes[self.name] += 1
        for line in reach.lines:
            line.stale = line.stale or self.name in line.names
        reach.changed(self.name)

        def wake() -> None:
            reach.asleep.discard(self.name)
            reach.moved_at[self.name] = self.world.now
            reach.changed(self.name)
            self.notices()

        self.world.later(seconds, wake)

    def notices(self) -> None:
        """See some time later that the networks are others than before, or that it slept."""

        def notice() -> None:
            if self.network_stack is not None:
                self.noticed = self.world.now
                self.network_stack.waking.wake()

        if self.up:
            self.soon(notice)


class Machines(Everybody):
    """All of them on their networks. `nursery`: in which they run."""

    def __init__(self, world: VirtualWorld, folder: Path, reach: Reach, nursery: trio.Nursery) -> None:
        super().__init__(world, folder)
        self.reach = reach
        self.nursery = nursery
        self.pairs: dict[frozenset[str], tuple[Machine, Machine]] = {}
        self.of_user: dict[str, Machine] = {}
        self.met_at: dict[frozenset[str], set[str]] = {}
        """Pair → the brokers by which they found each other."""

    def machine(self, name: str) -> Machine:
        machine = self.devices[name]
        assert isinstance(machine, Machine)
        return machine

    @property
    def machines(self) -> list[Machine]:
        return [self.machine(name) for name in self.devices]

    def add(self, name: str) -> Node:
        machine = Machine(self, self.folder, name)
        self.devices[name] = machine
        self.names[machine.device] = name
        self.of_user[machine.person.user] = machine
        self.reach.devices[machine.device] = name
        self.reach.move(name)
        return machine

    def trust(self, sender: Node, recipient: Node) -> None:
        assert isinstance(sender, Machine) and isinstance(recipient, Machine)
        common = [url for url in sender.brokers if url in recipient.brokers]
        where = self.world.random.choice(common)
        connect(sender.person, recipient.person, SCOPE, broker=where)
        sender.trusted_by.append(recipient)
        self.pairs.setdefault(frozenset((sender.name, recipient.name)), (sender, recipient))
        self.met_at.setdefault(frozenset((sender.name, recipient.name)), set()).add(where)
        for one in (sender, recipient):
            one.person.effects = type(one.person.effects)()
