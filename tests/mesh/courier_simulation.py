"""Couriers of several devices in virtual time: the real machines, and a model of everything around them.

The model is outboxes and nodes that keep what they stored, a network that delays and breaks, and disturbances. Each
sender is watched from outside: `Sending.check` knows from the commands alone what is out, and does not ask the machine.
Nothing here waits for real time; a minute of two devices takes milliseconds.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import assert_never

from peer.mesh.courier import CourierLimits, events, wire
from peer.mesh.courier.events import ReceiverCommand, SenderCommand, SenderEvent
from peer.mesh.courier.receiver import InboundStream
from peer.mesh.courier.sender import PeerSender
from peer.protocol.acknowledgements import Acknowledgement
from tests.mesh.outbox_model import Queued, choose, others_wait

LIMITS = CourierLimits(in_flight=4, in_flight_bytes=1000, retries_waiting=6)
"""Small, so that a few statements reach them."""


class World:
    """Virtual time and what is going to happen in it."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.random = random.Random(seed)
        self.log: list[str] = []
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, time: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (time, next(self._order), action))

    def later(self, delay: float, action: Callable[[], None]) -> None:
        self.at(self.now + delay, action)

    def soon(self, action: Callable[[], None]) -> None:
        """After a delay that is mostly milliseconds and at times seconds."""
        self.later(10 ** self.random.uniform(-3.5, 0.3), action)

    def jump(self, seconds: float) -> None:
        """The machine was suspended: what was due meanwhile happens late, all at once."""
        self.now += seconds

    def run(self, until: float) -> None:
        while self._agenda and self._agenda[0][0] <= until:
            at, _, action = heapq.heappop(self._agenda)
            self.now = max(self.now, at)
            action()

    @property
    def idle(self) -> bool:
        return not self._agenda


@dataclass(frozen=True)
class Letter:
    """A statement as the test thinks of it: the codes that it gets before its final one, and that one."""

    queued: Queued
    codes: tuple[int, ...]
    final: int


class Device:
    """A device: its outboxes and what its node stored survive a restart, its machines do not."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.sendings: dict[str, Sending] = {}
        self.inbound: dict[str, Inbound] = {}
        self.letters: dict[bytes, Letter] = {}
        """All that are sent to anybody, by content; shared, so that the receiver knows how to reply."""
        self.seen: dict[bytes, Acknowledgement] = {}
        self.arrived: dict[tuple[str, str], list[int]] = {}
        """(Sender, ordering) → numbers in the order in which they were finally acknowledged."""
        self.hellos: set[str] = set()
        self.mute_until = 0.0
        self.life = 0
        """Counts the processes of this device, of which each ends with what it had begun."""
        self._tries: dict[bytes, int] = {}
        self._busy: set[str] = set()
        self._turns: dict[str, deque[Callable[[], None]]] = {}

    def take_turn(self, peer: str, work: Callable[[], None]) -> None:
        """One statement or hello of a peer at a time. `work` ends with end_turn."""
        self._turns.setdefault(peer, deque()).append(work)
        self._next_turn(peer)

    def end_turn(self, peer: str) -> None:
        self._busy.discard(peer)
        self._next_turn(peer)

    def _next_turn(self, peer: str) -> None:
        if peer not in self._busy and self._turns.get(peer):
            self._busy.add(peer)
            self._turns[peer].popleft()()

    def hello_to(self, peer: str) -> bytes:
        return self.name.encode()

    def take_hello(self, peer: str, raw: bytes) -> None:
        assert raw.decode() == peer
        self.hellos.add(peer)

    def receive(self, peer: str, raw: bytes) -> Acknowledgement:
        """The node: the same bytes get the same final acknowledgement, however often they come."""
        if raw in self.seen:
            return self.seen[raw]
        letter = self.letters[raw]
        tries = self._tries[raw] = self._tries.get(raw, 0) + 1
        if tries <= len(letter.codes):
            return Acknowledgement(letter.codes[tries - 1])
        self.seen[raw] = Acknowledgement(letter.final, f"try {tries}")
        if letter.queued.ordering:
            self.arrived.setdefault((peer, letter.queued.ordering), []).append(letter.queued.n)
        return self.seen[raw]


class Pipe:
    """One stream: frames arrive in order, each after a delay, until it breaks. Each side learns of that by itself."""

    def __init__(self, world: World, opener: Sending, other: Device, number: int) -> None:
        self.number = number
        self._world = world
        self._opener = opener
        self._other = other
        self._inbound: Inbound | None = None
        self._arrives = {"opener": 0.0, "other": 0.0}
        self._ended: set[str] = set()
        self.broken = False

    def _deliver(self, side: str, action: Callable[[], None]) -> None:
        at = max(self._arrives[side], self._world.now + 10 ** self._world.random.uniform(-3.5, 0.0))
        self._arrives[side] = at
        self._world.at(at, lambda: None if side in self._ended else action())

    def open(self) -> None:
        self._deliver("other", lambda: setattr(self, "_inbound", Inbound(self._world, self._other, self._opener, self)))

    def to_other(self, frame: wire.OwnFrame) -> None:
        self._deliver("other", lambda: self._inbound.read(frame))  # type: ignore[union-attr]

    def to_opener(self, frame: wire.Frame) -> None:
        self._deliver("opener", lambda: self._opener.feed(events.FrameReceived(self.number, frame)))

    def end(self) -> None:
        if not self.broken:
            self.broken = True
            self._world.soon(self.end_at_opener)
            self._world.soon(self.end_at_other)

    def end_at_opener(self) -> None:
        self.broken = True
        if "opener" not in self._ended:
            self._ended.add("opener")
            self._opener.feed(events.StreamEnded(self.number, "broken"))

    def end_at_other(self) -> None:
        self.broken = True
        self._ended.add("other")


class Inbound:
    """The other side's end of a stream, carrying out what InboundStream asks for."""

    def __init__(self, world: World, device: Device, opener: Sending, pipe: Pipe) -> None:
        self._world = world
        self._device = device
        self._peer = opener.device.name
        self._pipe = pipe
        self._life = device.life
        self._machine = InboundStream(pipe.number, hello=device.hello_to(self._peer))
        self._frames: deque[wire.OwnFrame] = deque()
        self._waiting: deque[ReceiverCommand] = deque()
        self._working = False
        self._hello_came = False
        older = device.inbound.get(self._peer)
        if older is not None:
            older._pipe.end_at_other()
            older._pipe.end()
        device.inbound[self._peer] = self

    def read(self, frame: wire.OwnFrame) -> None:
        self._frames.append(frame)
        self._go_on()

    def _go_on(self) -> None:
        if self._working or self._life != self._device.life:
            return
        if self._world.now < self._device.mute_until:
            self._working = True
            self._world.at(self._device.mute_until, self._done)
        elif self._waiting:
            self._carry_out(self._waiting.popleft())
        elif self._frames:
            received = events.FrameReceived(self._pipe.number, self._frames.popleft())
            self._waiting.extend(self._machine.handle(received))
            self._go_on()

    def _done(self) -> None:
        self._working = False
        self._go_on()

    def _carry_out(self, command: ReceiverCommand) -> None:
        match command:
            case events.SendFrame(_, frame):
                if not self._pipe.broken:
                    self._pipe.to_opener(frame)
                self._go_on()
            case events.DeliverHello(raw):
                self._hello_came = True
                self._device.take_hello(self._peer, raw)
                self._go_on()
            case events.Receive(raw):
                assert self._hello_came, "a statement before the hello of its stream"
                self._working = True
                self._device.take_turn(self._peer, lambda: self._world.soon(lambda: self._received(raw)))
            case events.ResetStream():
                raise AssertionError("an honest sender was reset")
            case _:
                assert_never(command)

    def _received(self, raw: bytes) -> None:
        if self._life != self._device.life:
            return
        reply = self._device.receive(self._peer, raw)
        # Stored; the acknowledgement goes out some time later, or never.
        self._world.soon(lambda: self._answer(reply))

    def _answer(self, reply: Acknowledgement) -> None:
        if self._life != self._device.life:
            return
        self._waiting.extend(self._machine.handle(events.Received(reply)))
        self._device.end_turn(self._peer)
        self._done()


class Network:
    """Who is connected to whom. A pair that is cut can neither dial nor keep a connection."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.devices: dict[str, Device] = {}
        self.pipes: list[Pipe] = []
        self._connected: set[frozenset[str]] = set()
        self._cut: dict[frozenset[str], float] = {}

    def connected(self, a: str, b: str) -> bool:
        return frozenset((a, b)) in self._connected

    def connect(self, a: str, b: str) -> bool:
        pair = frozenset((a, b))
        if self.world.now < self._cut.get(pair, 0.0):
            return False
        if pair not in self._connected:
            self._connected.add(pair)
            for one, other in ((a, b), (b, a)):
                self.devices[one].sendings[other].feed(events.PeerConnected())
        return True

    def join(self, a: str, b: str) -> None:
        """One of them connects of its own accord, if it can."""
        self.connect(a, b)

    def drop(self, a: str, b: str) -> None:
        self._connected.discard(frozenset((a, b)))
        for pipe in self.pipes:
            if {pipe._opener.device.name, pipe._other.name} == {a, b}:
                pipe.end()
        self.pipes = [pipe for pipe in self.pipes if not pipe.broken]

    def cut(self, a: str, b: str, seconds: float) -> None:
        self._cut[frozenset((a, b))] = self.world.now + seconds
        self.drop(a, b)


@dataclass
class Sending:
    """One device's sender to one peer: outbox and record, which are durable, and the machine, which is not."""

    network: Network
    device: Device
    peer: Device
    queue: dict[int, Queued] = field(default_factory=dict)
    final: dict[str, Acknowledgement] = field(default_factory=dict)
    """Key → the final acknowledgement that was stored."""
    settled: dict[str, list[int]] = field(default_factory=dict)
    """Ordering → numbers in the order in which their final acknowledgement was stored."""
    purged: set[int] = field(default_factory=set)
    dials: list[float] = field(default_factory=list)
    asked: int = 0
    """Greetings and restarts, each of which may dial once more."""
    failing_until: float = 0.0
    says_hello: bool = False

    def __post_init__(self) -> None:
        self.world = self.network.world
        self._life = 0
        self._begin()

    def _begin(self) -> None:
        self._life += 1
        self.machine = PeerSender(LIMITS, says_hello=self.says_hello)
        self._pipe: Pipe | None = None
        self._out: dict[int, Queued] = {}
        self._storing: dict[str, Queued] = {}
        self._to_store: deque[events.StoreFinal | events.StoreRetry] = deque()
        self._timer = float("inf")
        self._fetches = self._writes = 0
        self._hello_came = False
        self._not_before: dict[str, float] = {}
        """Key → until when a statement that got a retry code must wait, unless the peer shows up."""

    # --- from outside

    def put(self, queued: Queued) -> None:
        self.queue[queued.n] = queued
        self.feed(events.Woken())

    def wake(self) -> None:
        self.feed(events.Woken())

    def purge(self, n: int) -> None:
        if self.queue.pop(n, None) is not None:
            self.purged.add(n)

    def break_stream(self) -> None:
        if self._pipe is not None:
            self._pipe.end()

    def restart(self) -> None:
        """The process ended and begins again."""
        self.die()
        self.asked += 1
        self.feed(events.Woken())

    def die(self) -> None:
        """The process ended. Its streams break; what was being stored was stored or was not."""
        if self._pipe is not None:
            self._pipe.end_at_other()
            self._pipe._ended.add("opener")
        self._begin()

    def greet(self) -> None:
        self.asked += 1
        self.feed(events.GreetingAsked())

    def renew(self) -> None:
        self.feed(events.Renewed())

    def lie(self, frames: list[wire.Frame]) -> None:
        """The peer sends what it should not."""
        if self._pipe is not None and not self._pipe.broken:
            for frame in frames:
                self._pipe.to_opener(frame)

    # --- the machine and its commands

    def feed(self, event: SenderEvent) -> None:
        before = self.machine.link
        commands = self.machine.handle(event, now=self.world.now, jitter=self.world.random.random())
        self.world.log.append(
            f"{self.world.now:9.3f} {self.device.name}→{self.peer.name} {event} [{before.value}→"
            f"{self.machine.link.value}] {commands}"
        )
        if isinstance(event, events.StreamEnded) and self._pipe and event.stream == self._pipe.number:
            self._stream_is_gone()
        if isinstance(event, events.PeerConnected):
            self._not_before.clear()
        for command in commands:
            self._carry_out(command)
        self.check()

    def _stream_is_gone(self) -> None:
        self._pipe = None
        self._out.clear()
        self._writes = 0

    def check(self) -> None:
        """What must hold at any time, seen from outside."""
        out = [*self._out.values(), *self._storing.values()]
        assert len(out) <= LIMITS.in_flight
        assert len(out) == 1 or sum(len(each.raw) for each in out) <= LIMITS.in_flight_bytes
        orderings = [each.ordering for each in out if each.ordering]
        assert len(orderings) == len(set(orderings)), "two statements of one ordering are out"
        assert len({each.n for each in out}) == len(out), "a statement is out twice"
        assert self._fetches <= 1 and self._writes <= 1
        waiting = sum(until > self.world.now for until in self._not_before.values())
        assert waiting <= LIMITS.retries_waiting + LIMITS.in_flight, "too many wait for another try"

    def _soon(self, action: Callable[[], None]) -> None:
        life = self._life
        self.world.soon(lambda: action() if life == self._life else None)

    def _carry_out(self, command: SenderCommand) -> None:
        match command:
            case events.FetchNext():
                self._fetches += 1
                self._soon(lambda: self._fetch(command))
            case events.Dial():
                self.dials.append(self.world.now)
                self._soon(self._dialed)
            case events.OpenStream(number):
                self._soon(lambda: self._open(number))
            case events.SendFrame():
                self._send(command)
            case events.ResetStream(number, _):
                assert self._pipe is not None and self._pipe.number == number
                self._pipe._ended.add("opener")
                self._pipe.end()
                self._stream_is_gone()
            case events.StoreFinal() | events.StoreRetry():
                self._take_for_storing(command)
            case events.DeliverHello(raw):
                self._hello_came = True
                self.device.take_hello(self.peer.name, raw)
            case events.SetTimer(at):
                self._set_timer(at)
            case _:
                assert_never(command)

    def _fetch(self, command: events.FetchNext) -> None:
        found = self._choose(command)
        more = self._others_wait(command, found)
        failing = self.world.now < self.failing_until

        def tell() -> None:
            self._fetches -= 1
            self.feed(events.FetchFailed() if failing else events.Fetched(found.item if found else None, more))

        self._soon(tell)

    def _choose(self, command: events.FetchNext) -> Queued | None:
        return choose(self.queue.values(), command.keys, command.orderings)

    def _others_wait(self, command: events.FetchNext, found: Queued | None) -> bool:
        return others_wait(self.queue.values(), command.keys, found)

    def _queued(self, raw: bytes) -> Queued:
        return self.peer.letters[raw].queued

    def _dialed(self) -> None:
        reached = self.network.connect(self.device.name, self.peer.name)
        self.feed(events.Connected() if reached else events.Unreachable())

    def _open(self, number: int) -> None:
        if not self.network.connected(self.device.name, self.peer.name):
            self.feed(events.StreamEnded(number, "not connected"))
            return
        self._pipe = Pipe(self.world, self, self.peer, number)
        self.network.pipes.append(self._pipe)
        self._pipe.open()
        self._hello_came = False
        self.feed(events.StreamOpened(number, self.device.hello_to(self.peer.name)))

    def _send(self, command: events.SendFrame) -> None:
        assert self._pipe is not None and self._pipe.number == command.stream
        pipe = self._pipe
        self._writes += 1
        if isinstance(command.frame, wire.StatementFrame):
            queued = self._queued(command.frame.raw)
            assert self.world.now >= self._not_before.pop(str(queued.n), 0.0), "a retry before its time"
            self._out[command.frame.seq] = queued
        pipe.to_other(command.frame)

        def written() -> None:
            if self._pipe is pipe:
                self._writes -= 1
                self.feed(events.FrameSent(pipe.number))

        self._soon(written)

    def _take_for_storing(self, command: events.StoreFinal | events.StoreRetry) -> None:
        assert self._hello_came, "an acknowledgement before the hello of its stream"
        (seq,) = [seq for seq, each in self._out.items() if str(each.n) == command.key]
        self._storing[command.key] = self._out.pop(seq)
        self._to_store.append(command)
        if isinstance(command, events.StoreRetry):
            self._not_before[command.key] = self.world.now + 0.75 * LIMITS.first_retry
        if len(self._to_store) == 1:
            self._soon(self._store)

    def _store(self) -> None:
        """Commit, and report it after a while in which the process may end."""
        command = self._to_store[0]
        stored = self.world.now >= self.failing_until
        if stored and isinstance(command, events.StoreFinal):
            self._commit(command)

        def tell() -> None:
            self._to_store.popleft()
            del self._storing[command.key]
            if self._to_store:
                self._soon(self._store)
            self.feed(events.Stored(command.key) if stored else events.StoreFailed(command.key))

        self._soon(tell)

    def _commit(self, command: events.StoreFinal) -> None:
        n = int(command.key)
        assert command.key not in self.final, "a final acknowledgement was stored twice"
        assert n in self.queue or n in self.purged
        self.final[command.key] = command.acknowledgement
        queued = self.queue.pop(n, None)
        if queued is not None and queued.ordering:
            self.settled.setdefault(queued.ordering, []).append(n)

    def _set_timer(self, at: float) -> None:
        assert at > self.world.now, "a timer that would fire for ever"
        self._timer = at
        life = self._life

        def fire() -> None:
            if life == self._life and self._timer == at:
                self.feed(events.TimerFired())

        self.world.at(at, fire)
