"""Brokers of several processes behind a TCP balancer, and what befalls them. Who uses them: broker_devices.py."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Final

import httpx
import psutil
import psycopg
import trio

from tests.conftest import HANG
from tests.rendezvous.balancer import Balancer
from tests.rendezvous.postgresql import Server
from tests.rendezvous.test_main import PROGRAM, environment

DRAIN_SECONDS: Final = 1
HEALTH_SECONDS: Final = 0.3
"""Between two looks of the balancer at each replica."""
WORKERS: Final = 3
AWAY_SECONDS: Final = (0.2, 2.0)
"""How long the database server stays away."""


class Replica:
    """One `dispatch-rendezvous serve`, killed and started again. `port` is None while it is not in rotation."""

    def __init__(self, name: str, folder: Path, options: tuple[str, ...], variables: dict[str, str]) -> None:
        self.name = name
        self.port: int | None = None
        self.healthy = False
        self.process: trio.Process | None = None
        self.wrong: list[str] = []
        self._log = folder / f"{name}.log"
        data = folder / name
        self._command = [*PROGRAM, "serve", "--data", str(data), "--dev", "--port", "0", *options]
        self._environment = environment(**variables)

    async def start(self) -> None:
        """Start it, again and again while its database is away, until it serves."""
        with trio.fail_after(HANG):
            while not await self._started():
                await trio.sleep(HEALTH_SECONDS)

    async def _started(self) -> bool:
        with self._log.open("ab") as log:
            process = await trio.lowlevel.open_process(
                self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=self._environment
            )
        assert process.stdout is not None
        said = b""
        try:
            while not said.endswith(b"\n") and (piece := await process.stdout.receive_some()):
                said += piece
        except trio.Cancelled:
            process.kill()
            raise
        if not said.startswith(b"listening on "):
            if await process.wait() != 1:
                self.wrong.append(f"{self.name}: ended with {process.returncode} before it served")
            return False
        (port,) = {
            each.laddr.port for each in psutil.Process(process.pid).net_connections("tcp") if each.status == "LISTEN"
        }
        self.process, self.port = process, port
        return True

    async def end(self, number: signal.Signals) -> None:
        """Signal it, and wait until it has ended: after SIGTERM by itself, and with success."""
        process = self.process
        assert process is not None
        process.send_signal(number)
        if number == signal.SIGKILL:  # after SIGTERM it goes on, and says that it will not
            self.port = None
        with trio.move_on_after(HANG) as waiting:
            await process.wait()
        self.port, self.healthy, self.process = None, False, None
        if waiting.cancelled_caught:
            self.wrong.append(f"{self.name}: did not end after {number.name}")
            process.kill()
        elif process.returncode != (0 if number == signal.SIGTERM else -number):
            self.wrong.append(f"{self.name}: ended with {process.returncode} after {number.name}")

    def kill(self) -> None:
        """Let nothing be left of it, whatever it does. Its workers end with it."""
        if self.process is not None:
            self.process.kill()

    def processes(self) -> list[psutil.Process]:
        """Its process, and those of its workers."""
        if self.process is None:
            return []
        first = psutil.Process(self.process.pid)
        return [first, *first.children()]

    def complaints(self) -> list[str]:
        """What it did that a broker never does, whatever befalls it."""
        said = self._log.read_text() if self._log.exists() else ""
        words = [word for word in ("Traceback", "request.failed") if word in said]
        return [*self.wrong, *(f"{self.name}: {word} in its log" for word in words)]


class Replicas:
    """Replicas, the balancer before them, their database, and the mishaps that chance picks from."""

    def __init__(self, replicas: list[Replica], balancer: Balancer, chance: random.Random) -> None:
        self.all = replicas
        self.balancer = balancer
        self.mishaps: dict[str, int] = {}
        self._busy: set[str] = set()
        self._chance = chance

    @classmethod
    async def make(
        cls, folder: Path, chance: random.Random, *, database: Server | None, nursery: trio.Nursery
    ) -> Replicas:
        """Start three replicas on `database`, or without one a single one with WORKERS processes on a file."""
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        replicas: list[Replica] = []
        # A rate by address, made for an office, would bound the whole crowd: it comes from many.
        balancer = Balancer(
            listener,
            lambda: _port(replicas, chance),
            source=lambda: f"127.1.{chance.randrange(256)}.{chance.randrange(1, 255)}",
        )
        variables = {"DISPATCH_JWT_SECRET": os.urandom(32).hex()}
        options = ["--public-url", balancer.url, "--drain", str(DRAIN_SECONDS)]
        if database is not None:
            variables["DATABASE_URL"] = database.database()
        else:
            options += ["--workers", str(WORKERS)]
        for number in range(3 if database is not None else 1):
            replicas.append(Replica(f"replica-{number + 1}", folder, tuple(options), variables))
        made = (_Files if database is None else _Several)(replicas, balancer, chance)
        if isinstance(made, _Several):
            made.server, made.url = database, variables["DATABASE_URL"]
        else:
            made.file = folder / replicas[0].name / "rendezvous.db"
        nursery.start_soon(made._until_the_end)
        async with trio.open_nursery() as starting:
            for each in replicas:
                starting.start_soon(each.start)
        nursery.start_soon(balancer.serve)
        for each in replicas:
            nursery.start_soon(_watch, each)
        return made

    async def _until_the_end(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            for each in self.all:
                each.kill()

    async def storm(self, seconds: float, pause: tuple[float, float]) -> None:
        """Let one thing after the other befall them; return once everything is back."""
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(seconds):
                while True:
                    await trio.sleep(self._chance.uniform(*pause))
                    if (picked := self._mishap()) is not None:
                        what, name, run = picked
                        self.mishaps[what] = self.mishaps.get(what, 0) + 1
                        self._busy.add(name)
                        nursery.start_soon(self._befall, name, run)
        await self.until_well()

    async def _befall(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        await run()
        self._busy.discard(name)

    def _mishap(self) -> tuple[str, str, Callable[[], Awaitable[None]]] | None:
        raise NotImplementedError

    def _killed(self, one: Replica, number: signal.Signals) -> tuple[str, str, Callable[[], Awaitable[None]]]:
        async def again() -> None:
            await one.end(number)
            await one.start()

        return number.name, one.name, again

    async def until_well(self) -> None:
        """Wait until every replica answers that it is."""
        with trio.fail_after(HANG):
            while not all(each.healthy for each in self.all):
                await trio.sleep(HEALTH_SECONDS)

    def used(self) -> dict[str, tuple[int, int]]:
        """Descriptors and MiB of memory of each process now."""
        found = {}
        for each in self.all:
            for number, process in enumerate(each.processes()):
                name = f"{each.name}{f'/{number}' if number else ''}"
                found[name] = process.num_fds(), process.memory_info().rss >> 20
        return found

    async def close(self) -> None:
        """End them all, by SIGTERM."""
        async with trio.open_nursery() as nursery:
            for each in self.all:
                nursery.start_soon(each.end, signal.SIGTERM)

    def complaints(self) -> list[str]:
        """What any of them did that no broker does."""
        return [line for each in self.all for line in each.complaints()]


class _Several(Replicas):
    server: Server | None
    url: str

    def _mishap(self) -> tuple[str, str, Callable[[], Awaitable[None]]] | None:
        chance = self._chance
        if chance.random() < 0.07 and "database" not in self._busy:
            return "database", "database", self._away
        free = [each for each in self.all if each.port is not None and each.name not in self._busy]
        if not free:
            return None
        return self._killed(chance.choice(free), chance.choice((signal.SIGKILL, signal.SIGTERM)))

    async def _away(self) -> None:
        assert self.server is not None
        await trio.to_thread.run_sync(self.server.stop, "immediate")
        await trio.sleep(self._chance.uniform(*AWAY_SECONDS))
        await trio.to_thread.run_sync(partial(self.server.start, fsync="on"))

    def complaints(self) -> list[str]:
        """Also connections that nobody has any more. To be called once they have ended."""
        with psycopg.connect(self.url) as connected:
            row = connected.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'dispatch-rendezvous'"
            ).fetchone()
        left = [f"{row[0]} connections are left at the server"] if row and row[0] else []
        return [*super().complaints(), *left]


class _Files(Replicas):
    file: Path

    def _mishap(self) -> tuple[str, str, Callable[[], Awaitable[None]]] | None:
        chance, (one,) = self._chance, self.all
        if one.port is None or one.name in self._busy:
            return None
        if chance.random() < 0.15:
            return self._killed(one, chance.choice((signal.SIGKILL, signal.SIGTERM)))
        workers = one.processes()[1:]
        if not workers:
            return None
        number = chance.choice((signal.SIGKILL, signal.SIGTERM))
        return f"worker {number.name}", "worker", partial(_signal, chance.choice(workers), number)

    def complaints(self) -> list[str]:
        """Also what SQLite finds wrong with the file."""
        with closing(sqlite3.connect(self.file)) as db:
            said = [str(row[0]) for row in db.execute("PRAGMA integrity_check")]
        return [*super().complaints(), *(line for line in said if line != "ok")]


async def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def _port(replicas: list[Replica], chance: random.Random) -> int | None:
    """A healthy one by chance, and if there is none any that runs: the balancer may be wrong."""
    running = [each for each in replicas if each.port is not None]
    chosen = [each for each in running if each.healthy] or running
    return chance.choice(chosen).port if chosen else None


async def _watch(one: Replica) -> None:
    """Ask a replica for its health, as a balancer does."""
    async with httpx.AsyncClient(trust_env=False, timeout=5) as http:
        while True:
            port, healthy = one.port, False
            if port is not None:
                with suppress(httpx.TransportError):
                    healthy = (await http.get(f"http://127.0.0.1:{port}/health")).status_code == 200
            one.healthy = healthy and one.port == port
            await trio.sleep(HEALTH_SECONDS)
