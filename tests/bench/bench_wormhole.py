"""Fifty files of 5 MB by `dispatch send` and by `wormhole send`, directly and through a relay of each; in turns.

magic-wormhole is what people use today to give somebody files, with no account and nothing to set up. Its programs are
installed into a virtual environment that is thrown away. Its receiver waits for the sender before the time begins, as
the recipient's daemon does here.

Ours is timed from the start of `dispatch send` until the dispatch stands as `pending` in the recipient's store: every
file copied, hashed and synced at the sender, verified and synced at the recipient. Wormhole's from the start of
`wormhole send` until the receiver has ended: it syncs nothing. Beside both: as many bytes, in memory, by two TLS
connections that a relay splices.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psutil

from tests.bench._disk import use_memory
from tests.bench._pair import Watch
from tests.bench._spliced import Spliced, spliced
from tests.bench._table import Line, Missing, p50, show
from tests.bench.bench_files import FILES, SIZE, TOTAL_MB, make_files
from tests.bench.bench_relay import used
from tests.rendezvous.world import make_certificate
from tests.system.world import ROOT, Person, World, connect, eventually

ROUNDS = 3
PACKAGES = ("magic-wormhole==0.24.0", "magic-wormhole-mailbox-server==0.8.0", "magic-wormhole-transit-relay==0.5.0")
MADE_BEFORE = "DISPATCH_BENCH_WORMHOLE"
"""A variable that names a virtual environment with them, so that none is made."""
SECRET = "for-this-measurement-alone-on-loopback"
GOAL = 0.8
EACH_ROUND = 8 * FILES * SIZE
"""Bytes of page cache that a round fills: the files, what each of the four writes, and half as much again."""
WITHIN = 600.0
"""Seconds for any one step."""

Measured = tuple[float, float]
"""Seconds of time, and of processor time of all processes that took part."""


class Wormhole:
    """The programs of magic-wormhole, with a mailbox and a transit relay of their own on loopback."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        """Raises Missing."""
        self._bin = _installed(folder) / "bin"
        self._folder = folder
        mailbox, self.relay = (
            stack.enter_context(self._served(*words))
            for words in (
                ("wormhole-mailbox", "--channel-db", str(folder / "mailbox.sqlite")),
                ("transitrelay",),
            )
        )
        helper = f"tcp:127.0.0.1:{_port_of(self.relay)}"
        self._options = ["--relay-url", f"ws://127.0.0.1:{_port_of(mailbox)}/v1", "--transit-helper", helper]
        self._number = 0

    @contextmanager
    def _served(self, *words: str) -> Iterator[psutil.Process]:
        command = [str(self._bin / "twist"), "--log-level=error", *words, "--port", "tcp:0:interface=127.0.0.1"]
        with subprocess.Popen(command, cwd=self._folder, stdout=subprocess.DEVNULL) as server:
            try:
                yield psutil.Process(server.pid)
            finally:
                server.kill()

    def loading(self) -> float:
        """Seconds of processor time that the two programs need to do nothing."""
        command = [str(self._bin / "wormhole"), "--version"]
        return 2 * _ended(subprocess.Popen(command, stdout=subprocess.DEVNULL))[1]

    def send(self, files: Path, *, relayed: bool) -> Measured:
        """Send a folder, and check that it came."""
        self._number += 1
        code = f"{self._number}-alpha-bravo"
        there = self._folder / f"received{self._number}"
        there.mkdir()
        command = [str(self._bin / "wormhole"), *self._options]
        # Without a port of their own the two meet nowhere but at the relay.
        more = ["--hide-progress", *(["--no-listen"] if relayed else [])]
        words = [*command, "receive", "--accept-file", *more, code]
        before = used(self.relay)
        receiver = subprocess.Popen(words, cwd=there, stderr=subprocess.PIPE, text=True)
        assert receiver.stderr is not None
        while "Waiting for sender" not in (line := receiver.stderr.readline()):
            assert line, "wormhole's receiver has ended"
        start = time.perf_counter()
        sender = subprocess.Popen(
            [*command, "send", *more, "--code", code, str(files)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end, of_receiver = _ended(receiver)
        _, of_sender = _ended(sender)
        assert len(list((there / files.name).iterdir())) == FILES
        shutil.rmtree(there)
        of_relay = used(self.relay) - before
        assert not relayed or of_relay > 0.05, "it found another way"
        return end - start, of_receiver + of_sender + of_relay


def _installed(folder: Path) -> Path:
    if made := os.environ.get(MADE_BEFORE):
        return Path(made)
    place = folder / "venv"
    venv.create(place, with_pip=True)
    command = [str(place / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", *PACKAGES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Missing(done.stderr.strip().rpartition("\n")[2])
    return place


def _port_of(server: psutil.Process) -> int:
    """Wait until a server listens; return where."""

    def look() -> int:
        return next((each.laddr.port for each in server.net_connections("tcp") if each.status == "LISTEN"), 0)

    return int(eventually(look, what="a port of wormhole's server"))


def _ended(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> Measured:
    """Wait for the end of a process that succeeds; return when that was, and its processor time."""
    _, status, usage = os.wait4(process.pid, 0)
    now = time.perf_counter()
    process.returncode = os.waitstatus_to_exitcode(status)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    assert process.returncode == 0, process.args
    return now, usage.ru_utime + usage.ru_stime


class Dispatch:
    """Alice and Bob, connected directly, or through a relay of ours."""

    def __init__(self, folder: Path, stack: ExitStack, relay: tuple[str, psutil.Process] | None) -> None:
        folder.mkdir()
        world = World(folder)
        stack.callback(world.close)
        self.alice, self.bob = world.person("alice", start=False), world.person("bob", start=False)
        people = (self.alice, self.bob)
        for person in people:
            if relay is not None:
                person.configure(relays=[relay[0]], relay_token=SECRET)
            person.launch(module="peer.programs.daemon" if relay is None else "tests.bench._only_relayed")
            person.ready()
        connect(self.alice, self.bob)
        path = "direct" if relay is None else "relay"

        def paths() -> list[str]:
            rows = [(person.edge(other, way) or {}) for person, other, way in self._ends()]
            return [str(row.get("path")) for row in rows]

        eventually(lambda: paths() == [path, path], what=f"the path {path}")
        self._processes = [_process(person) for person in people] + ([relay[1]] if relay is not None else [])
        self._seen = stack.enter_context(closing(Watch(self.bob)))

    def _ends(self) -> Sequence[tuple[Person, Person, str]]:
        return (self.alice, self.bob, "outgoing"), (self.bob, self.alice, "incoming")

    def send(self, files: Path) -> Measured:
        """Send the files of a folder, and see them verified in the inbox."""
        named = [word for path in sorted(files.iterdir()) for word in ("--file", str(path))]
        command = [sys.executable, "-m", "cli.main", "send", self.bob.email, "Read these", *named, "--json"]
        before = sum(map(used, self._processes))
        start = time.perf_counter()
        sending = subprocess.Popen(
            command, cwd=ROOT, env=self.alice.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert sending.stdout is not None
        sent = sending.stdout.read().partition('"dispatch_id": "')[2].partition('"')[0]
        end = self._seen.until(sent, "pending", within=WITHIN)
        _, of_command = _ended(sending)
        return end - start, of_command + sum(map(used, self._processes)) - before


def _process(person: Person) -> psutil.Process:
    assert person.program is not None
    return psutil.Process(person.program.pid)


@contextmanager
def our_relay() -> Iterator[tuple[str, psutil.Process]]:
    """Run `dispatch-relay` without TLS, as behind a reverse proxy; give its origin and its process."""
    command = [sys.executable, "-m", "rendezvous.relay.main", "serve", "--allow", "token", "--port", "0"]
    environment = {**os.environ, "DISPATCH_RELAY_TOKEN": SECRET}
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment) as relay:
        try:
            assert relay.stdout is not None
            yield relay.stdout.readline().split()[-1], psutil.Process(relay.pid)
        finally:
            relay.kill()


def main() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="dispatch-bench-", ignore_cleanup_errors=True) as name,
        ExitStack() as stack,
    ):
        folder = Path(name)
        try:
            wormhole = Wormhole(folder, stack)
        except Missing as error:
            print(f"\nskipped: magic-wormhole cannot be installed here ({error})")
            return
        pipe = stack.enter_context(spliced(*make_certificate(folder / "tls")))
        directly = Dispatch(folder / "direct", stack, None)
        relayed = Dispatch(folder / "relayed", stack, stack.enter_context(our_relay()))
        ways: dict[str, Callable[[Path], Measured]] = {
            "dispatch": directly.send,
            "wormhole": lambda files: wormhole.send(files, relayed=False),
            "dispatch, relayed": relayed.send,
            "wormhole, relayed": lambda files: wormhole.send(files, relayed=True),
            "TLS spliced, in memory": lambda _: piped(pipe),
        }
        use_memory(ROUNDS * EACH_ROUND)
        taken: dict[str, list[Measured]] = {way: [] for way in ways}
        for number in range(ROUNDS):
            files = folder / f"round{number}"
            make_files(files)
            for way, send in ways.items():
                os.sync()
                taken[way].append(send(files))
            shutil.rmtree(files)
        report(taken, wormhole.loading())


def piped(pipe: Spliced) -> Measured:
    before = sum(map(used, pipe.processes)) + time.process_time()
    seconds = pipe.copy(FILES * SIZE)
    return seconds, sum(map(used, pipe.processes)) + time.process_time() - before


def report(taken: dict[str, list[Measured]], loading: float) -> None:
    """Print the tables: time, then processor time. Ratios are of times, so below 1 is the faster one."""
    for what, which in (("time", 0), ("processor time", 1)):
        middle = {name: p50([each[which] for each in values]) for name, values in taken.items()}
        lines = []
        for name, values in taken.items():
            base = "wormhole, relayed" if "," in name else "wormhole"
            ratio = middle[name] / middle[base]
            # A goal for each: the whole of it faster directly, and at least as fast through the relays.
            goal = {"dispatch": GOAL, "dispatch, relayed": 1.0}.get(name) if not which else None
            each = " ".join(f"{value[which]:.1f}" for value in values)
            lines.append(
                Line(
                    name,
                    f"{middle[name]:.1f} s ({each})",
                    ratio,
                    base,
                    f"<= {goal:g}x" if goal else "",
                    ratio <= goal if goal else None,
                )
            )
        if which:
            lines.append(Line("of wormhole's: loading both programs", f"{loading:.1f} s", loading / middle["wormhole"]))
        show(f"{what} of {FILES} files of {SIZE / 1e6:g} MB ({TOTAL_MB:g} MB), {ROUNDS} times", lines)


if __name__ == "__main__":
    main()
