"""A small world of real processes for the system tests: a broker, people with their daemons and command lines.

Everything lives in one temporary folder and dies with the `World`, however the test ends. Whoever waits, waits for an
event: a line a program prints, a server-sent event, a process that ends. Only what no event announces is looked at
again and again (`eventually`). What the tests check is in the test modules.
"""

from __future__ import annotations

import glob
import json
import os
import re
import selectors
import signal
import sqlite3
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing, suppress
from itertools import chain, count
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import trio

from peer.client.blocking import Client
from peer.client.on_trio import AsyncClient
from peer.machine.state_folder import StateFolder
from peer.protocol.errors import Conflict
from peer.runs.removal import TRASH
from tests.conftest import HANG
from tests.system import preloaded

ROOT = Path(__file__).parents[2]
ALL_TOOLS = "Read,Glob,Grep,Write,Edit,Bash"

Document = dict[str, Any]


class Failed(AssertionError):
    """A program did not do what it should; says what it printed."""


def eventually(look: Callable[[], Any], *, what: str = "") -> Any:
    """Return the first true value of `look`, which no event announces. Raises Failed."""
    until = time.monotonic() + HANG
    while not (value := look()):
        if time.monotonic() > until:
            raise Failed(f"not within {HANG:g} s: {what or look}")
        time.sleep(0.01)
    return value


class Program:
    """One of our programs as a process in a session of its own, dead when this process is."""

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        environment: dict[str, str],
        log: Path,
        inside: Sequence[str] = (),
        *,
        as_usual: bool = False,
    ) -> None:
        """`inside` is a command that puts the program into other surroundings, such as `unshare`.

        `as_usual` as of preloaded.start."""
        self._errors = log
        with log.open("ab") as errors:
            self.process = preloaded.start(
                module,
                arguments,
                environment=environment,
                cwd=ROOT,
                stderr=errors.fileno(),
                inside=inside,
                as_usual=as_usual,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def line(self, pattern: str) -> str:
        """Wait for a line on standard output in which `pattern` is found; return its first group."""
        assert self.process.stdout is not None
        seen = b""
        until = time.monotonic() + HANG
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while (left := until - time.monotonic()) > 0:
                if selector.select(left):
                    piece = os.read(self.process.stdout.fileno(), 65536)
                    seen += piece
                    whole = seen[: seen.rfind(b"\n") + 1].decode()
                    if found := re.search(pattern, whole):
                        return found.group(1)
                    if not piece:
                        break
        raise Failed(f"no line {pattern!r} in {seen!r}; its errors: {self.errors()}")

    def errors(self) -> str:
        """What it has written on standard error, in all its lives."""
        return self._errors.read_text("utf-8", "replace")

    def end(self, by: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(by)
        try:
            return self.process.wait(HANG)
        except subprocess.TimeoutExpired as error:
            self.process.kill()
            self.process.wait()
            raise Failed(f"{self.process.args!r} did not stop within {HANG:g} s: {self.errors()}") from error
        finally:
            assert self.process.stdout is not None
            self.process.stdout.close()

    def freeze(self) -> None:
        """Let it do nothing more until `thaw`."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)


class Broker:
    """The rendezvous broker, in development: it approves sign-ins on its page."""

    def __init__(self, folder: Path, module: str = "rendezvous.main") -> None:
        self.folder = folder
        self.folder.mkdir()
        self._module = module
        self.url = ""
        self.program: Program | None = None

    def start(self, *, secret: str = "", environment: Mapping[str, str] | None = None) -> None:
        """Start it, on the port of its last life if it had one. `secret` is $DISPATCH_JWT_SECRET."""
        port = urllib.parse.urlsplit(self.url).port or 0
        environment = clean_environment(self.folder) | dict(environment or {})
        if secret:
            environment["DISPATCH_JWT_SECRET"] = secret
        arguments = ["serve", "--dev", "--port", str(port), "--data", str(self.folder / "data")]
        self.program = Program(self._module, arguments, environment, self.folder / "errors")
        self.url = self.program.line(r"listening on (\S+)")

    def stop(self, by: signal.Signals = signal.SIGTERM) -> None:
        if self.program is not None:
            self.program.end(by)
            self.program = None

    def approve(self, code: str) -> None:
        """Agree to a sign-in as a person does on the page: one form post."""
        body = urllib.parse.urlencode({"user_code": code}).encode()
        with urllib.request.urlopen(f"{self.url}/login", body) as answer:
            assert answer.status == 200


class Said(str):
    """What a command printed, and what else came of it."""

    status: int
    errors: str

    @property
    def json(self) -> Any:
        """The one document on standard output."""
        return json.loads(self)


class Person:
    """Somebody with a machine of their own: a state folder, a home, projects, a daemon, a command line."""

    def __init__(self, name: str, folder: Path, broker: Broker, *, state: Path | None = None) -> None:
        self.name = name
        self.email = f"{name}@example.org"
        self.broker = broker
        self.home = folder
        self.projects = folder / "code"
        self.projects.mkdir(parents=True)
        self.state = StateFolder(state or folder / "state")
        self.client = Client(self.state)
        self.program: Program | None = None
        self._script = folder / "script.json"
        self.environment = clean_environment(folder) | {"DISPATCH_HOME": str(self.state.path)}

    def another_client(self) -> Client:
        """A client of its own, for a thread of its own."""
        return Client(self.state)

    # --- the command line

    def cli(self, *arguments: str, status: int | None = 0, stdin: str = "", inside: Sequence[str] = ()) -> Said:
        """Run one command to its end; fail unless it exits with `status`, None for any. `inside` as of Program."""
        done = self._done(arguments, stdin, inside)
        said = Said(done.stdout.decode())
        said.status, said.errors = done.returncode, done.stderr.decode()
        if status is not None and done.returncode != status:
            raise Failed(f"{self.name}: {arguments} exited {done.returncode}: {said}{said.errors}")
        return said

    def _done(self, arguments: Sequence[str], stdin: str, inside: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
        with TemporaryFile() as given, TemporaryFile() as out, TemporaryFile() as errors:
            given.write(stdin.encode())
            given.seek(0)
            process = preloaded.start(
                "cli.main",
                arguments,
                environment=self.environment,
                cwd=self.home,
                stdin=given.fileno(),
                stdout=out.fileno(),
                stderr=errors.fileno(),
                inside=inside,
            )
            try:
                code = process.wait(HANG)
            finally:
                process.kill()
            said = [(file.seek(0), file.read())[1] for file in (out, errors)]
        return subprocess.CompletedProcess(process.args, code, *said)

    def refused(self, *arguments: str) -> Document:
        """Run a command that is refused; return its {code, message, fix}. What is of the wrong form is wrong usage."""
        said = self.cli(*arguments, "--json", status=None)
        error = said.json["error"]
        assert set(error) == {"code", "message", "fix"}, error
        assert said.status == (2 if error["code"] == 422 else 1), (said.status, error)
        return dict(error)

    def sign_in(self) -> None:
        """Sign in with the real command and the real page."""
        log = self.home / "login.errors"
        log.unlink(missing_ok=True)
        arguments = ["login", "--broker", self.broker.url, "--email", self.email, "--no-browser", "--json"]
        program = Program("cli.main", arguments, self.environment, log)
        code = eventually(lambda: re.search(r"code=([A-Z0-9-]+)", program.errors()), what=f"{self.name}'s code")
        self.broker.approve(code[1])
        assert program.process.wait(HANG) == 0, program.errors()
        assert program.process.stdout is not None
        program.process.stdout.close()
        self.configure(runtime="scripted", script=str(self._script), listen=["/ip4/127.0.0.1/tcp/0"])
        self.will()

    def configure(self, **values: object) -> None:
        """Change config.json by hand, as a person may while no daemon looks."""
        path = self.state.config
        document = json.loads(path.read_bytes()) | values
        self.state.write_private(path, json.dumps(document).encode())

    # --- the daemon

    def start(self, *arguments: str) -> None:
        """Start the daemon and wait until it serves."""
        self.launch(*arguments)
        self.ready()

    def launch(
        self,
        *arguments: str,
        inside: Sequence[str] = (),
        module: str = "peer.programs.daemon",
        as_usual: bool = False,
    ) -> None:
        """Start the daemon. `inside`, `as_usual` as of Program; `module` is another program that is a daemon too."""
        assert self.program is None
        given = arguments or ("--port", "0", "--listen", "/ip4/127.0.0.1/tcp/0")
        log = self.home / "daemon.errors"
        self.program = Program(module, given, self.environment, log, inside, as_usual=as_usual)

    def ready(self) -> None:
        """Wait until the daemon serves."""
        assert self.program is not None
        self.program.line(r"on 127\.0\.0\.1:(\d+), device")

    def stop(self, by: signal.Signals = signal.SIGTERM) -> None:
        """End the daemon; with SIGKILL as a crash."""
        if self.program is not None:
            program, self.program = self.program, None
            program.end(by)

    def crash(self) -> None:
        self.stop(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    @property
    def up(self) -> bool:
        return self.program is not None and self.program.process.poll() is None

    def log(self) -> list[Document]:
        """What the daemon has logged."""
        return [json.loads(line) for line in self.state.daemon_log.read_text().splitlines() if line.startswith("{")]

    # --- what a run does here

    def will(self, *steps: Document) -> None:
        """Decide what the scripted agent does in every run from now on: {"say": …} or {"tool": …, "input": …}."""
        self._script.write_text(json.dumps(list(steps)))

    def end_runs(self) -> None:
        """End what a test before left here: decline what waits, and cancel every run until none asks any more."""
        for row in self.client.dispatches("received", status="pending")["dispatches"]:
            with suppress(Conflict):  # the sender has just withdrawn it
                self.client.decline(row["dispatch_id"])

        def left() -> list[Document]:
            lists = [
                self.client.dispatches("received", status=status)["dispatches"] for status in ("accepted", "running")
            ]
            return [row for rows in lists for row in rows]

        for row in left():
            with suppress(Conflict):  # it has just ended by itself
                self.client.cancel(row["dispatch_id"])
        eventually(lambda: not left() and not self.client.approvals(), what="an end of all runs")

    # --- waiting

    def state_of(self, dispatch_id: str, *states: str) -> Document:
        """Follow a dispatch until it is in one of these states; return it as lists show it."""
        return self._until(dispatch_id, "state", lambda row: row["status"] in states, str(states))

    def approval_of(self, dispatch_id: str) -> Document:
        """Follow a dispatch until a tool call waits for an answer; return the call."""
        return self._until(dispatch_id, "approval", lambda _: True, "an approval")

    def event_of(self, dispatch_id: str, wanted: Callable[[Document], bool]) -> Document:
        """Follow a dispatch until its trace has this event; return it."""
        return self._until(dispatch_id, "trace", wanted, "an event")

    def _until(self, dispatch_id: str, kind: str, wanted: Callable[[Document], bool], what: str) -> Document:
        seen: list[tuple[str, Any]] = []

        async def follow() -> Document:
            with trio.fail_after(HANG):
                async with aclosing(AsyncClient(self.state).events(dispatch_id)) as events:
                    async for event in events:
                        seen.append((event.kind, event.data.get("status") or event.data.get("kind")))
                        if event.kind == kind and wanted(event.data):
                            return event.data
            why = self.client.dispatch(dispatch_id).get("result")
            raise Failed(f"{self.name}: it ended without {what}: {seen}; its result: {why}")

        try:
            return trio.run(follow)
        except trio.TooSlowError:
            raise Failed(f"{self.name}: not within {HANG:g} s: {what}; seen: {seen}") from None

    # --- looking inside

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Read the store as it is on disk, whether or not a daemon has it."""
        with closing(sqlite3.connect(f"file:{self.state.store}?mode=ro", uri=True)) as db:
            return db.execute(query, values).fetchall()

    def count(self, table: str) -> int:
        return int(self.rows(f"SELECT count(*) FROM {table}")[0][0])

    def untold(self, other: Person) -> int:
        """Statements that wait to be delivered to somebody. In a shared world others may be away."""
        query = "SELECT count(*) FROM outbox JOIN contact_devices USING (device) WHERE user_id = ?"
        return int(self.rows(query, other.email)[0][0])

    def blobs(self) -> list[str]:
        """Names of every file beside the store, half-fetched and temporary ones too."""
        return sorted(name for _, _, names in os.walk(self.state.blobs) for name in names)

    def run_folders(self) -> list[Path]:
        """Run folders that are still in their place."""
        return [path for path in paths_below(self.state.runs, "*/*") if path.parent.name != TRASH]

    def trash(self) -> list[str]:
        """What of ended runs is not removed yet."""
        trash = self.state.runs / TRASH
        return [path.name for path in trash.iterdir()] if trash.is_dir() else []

    def edge(self, peer: Person, direction: str) -> Document | None:
        """The newest trust edge with somebody: incoming (they may dispatch to me) or outgoing."""
        for row in self.client.contacts()["trust"]:
            if row["peer"] == peer.email and row["direction"] == direction:
                return dict(row)
        return None


class World:
    """The broker and everybody. `close` ends every process that was started."""

    def __init__(self, folder: Path, *, broker: str = "rendezvous.main") -> None:
        """`broker` is the module of its program."""
        self.folder = folder
        self.broker = Broker(folder / "broker", broker)
        self.broker.start()
        self.people: list[Person] = []

    def person(self, name: str, *, start: bool = True) -> Person:
        """Somebody new, signed in, their daemon up unless `start` is false.

        A name that is taken gets a number: a worker that takes over the rest of a module's tests sets it up once more.
        """
        taken = {person.name for person in self.people}
        free = next(each for each in chain([name], (f"{name}-{n}" for n in count(2))) if each not in taken)
        person = Person(free, self.folder / free, self.broker)
        self.people.append(person)
        person.sign_in()
        if start:
            person.start()
        return person

    def people_named(self, *names: str) -> list[Person]:
        """Several at once: most of a daemon's start is loading, which they do side by side."""
        people = [self.person(name, start=False) for name in names]
        for person in people:
            person.launch()
        for person in people:
            person.ready()
        return people

    def close(self) -> None:
        for person in self.people:
            if person.program is not None:
                person.program.thaw()
                person.crash()
        self.broker.stop(signal.SIGKILL)


def connect(asker: Person, granter: Person, *, by: str = "link", **scope: Any) -> Document:
    """Invite, accept, wait until both sides have the edge in force; return it as the asker sees it."""
    invited = asker.client.invite(granter.email)
    given = {"tools": ALL_TOOLS, "approval": "manual", "max_per_day": 1000, **scope}
    granter.client.accept_invitation(invited[by], given, confirm_unverified=by == "token")
    return connected(asker, granter)


def connected(asker: Person, granter: Person) -> Document:
    """Wait until both sides have the edge in force; return it as the asker sees it."""

    def look() -> Document | None:
        mine, theirs = asker.edge(granter, "outgoing"), granter.edge(asker, "incoming")
        return mine if mine and theirs and {mine["status"], theirs["status"]} == {"active"} else None

    return dict(eventually(look, what=f"an active edge {asker.name} → {granter.name}"))


def descendants(pid: int) -> dict[int, str]:
    """Every live process below `pid`: its id → its command line."""
    parents = dict(_processes())
    found: set[int] = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    lines = {}
    for each in found - {pid}:
        try:
            lines[each] = Path(f"/proc/{each}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
    return lines


def _processes() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z":
                yield int(entry.name), int(fields[1])


def paths_below(folder: Path, pattern: str) -> list[Path]:
    """What matches below a folder in which things come and go. `Path.glob` raises if one goes while it looks."""
    return sorted(folder / found for found in glob.glob(pattern, root_dir=folder))  # noqa: PTH207


def all_gone(pids: Sequence[int]) -> bool:
    """Whether every one of these processes ends, as the kernel reports it."""
    until = time.monotonic() + HANG
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(descriptor, selectors.EVENT_READ)
                if not selector.select(max(0.0, until - time.monotonic())):
                    return False
        finally:
            os.close(descriptor)
    return True


def clean_environment(home: Path) -> dict[str, str]:
    """A clean environment: nothing of whoever runs the tests, no keychain, no model."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
    }
