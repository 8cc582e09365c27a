"""A peer that dies or stops, in a process of its own: what the library cannot see inside one loop."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from peer.mesh.courier import Courier, CourierLimits
from peer.mesh.guards.yamux_limits import YamuxLimits
from peer.mesh.host import MeshHost, MeshLimits
from peer.mesh.streams import StreamEnded
from peer.protocol.acknowledgements import Acknowledgement
from tests.conftest import HANG
from tests.mesh.harness import MemoryOutbox, make_host, until
from tests.mesh.peer_program import ECHO, HALF

SEED = bytes(range(32))


@asynccontextmanager
async def peer_process(port: int = 0) -> AsyncIterator[tuple[trio.Process, str, str]]:
    """A running peer: the process, its peer id, its address."""
    async with trio.open_nursery() as nursery:
        process = await nursery.start(
            lambda task_status: trio.run_process(
                [sys.executable, "-m", "tests.mesh.peer_program", SEED.hex(), str(port)],
                stdout=subprocess.PIPE,
                capture_stdout=False,
                check=False,
                task_status=task_status,
            )
        )
        try:
            line = b""
            while not line.endswith(b"\n"):
                line += await process.stdout.receive_some()
            address = line.decode().strip()
            yield process, address.rsplit("/", 1)[1], address
        finally:
            process.kill()


def courier_of(host: MeshHost, outbox: MemoryOutbox, address: str) -> Courier:
    async def receive(peer_id: str, raw: bytes) -> Acknowledgement:
        return Acknowledgement(200)

    async def addresses(peer_id: str) -> list[str]:
        return [address]

    return Courier(
        host,
        outbox=outbox,
        receive=receive,
        addresses=addresses,
        limits=CourierLimits(first_retry=0.05, longest_retry=0.2),
    )


async def test_a_killed_peer_is_noticed_at_once_and_gets_the_rest_when_it_is_back() -> None:
    """SIGKILL: open streams end, the courier reconnects to the new process and brings what waited."""
    host, outbox = make_host(), MemoryOutbox()
    async with host.running(), peer_process() as (process, peer_id, address):
        courier = courier_of(host, outbox, address)
        async with courier.running():
            outbox.put(peer_id, "before", b"before")
            courier.wake(peer_id)
            await outbox.settled("before")
            half = await host.open_stream(peer_id, HALF)
            await half.receive(max_bytes=100, deadline=HANG)
            process.send_signal(signal.SIGKILL)
            with trio.fail_after(HANG), pytest.raises(StreamEnded):
                while True:
                    await half.read(1 << 20, deadline=HANG)
            await until(lambda: not host.connected(peer_id))
            for number in range(10):
                outbox.put(peer_id, f"after{number}", b"x")
            courier.wake(peer_id)
            async with peer_process(int(address.split("/")[4])):
                await outbox.settled(*[f"after{number}" for number in range(10)])
    assert outbox.acknowledgements["before"] == Acknowledgement(200, "1")


async def test_a_stopped_peer_is_given_up_and_served_when_it_goes_on() -> None:
    """Fault 12, SIGSTOP. Stock: pings go unanswered and nobody minds; writes into it wait for ever."""
    limits = MeshLimits(yamux=YamuxLimits(ping_every=0.2, dead_after=1.0), dial=1.0)
    host, outbox = make_host(limits=limits), MemoryOutbox()
    async with host.running(), peer_process() as (process, peer_id, address):
        courier = courier_of(host, outbox, address)
        async with courier.running():
            outbox.put(peer_id, "before", b"before")
            courier.wake(peer_id)
            await outbox.settled("before")
            stream = await host.open_stream(peer_id, ECHO)
            process.send_signal(signal.SIGSTOP)
            with trio.fail_after(HANG), pytest.raises(StreamEnded):
                await stream.receive(max_bytes=100, deadline=HANG)
            assert not host.connected(peer_id)
            outbox.put(peer_id, "while stopped", b"x")
            courier.wake(peer_id)
            await until(lambda: courier.sender(peer_id).machine.failures >= 1)
            process.send_signal(signal.SIGCONT)
            await outbox.settled("while stopped")
