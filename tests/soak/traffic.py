"""Constant traffic between two people's real daemons, and an account of it. The soaks are kills.py and steady.py.

Each person sends dispatches with a file to the other, and accepts what arrives; a run leaves one line with the
dispatch's name in a folder of its own and returns the file.
"""

from __future__ import annotations

import argparse
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from peer.protocol.errors import DispatchError
from tests.conftest import HANG
from tests.surroundings.networks import PartedNet
from tests.system.world import Document, Person, Program, World, connect, descendants, eventually

EVERY: Final = 0.7
"""Seconds between two sends of one person: about what two processors can run."""
MOST_OPEN: Final = 40
"""Dispatches of one person that have not ended; with as many, nothing more is sent, however slow the machine is."""
FINAL: Final = {"completed", "failed", "declined", "cancelled", "expired", "rejected"}
FILE_BYTES: Final = 60_000
RUN: Final = "cat /dispatch/in/name >> ran.txt && cp /dispatch/in/load /dispatch/out/load"


def options(prog: str, what: str, *, minutes: float) -> argparse.ArgumentParser:
    """The options of every soak. `what`: its first line of help; `minutes`: how long it is without being told."""
    parser = argparse.ArgumentParser(prog=prog, description=what)
    parser.add_argument("--minutes", type=float, default=minutes)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument(
        "--relay", action="store_true", help="Two machines with nothing but a relay between them; root."
    )
    return parser


class Traffic:
    """What one person sends and accepts, in two threads, until `stop`. Errors of a daemon that is away are retried.

    `every`: seconds between two sends, on average. `name`: what the tasks of this traffic begin with.
    """

    def __init__(
        self, person: Person, other: Person, folder: Path, seed: int, *, every: float = EVERY, name: str = ""
    ) -> None:
        self.person, self.other = person, other
        self._every, self._name = every, name or person.name
        self.acknowledged: list[str] = []
        self.broken: list[BaseException] = []
        self._folder = folder
        self._random = random.Random(seed)
        self._project = person.projects / "soak"
        self._sending, self._accepting = threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=self._watched, args=(work,)) for work in (self._send, self._accept)]
        for thread in self._threads:
            thread.start()

    def stop_sending(self) -> None:
        self._sending.set()
        self._threads[0].join()

    def stop(self) -> None:
        self.stop_sending()
        self._accepting.set()
        self._threads[1].join()

    def ran(self) -> Counter[str]:
        """How often each name was left by a run here."""
        return Counter(name for path in self._project.glob("*/ran.txt") for name in path.read_text().split())

    def load(self, dispatch_id: str) -> bytes:
        """What was sent with a dispatch."""
        name = self.person.client.dispatch(dispatch_id)["task"]
        return (self._folder / str(name) / "load").read_bytes()

    def _open(self) -> int:
        """How many dispatches of this person have not ended, by the store: the daemon may be away."""
        ended = ",".join("?" * len(FINAL))
        query = f"SELECT count(*) FROM dispatches WHERE direction = 'sent' AND state NOT IN ({ended})"
        return int(self.person.rows(query, *sorted(FINAL))[0][0])

    def _watched(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self.broken.append(error)

    def _send(self) -> None:
        client, number = self.person.another_client(), 0
        while not self._sending.wait(self._every * self._random.uniform(0.5, 1.5)):
            if self._open() >= MOST_OPEN:
                continue
            number += 1
            name = f"{self._name}-{number}"
            place = self._folder / name
            place.mkdir(parents=True)
            (place / "name").write_text(f"{name}\n")
            (place / "load").write_bytes(self._random.randbytes(FILE_BYTES))
            try:
                sent = client.send(
                    self.other.email, name, files=[str(place / "name"), str(place / "load")], expires=86_400
                )
            except DispatchError:
                continue  # not acknowledged; whether it was stored is seen in the store
            self.acknowledged.append(sent["dispatch_id"])

    def _accept(self) -> None:
        client = self.person.another_client()
        while not self._accepting.wait(0.1):
            try:
                waiting = client.dispatches("received", status="pending", limit=20)["dispatches"]
                for row in reversed(waiting):
                    # A folder for each: one run prepares a folder while another, in the same, still tidies it up.
                    folder = self._project / str(row["task"])
                    folder.mkdir(exist_ok=True)
                    client.accept(row["dispatch_id"], cwd=str(folder))
            except DispatchError:
                continue


class Place(NamedTuple):
    """Where the traffic is. `restart`: kills a program and starts it again, by name. `servers`: what serves both."""

    folder: Path
    people: list[Person]
    restart: dict[str, Callable[[], None]]
    servers: Callable[[], dict[str, Program | None]]

    def running(self) -> dict[str, int]:
        """The process of each program now, by name."""
        programs = {**self.servers(), **{person.name: person.program for person in self.people}}
        return {name: program.pid for name, program in programs.items() if program is not None}


@contextmanager
def side_by_side(folder: Path) -> Iterator[Place]:
    """One machine, on which the daemons reach each other."""
    world = World(folder)

    def broker() -> None:
        world.broker.stop(signal.SIGKILL)
        world.broker.start()

    try:
        people = world.people_named("alice", "bob")
        restart = {"broker": broker} | {person.name: partial(_anew, person) for person in people}
        yield Place(folder, people, restart, lambda: {"broker": world.broker.program})
    finally:
        world.close()


@contextmanager
def apart(folder: Path) -> Iterator[Place]:
    """Two machines that reach a broker and a relay, and nothing of each other."""
    with ExitStack() as stack:
        net = PartedNet(folder, stack, 2)
        people: list[Person] = [
            net.person(name, folder / name, machine, stack, relays=[net.relay_url])
            for name, machine in zip(("alice", "bob"), net.others, strict=True)
        ]

        def broker() -> None:
            net.broker_program.end(signal.SIGKILL)
            net.broker_program = net.start_broker()

        def relay() -> None:
            net.relay.end(signal.SIGKILL)
            net.relay = net.start_relay()

        programs: dict[str, Callable[[], None]] = {"broker": broker, "relay": relay}
        restart = programs | {person.name: partial(_anew, person) for person in people}
        yield Place(folder, people, restart, lambda: {"broker": net.broker_program, "relay": net.relay})


def _anew(person: Person) -> None:
    person.crash()
    person.launch()


@contextmanager
def people_at(place: Callable[[Path], AbstractContextManager[Place]], folder: Path) -> Iterator[Place]:
    """Two people who may dispatch to each other."""
    folder.mkdir()
    with place(folder) as found:
        for asker, granter in (found.people, found.people[::-1]):
            (project := granter.projects / "soak").mkdir()
            connect(asker, granter, approval="auto", apply="auto", paths=str(project), max_per_day=1000)
        for person in found.people:
            person.will({"tool": "Bash", "input": {"command": RUN}}, {"say": "done"})
        yield found


@contextmanager
def traffic_at(
    place: Callable[[Path], AbstractContextManager[Place]], folder: Path, seed: int
) -> Iterator[tuple[Place, list[Traffic]]]:
    """Two people who may dispatch to each other, under traffic."""
    with people_at(place, folder) as found:
        yield found, start(found, seed)


def start(place: Place, seed: int, *, every: float = EVERY, name: str = "") -> list[Traffic]:
    """Start traffic both ways."""
    pairs = (place.people, place.people[::-1])
    sent = place.folder / "sent"
    return [
        Traffic(person, other, sent / person.name, seed + at, every=every, name=name and f"{name}-{person.name}")
        for at, (person, other) in enumerate(pairs)
    ]


def everything(person: Person, direction: str) -> dict[str, Document]:
    """All dispatches of one direction, by id."""
    found: dict[str, Document] = {}
    before = None
    while True:
        page = person.client.dispatches(direction, limit=100, before=before)["dispatches"]  # type: ignore[arg-type]
        if not page:
            return found
        found |= {row["dispatch_id"]: row for row in page}
        before = page[-1]["dispatch_id"]


def settle(traffic: list[Traffic]) -> None:
    """Stop the senders, and wait until everything that was sent has ended on both sides and is delivered."""
    for each in traffic:
        each.stop_sending()

    def ended() -> bool:
        return all(
            row["status"] in FINAL
            for each in traffic
            for direction in ("sent", "received")
            for row in everything(each.person, direction).values()
        ) and all(each.person.count("outbox") == 0 for each in traffic)

    until = time.monotonic() + 10 * HANG
    while not ended():
        if time.monotonic() > until or any(each.broken for each in traffic):
            break  # the account says what is still open
        time.sleep(1)
    for each in traffic:
        each.stop()


def account(sender: Traffic, recipient: Traffic, folder: Path, *, stopped: bool = False) -> list[str]:
    """Compare the two sides of one direction; return what differs.

    `stopped`: the recipient's daemon was stopped for a while, so a run that asked it meanwhile got no answer, which is
    a denial: such a run has no line and returns nothing.
    """
    wrong = [f"{each.person.name}: {error!r}" for each in (sender, recipient) for error in each.broken]
    sent, received = everything(sender.person, "sent"), everything(recipient.person, "received")
    wrong += [f"{lost}: acknowledged, and not stored" for lost in sender.acknowledged if lost not in sent]
    wrong += [f"{odd}: known to one side only" for odd in sent.keys() ^ received.keys()]
    ran = recipient.ran()
    known = {row["task"].strip() for row in received.values()}
    wrong += [f"{name}: ran, and no dispatch is called so" for name in ran.keys() - known]
    for dispatch_id in sorted(sent.keys() & received.keys()):
        mine, theirs = sender.person.client.dispatch(dispatch_id), recipient.person.client.dispatch(dispatch_id)
        name, attempts = str(mine["task"]), int(theirs["attempt"])
        if not mine["status"] == theirs["status"] == "completed":
            wrong.append(
                f"{name}: {mine['status']} at its sender, {theirs['status']} at its recipient: {theirs['message']}"
            )
            continue
        if stopped and any(event.get("outcome") == "unanswered" for event in theirs["events"]):
            continue
        if not 1 <= ran[name] <= attempts:
            wrong.append(f"{name}: ran {ran[name]} times in {attempts} attempts")
        back = folder / "back" / dispatch_id
        sender.person.cli("fetch", dispatch_id, "--to", str(back), status=None)
        if not (back / "load").exists() or (back / "load").read_bytes() != sender.load(dispatch_id):
            wrong.append(f"{name}: another file came back, or none")
        receipt = folder / f"{dispatch_id}.receipt"
        sender.person.cli("receipt", dispatch_id, "--out", str(receipt))
        sender.person.cli("verify-receipt", str(receipt))
    return wrong


def leftovers(place: Place) -> list[str]:
    """Return what is still there of runs that ended, and blobs that nothing or no file belongs to."""
    wrong = []
    for person in place.people:
        assert person.program is not None
        eventually(partial(_tidy, person), what="an empty trash")
        wrong += [f"{person.name}: process {line}" for line in descendants(person.program.pid).values()]
        wrong += [f"{person.name}: folder {path}" for path in person.run_folders()]
        needed = {row[0].hex() for row in person.rows("SELECT DISTINCT digest FROM files WHERE ready = 1")}
        stored = set(person.blobs())
        wrong += [f"{person.name}: blob {name} belongs to nothing" for name in stored - needed]
        wrong += [f"{person.name}: blob {name} is missing" for name in needed - stored]
    mounts = Path("/proc/self/mounts").read_text()
    return [*wrong, *(f"mount {line}" for line in mounts.splitlines() if str(place.folder) in line)]


def memory(place: Place) -> dict[str, int]:
    """Resident bytes of each daemon."""
    return {
        person.name: psutil.Process(person.program.pid).memory_info().rss
        for person in place.people
        if person.program is not None
    }


def _tidy(person: Person) -> bool:
    return not person.trash()
