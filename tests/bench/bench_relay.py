"""Through a relay beside a direct connection: the same hosts, the real relay as a process, without TLS and with it.

Four processes on one machine (two hosts, two relays), of which three work at a time: with two processors the relay
takes from the hosts what it needs itself. What a host's raw stream carries: no node, no store.

Beside the time there is the processor time of all processes that take part: where the machine does other work, the one
depends on who was served when, the other much less.
"""

from __future__ import annotations

import gc
import logging
import os
import ssl
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path

import psutil
import structlog
import trio
from nacl.public import PrivateKey

from peer.mesh.blobs import PIECE
from peer.mesh.host import MeshHost
from peer.mesh.relays import Relays, Route
from peer.mesh.streams import Stream
from peer.protocol import cose, names
from peer.protocol.relays.addresses import to_multiaddr
from tests.bench._table import Line, ms, p50, show
from tests.rendezvous.world import make_certificate

LISTEN = "/ip4/127.0.0.1/tcp/0"
ECHO, SOURCE = "/bench/echo/1", "/bench/source/1"
ROUNDS, SIZE = 3, 250_000_000
SEEDS = {"serve": bytes([7]) * 32, "measure": bytes([8]) * 32}
"""Of each host; its sealing key is the same bytes. Nothing is at stake here."""
SECRET = "only for this measurement, which is on this machine"


def peer_id(role: str) -> str:
    return names.peer_id_text(names.peer_id_of(cose.public_key(SEEDS[role])))


def host(role: str, other: str, certificate: Path) -> tuple[MeshHost, Relays]:
    trusted = cache(partial(ssl.create_default_context, cafile=str(certificate)))
    relays = Relays(
        seed=SEEDS[role],
        device=peer_id(role),
        sealing_key=SEEDS[role],
        route=Route(proxy=lambda _host, _port: "", trusted=trusted, loopback_alone=True),
        clock=lambda: time.time_ns() // 1_000_000,
    )
    relays.set_contacts({peer_id(other): bytes(PrivateKey(SEEDS[other]).public_key)})
    return MeshHost(SEEDS[role], listen=[LISTEN], admits=lambda _: True, relays=relays), relays


async def up(relays: Relays) -> None:
    while not all(relays.state().values()):
        await trio.sleep(0.01)


async def serve(certificate: Path, origins: list[str]) -> None:
    """The other process: an echo and a source of bytes."""
    ours, relays = host("serve", "measure", certificate)
    piece = os.urandom(PIECE)

    async def echo(stream: Stream) -> None:
        while True:
            await stream.write(await stream.read(65536, deadline=600), deadline=60)

    async def source(stream: Stream) -> None:
        size = int.from_bytes(await stream.read(8, deadline=60), "big")
        for start in range(0, size, PIECE):
            await stream.write(piece[: size - start], deadline=60)

    ours.handle(ECHO, echo)
    ours.handle(SOURCE, source)
    relays.set_relays(chosen=origins, named=[], token=b"", secret=SECRET.encode())
    async with ours.running():
        await up(relays)
        gc.freeze()  # as dispatch-daemon does
        print(ours.addresses()[0], flush=True)
        await trio.sleep_forever()


def used(process: psutil.Process) -> float:
    """Seconds of processor time so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def goal(name: str, ratio: float) -> tuple[str, bool | None]:
    return ("at least 0.60x", ratio >= 0.6) if name == "relay" else ("", None)


async def measure(certificate: Path, origins: list[str], direct: str, server: int, relay_ids: list[int]) -> None:
    ours, relays = host("measure", "serve", certificate)
    relays.set_relays(chosen=origins, named=[], token=b"", secret=SECRET.encode())
    ways = {"direct": direct, "relay": to_multiaddr(origins[0]), "relay with TLS": to_multiaddr(origins[1])}
    connecting: dict[str, list[float]] = {name: [] for name in ways}
    there_and_back: dict[str, list[float]] = {name: [] for name in ways}
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    of_ends: dict[str, list[float]] = {name: [] for name in ways}
    of_relays: dict[str, list[float]] = {name: [] for name in ways}
    of_busiest: dict[str, list[float]] = {name: [] for name in ways}
    ends = [psutil.Process(), psutil.Process(server)]
    relaying = [psutil.Process(number) for number in relay_ids]
    other = peer_id("serve")
    async with ours.running():
        await up(relays)
        for _ in range(ROUNDS):
            for name, address in ways.items():
                start = time.perf_counter()
                await ours.connect(other, [address])
                connecting[name].append(time.perf_counter() - start)
                assert ours.path(other) == ("direct" if name == "direct" else "relay")
                stream = await ours.open_stream(other, ECHO)
                for _ in range(100):
                    start = time.perf_counter()
                    await stream.write(bytes(1024), deadline=60)
                    await stream.read(65536, deadline=60)
                    there_and_back[name].append(time.perf_counter() - start)
                await stream.reset()
                stream = await ours.open_stream(other, SOURCE)
                before = {each: used(each) for each in (*ends, *relaying)}
                start = time.perf_counter()
                await stream.write(SIZE.to_bytes(8, "big"), deadline=60)
                got = 0
                while got < SIZE:
                    got += len(await stream.read(1 << 20, deadline=60))
                speeds[name].append(SIZE / (time.perf_counter() - start) / 1e6)
                of_each = {each: (used(each) - earlier) / SIZE * 1e9 for each, earlier in before.items()}
                of_ends[name].append(sum(of_each[end] for end in ends))
                of_relays[name].append(sum(of_each[relay] for relay in relaying))
                of_busiest[name].append(max(of_each.values()))
                ours.drop(other)
                while ours.connected(other):
                    await trio.sleep(0.01)
    base = p50(connecting["direct"])
    show("a new connection", [Line(name, ms(took), p50(took) / base, "direct") for name, took in connecting.items()])
    base = p50(there_and_back["direct"])
    show("1 KiB there and back", [Line(n, ms(took), p50(took) / base, "direct") for n, took in there_and_back.items()])
    base = p50(speeds["direct"])
    lines = []
    for name, values in speeds.items():
        ratio = p50(values) / base
        lines.append(Line(name, f"{p50(values):.0f} MB/s", ratio, "direct", *goal(name, ratio)))
    # What three machines would reach: here the relay takes from the ends what it needs, if there are two processors.
    base = p50(of_busiest["direct"])
    for name, seconds in of_busiest.items():
        ratio = base / p50(seconds)
        what = f"{name}, each process on a processor of its own"
        lines.append(Line(what, f"{1000 / p50(seconds):.0f} MB/s", ratio, "direct", *goal(name, ratio)))
    show(f"{SIZE / 1e6:g} MB one way, {ROUNDS} times", lines)
    base = p50(of_ends["direct"])
    lines = []
    for name in ways:
        lines.append(Line(f"both ends, {name}", f"{p50(of_ends[name]):.1f} s", p50(of_ends[name]) / base, "direct"))
        if name != "direct":
            lines.append(
                Line(f"the relay, {name}", f"{p50(of_relays[name]):.1f} s", p50(of_relays[name]) / base, "both ends")
            )
    show("processor time for one GB", lines)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        certificate, key = make_certificate(Path(folder))
        origins: list[str] = []
        relay_ids: list[int] = []
        environment = {**os.environ, "DISPATCH_RELAY_TOKEN": SECRET}
        for tls in ([], ["--certificate", str(certificate), "--key", str(key)]):
            more = [*tls, *(["--public-url", "https://localhost:8999", "--port", "8999"] if tls else ["--port", "0"])]
            command = [sys.executable, "-m", "rendezvous.relay.main", "serve", "--allow", "token", *more]
            relay = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment))
            stack.callback(relay.kill)
            assert relay.stdout is not None
            origins.append(relay.stdout.readline().split()[-1])
            relay_ids.append(relay.pid)
        command = [sys.executable, "-m", "tests.bench.bench_relay", "serve", str(certificate), *origins]
        server = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        stack.callback(server.kill)
        assert server.stdout is not None
        trio.run(measure, certificate, origins, server.stdout.readline().strip(), server.pid, relay_ids)


if __name__ == "__main__":
    # Standard output is a pipe that nobody reads on: lines of a log would fill it, and then stop the program.
    with Path(os.devnull).open("w") as nowhere:
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            logger_factory=structlog.WriteLoggerFactory(nowhere),
        )
        if sys.argv[1:2] == ["serve"]:
            trio.run(serve, Path(sys.argv[2]), sys.argv[3:])
        else:
            main()
