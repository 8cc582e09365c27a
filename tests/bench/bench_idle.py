"""What 200 connected contacts with nothing to say cost: processor time of one side, and pings, over a minute.

This side is a host with its courier and the watch of networks and sleep; the contacts are hosts in another process. Its
baseline is the same with nobody connected, and the same with a ping of each side every ten seconds, as it was before.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from unittest import mock

import structlog
import trio

from peer.machine.networks import NetworkWatch
from peer.mesh.courier import Courier
from peer.mesh.guards.yamux import SafeYamux
from peer.mesh.guards.yamux_limits import YamuxLimits
from peer.mesh.host import MeshHost, MeshLimits
from peer.protocol.acknowledgements import Acknowledgement
from tests.bench._table import Line, show
from tests.mesh.harness import MemoryOutbox

LISTEN = "/ip4/127.0.0.1/tcp/0"
CONTACTS = 200
SECONDS = 60.0
USUAL, BEFORE = YamuxLimits(), YamuxLimits(ping_every=10.0, dead_after=30.0)


async def no_addresses(_peer_id: str) -> list[str]:
    return []


async def accept(_peer_id: str, _raw: bytes) -> Acknowledgement:
    return Acknowledgement(200)


def said_hello(_peer_id: str) -> bytes:
    return b"\xa0"


def courier_of(host: MeshHost) -> Courier:
    return Courier(host, outbox=MemoryOutbox(), receive=accept, addresses=no_addresses, hello=said_hello)


async def contacts(address: str, limits: YamuxLimits) -> None:
    """The other process: so many hosts, each connected to `address` with its courier's stream open."""
    peer = address.rsplit("/", 1)[1]
    async with AsyncExitStack() as stack:
        for _ in range(CONTACTS):
            host = MeshHost(os.urandom(32), listen=[LISTEN], admits=lambda _: True, limits=MeshLimits(yamux=limits))
            await stack.enter_async_context(host.running())
            courier = courier_of(host)
            await stack.enter_async_context(courier.running())
            await host.connect(peer, [address])
            courier.greet([peer])
        print("connected", flush=True)
        await trio.sleep_forever()


@contextmanager
def counted() -> Iterator[list[int]]:
    """Count the pings that this process asks."""
    pings, ask = [0], SafeYamux._ping

    def counting(self: SafeYamux) -> None:
        pings[0] += 1
        ask(self)

    with mock.patch.object(SafeYamux, "_ping", counting):
        yield pings


async def idle(limits: YamuxLimits | None) -> tuple[float, int]:
    """Return the share of one core that a minute of idling takes, in percent, and the pings; None for no contacts."""
    host = MeshHost(os.urandom(32), listen=[LISTEN], admits=lambda _: True, limits=MeshLimits(yamux=limits or USUAL))
    watch = NetworkWatch(lambda: None, lambda: None)
    courier = courier_of(host)
    async with host.running(), courier.running(), trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        other = None
        if limits is not None:
            kind = "usual" if limits is USUAL else "before"
            command = [sys.executable, "-m", "tests.bench.bench_idle", kind, host.addresses()[0]]
            other = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
            assert other.stdout is not None
            await other.stdout.receive_some()
        await trio.sleep(5)
        with counted() as pings:
            began, used = time.monotonic(), time.process_time()
            await trio.sleep(SECONDS)
            share = 100 * (time.process_time() - used) / (time.monotonic() - began)
        if other is not None:
            other.kill()
            await other.wait()
        nursery.cancel_scope.cancel()
    return share, pings[0]


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    if len(sys.argv) == 3:
        trio.run(contacts, sys.argv[2], USUAL if sys.argv[1] == "usual" else BEFORE)
        return
    alone, _ = trio.run(idle, None)
    now, pings = trio.run(idle, USUAL)
    before, pings_before = trio.run(idle, BEFORE)
    show(
        f"{CONTACTS} contacts are connected and nothing happens, {SECONDS:.0f} s",
        [
            Line("nobody connected", f"{alone:.2f} % of a core"),
            Line("a ping in 30 s", f"{now:.2f} % of a core", now / before, "a ping in 10 s", "<= 0.5 %", now <= 0.5),
            Line("pings asked here", f"{pings}", pings / pings_before, "a ping in 10 s"),
        ],
    )


if __name__ == "__main__":
    main()
