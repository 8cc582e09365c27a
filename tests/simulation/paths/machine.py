"""A person's node on paths: wired as peer/node/node.py does it, of the real classes; its process dies and begins anew.

What a person and their agents do is the other simulation's (tests/simulation/nodes.py), as are clocks and disks.
"""

from __future__ import annotations

import dataclasses
import sqlite3
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, cast

import trio

from peer.broker.brokers import Brokers
from peer.machine.networks import NetworkWatch
from peer.machine.supervision import supervise
from peer.mesh import blobs as blob_protocol
from peer.mesh.courier import Courier
from peer.mesh.host import MeshHost
from peer.mesh.lan import Lan
from peer.mesh.paths import PathKeeper
from peer.mesh.peer_record import Announcement
from peer.mesh.port_mapping import PortMapper
from peer.mesh.relays import Relays, Route
from peer.node.deadlines import Deadlines
from peer.node.delivery import BlobFetcher, Hellos, Receiver, StoredOutbox
from peer.node.people import AddressBook, Admission, People
from peer.node.waking import Waking
from peer.protocol.errors import Unavailable
from peer.steps import running
from peer.steps.effects import DeadlineSet, Effect, FetchFiles, PeopleChanged, StopRun, StopRunsOfEdge, Wake
from peer.steps.journal import Journal
from peer.store import connection, outbox
from peer.store.database import Store
from tests.simulation.nodes import SCOPE, Node
from tests.simulation.nodes import People as Everybody
from tests.simulation.paths.broker import SimulatedBroker
from tests.simulation.paths.near import SimulatedLan
from tests.simulation.paths.reach import Reach
from tests.simulation.paths.relays import SECRET
from tests.simulation.paths.virtual import VirtualWorld
from tests.steps.people import connect

T = TypeVar("T")


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
        await self._pause()
        return value

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        await self._pause()
        return query(self._machine.person.db)

    async def _pause(self) -> None:
        """Wait shortly, and while the machine sleeps; like the real one not to be cancelled, but by a crash."""
        machine, life = self._machine, self._machine.life
        with trio.CancelScope(shield=True) as scope:
            machine.stepping.add(scope)
            try:
                await trio.sleep(10 ** machine.world.random.uniform(-4, -1.5))
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


class NoPorts:
    """In place of the port mapper: there is no router."""

    def network_changed(self) -> None: ...


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
            self.world.later(5.0, self.start)
            return
        self.up = True
        self.everybody.nursery.start_soon(self._live)

    def crash(self, seconds: float, *, powerless: bool = False) -> None:
        if not self.up:
            return
        self.up = False
        self.life += 1
        self.runs.clear()
        self.host = None
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
        try:
            with trio.CancelScope() as self._scope:
                await self._run()
        finally:
            self._over.set()

    async def _run(self) -> None:
        """As Node.running."""
        context, everybody, life = self.person.context, self.everybody, self.life
        journal = Journal(context, lambda effects: self._apply(list(effects)))
        self._admission = admission = Admission(context)
        route = Route(proxy=lambda _host, _port: "", trusted=ssl.create_default_context)
        everybody.routes[id(route)] = self.name
        identity = context.identity
        self.relays = relays = Relays(
            seed=identity.seed,
            device=identity.device,
            sealing_key=identity.sealing_key,
            route=route,
            clock=self.clock,
        )
        lan = cast(Lan, SimulatedLan(self.reach, self.name))
        host = MeshHost(
            identity.seed,
            listen=[],
            admits=admission.admits,
            expects=admission.expects,
            party=admission.user_of,
            typed=admission.typed_of,
            relays=relays,
            lan=lan,
        )
        simulated = SimulatedBroker(
            self.reach, self.name, everybody.records, lambda: [*host.addresses(), *relays.addresses()]
        )
        brokers = cast(Brokers, simulated)
        addresses = AddressBook(context, simulated.presence_of)
        simulated.on_presence(addresses.remember)
        self.keeper = keeper = PathKeeper(host, addresses.of)
        receiver = Receiver(journal)
        greetings = Hellos(journal, tuple)
        self._courier = courier = Courier(
            host,
            outbox=StoredOutbox(journal),
            receive=receiver.receive,
            addresses=addresses.of,
            hello=greetings.own,
            on_hello=greetings.take,
            jitter=self.world.random.random,
        )
        self._people = people = People(admission, host, relays, lan, courier, brokers, addresses, announce=lambda: None)
        self._fetcher = fetcher = BlobFetcher(journal, host, people.connect)
        self.waking = waking = Waking(
            host=host,
            relays=relays,
            paths=keeper,
            ports=cast(PortMapper, NoPorts()),
            lan=lan,
            courier=courier,
            fetcher=fetcher,
            brokers=brokers,
            devices=lambda: admission.devices,
            waiting=lambda: journal.read(outbox.waiting_devices),
            watch=lambda changed, woke: cast(NetworkWatch, Watch(changed, woke)),
        )
        self._deadlines = deadlines = Deadlines(journal)
        blob_protocol.serve(host, receiver.lookup)
        simulated.on_return(waking.broker_returned)
        relays.on_changed(simulated.look)

        def on_connected(device: str) -> None:
            fetcher.on_connected(device)
            people.on_connected(device)

        host.on_connected(on_connected)

        self.step(running.interrupt_all)
        await greetings.renew()
        await admission.refresh()
        relays.set_contacts(admission.keys)
        lan.set_contacts(admission.readers, admission.keys)
        relays.set_relays(chosen=list(self.reach.relays), named=[], token=b"", secret=SECRET)
        async with host.running(), trio.open_nursery() as nursery:
            nursery.start_soon(supervise, "people", people.run)
            nursery.start_soon(supervise, "files", fetcher.run)
            nursery.start_soon(supervise, "deadlines", deadlines.run)
            nursery.start_soon(simulated.run, identity.device, identity.user_id)
            nursery.start_soon(supervise, "paths", keeper.run)
            async with courier.running():
                await waking.greet()
                nursery.start_soon(supervise, "waking", waking.run)
                if life == self.life:
                    self.host = host
                await trio.sleep_forever()

    # --- what follows a step

    def _apply(self, effects: Sequence[Effect]) -> None:
        """As Node._apply."""
        woken = [effect.device for effect in effects if isinstance(effect, Wake)]
        for effect in effects:
            match effect:
                case StopRun(dispatch_id):
                    self._stop(dispatch_id)
                case StopRunsOfEdge(edge_id):
                    for dispatch_id in list(self.runs):
                        if self.person.row(dispatch_id).edge_id == edge_id:
                            self._stop(dispatch_id)
                case FetchFiles():
                    self._fetcher.wake()
                case DeadlineSet(at):
                    self._deadlines.consider(at)
                case _:
                    pass
        if PeopleChanged() in effects:
            self._people.changed(frozenset(woken))
        else:
            for device in woken:
                self._courier.wake(device)

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
        reach.changed()

        def wake() -> None:
            reach.asleep.discard(self.name)
            reach.changed()
            self.notices()

        self.world.later(seconds, wake)

    def notices(self) -> None:
        """See some time later that the networks are others than before, or that it slept."""

        def notice() -> None:
            if self.host is not None:
                self.noticed = self.world.now
                self.waking.wake()

        if self.up:
            self.soon(notice)


class Machines(Everybody):
    """All of them on their networks. `nursery`: in which they run."""

    def __init__(self, world: VirtualWorld, folder: Path, reach: Reach, nursery: trio.Nursery) -> None:
        super().__init__(world, folder)
        self.reach = reach
        self.nursery = nursery
        self.records: dict[str, tuple[str, Announcement]] = {}
        self.routes: dict[int, str] = {}
        self.pairs: dict[frozenset[str], tuple[Machine, Machine]] = {}

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
        self.reach.devices[machine.device] = name
        self.reach.move(name)
        return machine

    def trust(self, sender: Node, recipient: Node) -> None:
        assert isinstance(sender, Machine) and isinstance(recipient, Machine)
        connect(sender.person, recipient.person, SCOPE)
        sender.trusted_by.append(recipient)
        self.pairs.setdefault(frozenset((sender.name, recipient.name)), (sender, recipient))
        for one in (sender, recipient):
            one.person.effects = type(one.person.effects)()
