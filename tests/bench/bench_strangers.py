"""How long small requests of contacts take while 2,000 strangers hold connections open, flood and send garbage.

Two hosts exchange 1 KiB, directly and through a relay; the strangers come to the node's own listener, or to the relay.
They are a process of the same machine, which those elsewhere would not be: so it has one processor to itself, and all
others share the rest. The same strangers also come to a port where nothing but an acceptance is done, and the second
ratio is against that.

Contacts would have a processor of their own too. Where it is allowed, their processes come before others as soon as
they can go on (SCHED_FIFO): what is attacked then has the processor whenever they wait for it, and only then. Elsewhere
a kernel lets whatever is busy finish some milliseconds, which count as its latency. The table says which it was.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import TypeAlias

import trio

from peer.mesh.host import MeshHost
from peer.protocol.relays.addresses import to_multiaddr
from peer.protocol.relays.messages import CONTROL_PATH
from tests.bench._table import Line, p50, show
from tests.bench.bench_relay import ECHO, SECRET, host, peer_id, up
from tests.rendezvous.relay.world import upgrade
from tests.rendezvous.world import make_certificate

STRANGERS, PAUSE = 2000, 4.0
"""How many, and how many seconds each waits at most before it comes again after it was closed."""
ROUNDS, REQUESTS = 2, 1000
"""Of each: the p99 is one of the twenty slowest."""
DESCRIPTORS = 16_384
SETTLED = 5.0
PROCESSORS = os.sched_getaffinity(0)
MULTISTREAM = b"\x13/multistream/1.0.0\n"
PING = b"\x89\x80\0\0\0\0"


Act: TypeAlias = Callable[[trio.SocketStream], Awaitable[None]]


def p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


async def half_open(_stream: trio.SocketStream) -> None:
    pass


async def garbage(stream: trio.SocketStream) -> None:
    await stream.send_all(os.urandom(2048))


async def flood_relay(stream: trio.SocketStream) -> None:
    await stream.send_all(upgrade(CONTROL_PATH))
    while True:
        await stream.send_all(PING * 200)


async def flood_node(stream: trio.SocketStream) -> None:
    await stream.send_all(MULTISTREAM)
    while True:
        await stream.send_all(b"\x07/noise\n" * 200)


async def stranger(number: int, port: int, act: Act, came: Callable[[], None]) -> None:
    """Come again and again, from an address of its own, and stay until closed."""
    local = f"127.1.{number // 200}.{1 + number % 200}"

    async def send(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await act(stream)

    async def stay(stream: trio.SocketStream, scope: trio.CancelScope) -> None:
        with suppress(trio.BrokenResourceError):
            while await stream.receive_some(4096):
                pass
        scope.cancel()

    while True:
        await trio.sleep(random.uniform(0, PAUSE))
        try:
            stream = await trio.open_tcp_stream("127.0.0.1", port, local_address=local)
        except OSError:
            continue
        came()
        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(send, stream)
            await stay(stream, nursery.cancel_scope)


async def strangers(port: int, kind: str) -> None:
    """The other process: all of them, those of each kind a third. Says at SIGTERM how often one came."""
    acts: tuple[Act, ...] = (half_open, garbage, flood_relay if kind == "relay" else flood_node)
    visits = count()
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            for number in range(STRANGERS):
                nursery.start_soon(stranger, number, port, acts[number % len(acts)], partial(next, visits))
            print("here", flush=True)
            async for _ in signals:
                nursery.cancel_scope.cancel()
                break
    print(next(visits), flush=True)


async def sink(stream: trio.SocketStream) -> None:
    """What serves in place of what is attacked: a little is read, then it is closed."""
    with trio.move_on_after(10), suppress(trio.BrokenResourceError):
        for _ in range(4):
            if not await stream.receive_some(4096):
                return


async def sinking() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(listener.socket.getsockname()[1], flush=True)
    await trio.serve_listeners(sink, [listener])


def started(
    stack: ExitStack, *arguments: str, environment: dict[str, str] | None = None
) -> tuple[subprocess.Popen[str], str]:
    """Start a program of Python that ends with `stack`; return it, and what it says first."""
    command = [sys.executable, "-m", *arguments]
    program = stack.enter_context(
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment or dict(os.environ))
    )
    stack.callback(program.kill)
    assert program.stdout is not None
    return program, program.stdout.readline().strip()


def first_in_line(*programs: int) -> bool:
    """Have processes come before others whenever they can go on; return whether that is allowed."""
    try:
        for program in programs:
            os.sched_setscheduler(program, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except PermissionError:
        return False
    return True


def as_others(program: int) -> None:
    """Undo `first_in_line`."""
    os.sched_setscheduler(program, os.SCHED_OTHER, os.sched_param(0))


@contextmanager
def attacking(port: int, kind: str, visits: list[int]) -> Iterator[None]:
    """Have all strangers come to a port; note how often they did."""
    with ExitStack() as stack:
        program, said = started(stack, "tests.bench.bench_strangers", "strangers", str(port), kind)
        assert said == "here"
        os.sched_setaffinity(program.pid, {max(PROCESSORS)})
        yield
        program.terminate()
        assert program.stdout is not None
        visits.append(int(program.stdout.readline()))


async def requests(ours: MeshHost, other: str) -> list[float]:
    took = []
    stream = await ours.open_stream(other, ECHO)
    for _ in range(REQUESTS):
        start = time.perf_counter()
        await stream.write(bytes(1024), deadline=60)
        await stream.read(65536, deadline=60)
        took.append(time.perf_counter() - start)
        await trio.sleep(0.005)
    await stream.reset()
    return took


async def measure(certificate: Path, origin: str, direct: str, nothing: int, server: int) -> None:
    ours, relays = host("measure", "serve", certificate)
    relays.set_relays(chosen=[origin], named=[], token=b"", secret=SECRET.encode())
    other = peer_id("serve")
    attacked = {"node": int(direct.split("/")[4]), "relay": int(origin.rpartition(":")[2])}
    addresses = {"node": direct, "relay": to_multiaddr(origin)}
    async with ours.running():
        await up(relays)
        for kind, address in addresses.items():
            first = first_in_line(0, *([server] if kind == "relay" else []))
            await ours.connect(other, [address])
            took: dict[str, list[float]] = {"nobody": [], "strangers elsewhere": [], "strangers": []}
            visits: list[int] = []
            for _ in range(ROUNDS):
                took["nobody"] += await requests(ours, other)
                for name, port in (("strangers elsewhere", nothing), ("strangers", attacked[kind])):
                    with attacking(port, kind, visits if name == "strangers" else []):
                        await trio.sleep(SETTLED)
                        took[name] += await requests(ours, other)
            assert ours.path(other) == ("direct" if kind == "node" else "relay")
            lines = []
            for name, found in (("p50", p50), ("p99", p99)):
                base = found(took["nobody"])
                for who, values in took.items():
                    value = found(values)
                    goal = ("at most 2x", value <= 2 * base) if who == "strangers" else ("", None)
                    lines.append(Line(f"{name}, {who}", f"{value * 1e3:.2f} ms", value / base, "nobody", *goal))
                beside = found(took["strangers"]) / found(took["strangers elsewhere"])
                lines.append(Line(f"{name}, strangers beside elsewhere", "", beside, "elsewhere"))
            lines.append(Line("connections of strangers to it", f"{sum(visits):,}"))
            lines.append(Line("contacts come before others on the processor", "yes" if first else "not allowed"))
            as_others(server)
            show(f"1 KiB there and back while {STRANGERS:,} strangers come to the {kind}", lines)
            ours.drop(other)
            while ours.connected(other):
                await trio.sleep(0.01)


def main() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, most), most))
    if len(PROCESSORS) > 1:
        os.sched_setaffinity(0, PROCESSORS - {max(PROCESSORS)})
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        certificate, _ = make_certificate(Path(folder))
        environment = {**os.environ, "DISPATCH_RELAY_TOKEN": SECRET}
        serve = ("rendezvous.relay.main", "serve", "--allow", "token", "--port", "0")
        origin = started(stack, *serve, environment=environment)[1].split()[-1]
        serving, direct = started(stack, "tests.bench.bench_relay", "serve", str(certificate), origin)
        nothing = int(started(stack, "tests.bench.bench_strangers", "nothing")[1])
        trio.run(measure, certificate, origin, direct, nothing, serving.pid)


if __name__ == "__main__":
    if sys.argv[1:2] == ["strangers"]:
        trio.run(partial(strangers, int(sys.argv[2]), sys.argv[3]))
    elif sys.argv[1:2] == ["nothing"]:
        trio.run(sinking)
    else:
        main()
