"""People's nodes in virtual time: the real store, steps and courier machines; a model of networks, disks, runs, people.

Everything that a node decides is the product's own code (peer.steps, peer.store, peer.mesh.courier). Modelled is what
carries it out: processes that die between any two things they do, clocks that are wrong, machines that sleep, networks
that delay, break and part, agents that work for a while, people who answer some time.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

from peer.mesh.courier import events
from peer.node.deadlines import _expire_overdue
from peer.protocol import cose, names, payloads
from peer.protocol.acknowledgements import Acknowledgement
from peer.protocol.errors import DispatchError
from peer.steps import granting, hellos, inbound, receiving, running, sending
from peer.steps.effects import DeadlineSet, Effect, FetchFiles, StopRun, StopRunsOfEdge, Wake
from peer.steps.transaction import Transaction
from peer.store import dispatches, outbox
from peer.trust.scopes import Scope
from tests.mesh.courier_simulation import Device, Network, Sending, World
from tests.mesh.outbox_model import Queued
from tests.steps.people import START, Clock, Person, connect

T = TypeVar("T")
SCOPE = Scope(tools=("Read",), max_per_day=1000)
EVENT = '{"kind":"reasoning","text":"hm"}'


@dataclass
class SkewedClock(Clock):
    """A person's wall clock: the world's time, and how wrong it is. Milliseconds since the epoch."""

    world: World
    skew: float = 0.0
    """Seconds."""

    def __call__(self) -> int:
        return START + int((self.world.now + self.skew) * 1000)


@dataclass
class Run:
    """An agent at work, which ends with its process."""

    dispatch_id: str
    attempt: int
    life: int
    stopped: bool = False


class Node(Device):
    """One person's machine. What `person` stored survives a crash; machines, runs and everything begun do not."""

    def __init__(self, network: People, folder: Path, name: str) -> None:
        super().__init__(network.world, name)
        self.network = network
        self.clock = SkewedClock(network.world)
        self.person = Person(folder, name, self.clock, seed=name)
        # A process that dies rolls back what it had not committed; nothing here cuts the power of a disk.
        self.person.db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self.person.db.execute("PRAGMA journal_mode = MEMORY")
        self.up = True
        self.trusted_by: list[Node] = []
        """Whom it may send to."""
        self.runs: dict[str, Run] = {}
        self.finished: Counter[str] = Counter()
        """Dispatch → runs of it whose end was stored."""
        self.failing_until = 0.0
        self._hello = b""
        self._expiry = math.inf

    def start(self) -> None:
        """The process begins, as Node.running does: what was interrupted is put back, everybody is greeted."""
        self.up = True
        self.step(running.interrupt_all)
        self._hello = self.step(hellos.make)
        self.expire()
        for sending_ in self.sendings.values():
            sending_.asked += 1
            sending_.feed(events.GreetingAsked())
            sending_.feed(events.Woken())
        self._fetch_files()

    def crash(self, seconds: float) -> None:
        """The process ends between two things it does; another one begins after a while."""
        if not self.up:
            return
        self.up = False
        self.life += 1
        self.runs.clear()
        self.inbound.clear()
        self._busy.clear()
        self._turns.clear()
        for sending_ in self.sendings.values():
            self.network.drop(self.name, sending_.peer.name)
            sending_.die()
        self.world.later(seconds, self.start)

    def soon(self, action: Callable[[], None]) -> None:
        """Some time later, if this process still lives then."""
        life = self.life
        self.world.soon(lambda: action() if self.up and life == self.life else None)

    # --- steps

    def step(self, work: Callable[[Transaction], T]) -> T:
        """One durable step; what follows it happens some time later, or never."""
        value = self.person.step(work)
        effects = list(self.person.effects)
        self.person.effects = type(self.person.effects)()
        self.soon(lambda: self._apply(effects))
        return value

    def _apply(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Wake(device):
                    peer = self.network.names[device]
                    if peer in self.sendings:
                        self.sendings[peer].feed(events.Woken())
                case StopRun(dispatch_id):
                    self._stop(dispatch_id)
                case StopRunsOfEdge(edge_id):
                    for dispatch_id in list(self.runs):
                        if self.person.row(dispatch_id).edge_id == edge_id:
                            self._stop(dispatch_id)
                case FetchFiles():
                    self._fetch_files()
                case DeadlineSet(at):
                    self._expire_at(at)
                case _:
                    pass

    def _stop(self, dispatch_id: str) -> None:
        if (run := self.runs.pop(dispatch_id, None)) is not None:
            run.stopped = True

    def expire(self) -> None:
        self._expiry = math.inf
        upcoming = self.step(_expire_overdue)
        if upcoming is not None:
            self._expire_at(upcoming)

    def _expire_at(self, at: float) -> None:
        if at >= self._expiry:
            return
        self._expiry = at
        life = self.life

        def due() -> None:
            if self.up and life == self.life and self._expiry == at:
                self.expire()

        self.world.later(max((at - self.clock()) / 1000, 0.0) + 0.001, due)

    # --- what comes

    def hello_to(self, peer: str) -> bytes:
        return self._hello

    def take_hello(self, peer: str, raw: bytes) -> None:
        try:
            self.step(lambda tx: hellos.take(tx, self.network.node(peer).person.device, raw))
        except DispatchError:
            return  # logged there
        self.hellos.add(peer)

    def receive(self, peer: str, raw: bytes) -> Acknowledgement:
        if self.world.now < self.failing_until:
            return Acknowledgement(503, "the disk is full")
        return self.step(lambda tx: inbound.take(tx, self.network.node(peer).person.device, raw))

    def _fetch_files(self) -> None:
        """Files come over a connection that stands; a fetch that breaks is begun again."""
        for device, item in dispatches.awaited_files(self.person.db):
            peer = self.network.names[device]
            if not self.network.connected(self.name, peer):
                self.world.later(30.0, lambda: self._fetch_files() if self.up else None)
                return

            def arrived(item=item) -> None:  # type: ignore[no-untyped-def]
                if any(item == awaited for _, awaited in dispatches.awaited_files(self.person.db)):
                    self.step(lambda tx: receiving.on_file_arrived(tx, item))

            self.soon(arrived)

    # --- what a person does

    def stands_still(self) -> bool:
        """Whether nothing can be stored now."""
        return self.world.now < self.failing_until

    def attempt(self, work: Callable[[Transaction], T]) -> T | None:
        """A step that a person asks for; refused, it does nothing."""
        if not self.up or self.stands_still():
            return None
        try:
            return self.step(work)
        except DispatchError:
            return None

    def send(self, other: Node, draft: sending.Draft) -> str:
        """Compose a dispatch; return its id, which is how a person is told that it was sent; "" for a refusal."""
        made = self.attempt(lambda tx: sending.compose(tx, draft))
        return "" if made is None else made.row.dispatch_id

    def accept(self, dispatch_id: str, works: float, events_: int) -> None:
        """Accept what waits, and have an agent work at it for so many seconds."""
        accepted = self.attempt(lambda tx: receiving.accept(tx, dispatch_id, cwd=""))
        if accepted is None:
            return
        run = Run(dispatch_id, accepted[0].attempt, self.life)
        assert dispatch_id not in self.runs, "two runs of one dispatch at a time"
        self.runs[dispatch_id] = run
        self.soon(lambda: self._work(run, works, events_))

    def _alive(self, run: Run) -> bool:
        return self.up and run.life == self.life and not run.stopped

    def _work(self, run: Run, seconds: float, left: int) -> None:
        if not self._alive(run):
            return
        if self.stands_still():  # as at its end
            self.world.later(2.0, lambda: self._work(run, seconds, left))
            return
        begun = self.attempt(lambda tx: running.start(tx, run.dispatch_id, run.attempt))
        if begun is None and self.person.row(run.dispatch_id).state != "running":
            self.runs.pop(run.dispatch_id, None)
            return
        for number in range(left):
            self.world.later(seconds * (number + 1) / (left + 1), lambda: self._report(run))
        self.world.later(seconds, lambda: self._finish(run))

    def _report(self, run: Run) -> None:
        if self._alive(run):
            self.attempt(lambda tx: running.record(tx, run.dispatch_id, run.attempt, [EVENT], [EVENT]))

    def _finish(self, run: Run) -> None:
        if not self._alive(run):
            return
        if self.stands_still():  # the recorder tries again
            self.world.later(2.0, lambda: self._finish(run))
            return

        def finish(tx: Transaction) -> bool:
            running.finish(tx, run.dispatch_id, run.attempt, "completed", reply="done", usage={"turns": 1})
            return True

        if self.attempt(finish):
            self.finished[run.dispatch_id] += 1
        self.runs.pop(run.dispatch_id, None)

    def decline(self, dispatch_id: str) -> None:
        self.attempt(lambda tx: receiving.decline(tx, dispatch_id, reason="not now"))

    def cancel(self, dispatch_id: str) -> None:
        self.attempt(lambda tx: sending.cancel(tx, dispatch_id, reason="changed my mind"))

    def revoke(self, other: Node) -> None:
        self.attempt(lambda tx: granting.revoke(tx, other.person.user))


@dataclass
class Delivery(Sending):
    """A sender whose outbox is the store's."""

    says_hello: bool = True

    @property
    def node(self) -> Node:
        assert isinstance(self.device, Node)
        return self.device

    def _choose(self, command: events.FetchNext) -> Queued | None:
        assert isinstance(self.peer, Node)
        found = outbox.next_for(
            self.node.person.db,
            self.peer.person.device,
            excluded_numbers=[int(key) for key in command.keys],
            excluded_orderings=command.orderings,
        )
        if found is None:
            return None
        queued = Queued(found.n, found.priority, found.ordering, found.raw)
        self.queue[found.n] = queued
        return queued

    def _others_wait(self, command: events.FetchNext, found: Queued | None) -> bool:
        assert isinstance(self.peer, Node)
        numbers = [*map(int, command.keys), *([] if found is None else [found.n])]
        return outbox.others_wait(self.node.person.db, self.peer.person.device, numbers)

    def _queued(self, raw: bytes) -> Queued:
        return next(queued for queued in self.queue.values() if queued.raw == raw)

    def _commit(self, command: events.StoreFinal) -> None:
        def step(tx: Transaction) -> None:
            item = outbox.get(tx.db, int(command.key))
            if item is not None:
                sending.on_acknowledged(tx, item, command.acknowledgement)

        self.node.step(step)
        self.queue.pop(int(command.key), None)


class People(Network):
    """All of them, and who may send to whom."""

    def __init__(self, world: World, folder: Path) -> None:
        super().__init__(world)
        self.folder = folder
        self.names: dict[str, str] = {}
        """Device → whose it is."""

    def node(self, name: str) -> Node:
        node = self.devices[name]
        assert isinstance(node, Node)
        return node

    @property
    def nodes(self) -> list[Node]:
        return [self.node(name) for name in self.devices]

    def add(self, name: str) -> Node:
        node = Node(self, self.folder, name)
        self.devices[name] = node
        self.names[node.person.device] = name
        return node

    def trust(self, sender: Node, recipient: Node) -> None:
        """`recipient` has granted `sender` an edge, some time before."""
        connect(sender.person, recipient.person, SCOPE)
        sender.trusted_by.append(recipient)
        for one, other in ((sender, recipient), (recipient, sender)):
            one.person.effects = type(one.person.effects)()
            if other.name not in one.sendings:
                one.sendings[other.name] = Delivery(self, one, other)

    def connect(self, a: str, b: str) -> bool:
        if not (self.node(a).up and self.node(b).up):
            return False
        if a not in self.node(b).sendings:
            return False
        return super().connect(a, b)

    def start(self) -> None:
        for node in self.nodes:
            node.start()


@contextmanager
def opened_once() -> Iterator[None]:
    """Have the bytes of a statement decoded and verified once, however often they are opened: half of the time."""

    def remembered(module: object, name: str, key: Callable[..., object]) -> Any:
        work, known = getattr(module, name), {}

        def once(*given: Any) -> Any:
            what = key(*given)
            if what not in known:  # what raises is not remembered
                known[what] = work(*given)
            return known[what]

        return mock.patch.object(module, name, once)

    with (
        remembered(cose, "parse", lambda raw: raw),
        remembered(cose, "verify", lambda envelope, key: (envelope.raw, key)),
        remembered(payloads, "decode", lambda payload, versions: (payload, id(versions))),
        remembered(names, "peer_id_text", lambda raw: raw),
        remembered(names, "peer_id_bytes", lambda text: text),
    ):
        yield


@contextmanager
def people(world: World, folder: Path) -> Iterator[People]:
    """A world of people, whose stores are closed at its end."""
    made = People(world, folder)
    try:
        with opened_once():
            yield made
    finally:
        for node in made.nodes:
            node.person.db.close()
