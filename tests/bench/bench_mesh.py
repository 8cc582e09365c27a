"""The wire alone: courier and blobs without node or store beside bare libp2p, two processes over loopback.

"bare" is py-libp2p as it comes (stock host, Noise and Yamux), "ours" the hardened host; they take turns, with js-libp2p
where that can be installed. What node, store and loopback API add is bench_courier.py and bench_files.py.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr import Multiaddr

from peer.mesh import blobs
from peer.mesh.courier import Courier
from peer.mesh.host import MeshHost
from peer.mesh.streams import Stream
from peer.protocol.acknowledgements import Acknowledgement
from tests.bench._js_libp2p import JsLibp2p, js_libp2p
from tests.bench._table import Line, Missing, ms, p50, show
from tests.mesh.harness import MemoryOutbox

LISTEN = "/ip4/127.0.0.1/tcp/0"
ECHO, SOURCE = TProtocol("/bench/echo/1"), TProtocol("/bench/source/1")
ROUNDS, FILES, SIZE = 3, 50, 5_000_000
PIECE = 262_144


async def no_addresses(peer_id: str) -> list[str]:
    return []


async def accept(peer_id: str, raw: bytes) -> Acknowledgement:
    return Acknowledgement(200)


async def serve(folder: Path) -> None:
    """The other process: a stock host and one of ours, both with an echo and a source of bytes."""
    bare = new_host(key_pair=create_new_key_pair(os.urandom(32)))
    ours = MeshHost(os.urandom(32), listen=[LISTEN], admits=lambda _: True)
    piece = os.urandom(PIECE)

    async def bare_echo(stream) -> None:  # type: ignore[no-untyped-def]
        with suppress(Exception):  # what escapes a handler ends the whole stock host
            while True:
                await stream.write(await stream.read(65536))

    async def bare_source(stream) -> None:  # type: ignore[no-untyped-def]
        size = int.from_bytes(await stream.read(8), "big")
        for start in range(0, size, PIECE):
            await stream.write(piece[: size - start])

    async def our_echo(stream: Stream) -> None:
        while True:
            await stream.write(await stream.read(65536, deadline=600), deadline=60)

    async def our_source(stream: Stream) -> None:
        size = int.from_bytes(await stream.read(8, deadline=60), "big")
        for start in range(0, size, PIECE):
            await stream.write(piece[: size - start], deadline=60)

    async def lookup(peer_id: str, statement_id: bytes, digest: bytes) -> Path:
        return folder / digest.hex()

    bare.set_stream_handler(ECHO, bare_echo)
    bare.set_stream_handler(SOURCE, bare_source)
    ours.handle(ECHO, our_echo)
    ours.handle(SOURCE, our_source)
    blobs.serve(ours, lookup)
    courier = Courier(ours, outbox=MemoryOutbox(), receive=accept, addresses=no_addresses)
    async with bare.run([Multiaddr(LISTEN)]), ours.running(), courier.running():
        print(bare.get_addrs()[0], ours.addresses()[0], flush=True)
        await trio.sleep_forever()


class Bench:
    """The measuring process."""

    def __init__(self, bare_address: str, our_address: str, folder: Path, js: JsLibp2p | None) -> None:
        self.bare = new_host(key_pair=create_new_key_pair(os.urandom(32)))
        self.target = info_from_p2p_addr(Multiaddr(bare_address))
        self.ours = MeshHost(os.urandom(32), listen=[LISTEN], admits=lambda _: True)
        self.address = our_address
        self.peer = our_address.rsplit("/", 1)[1]
        self.outbox = MemoryOutbox()
        self.courier = Courier(self.ours, outbox=self.outbox, receive=accept, addresses=no_addresses)
        self.folder = folder
        self.js = js
        self.number = 0

    async def run(self) -> None:
        async with self.bare.run([Multiaddr(LISTEN)]), self.ours.running(), self.courier.running():
            await self.bare.connect(self.target)
            await self.ours.connect(self.peer, [self.address])
            await self.latency()
            await self.bulk()

    async def latency(self) -> None:
        opened = await self.bare.new_stream(self.target.peer_id, [ECHO])
        await self.statement()
        times: dict[str, list[float]] = {"bare open stream": [], "bare new stream": [], "courier": []}
        for _ in range(200):
            start = time.perf_counter()
            await opened.write(bytes(1024))
            await opened.read(65536)
            times["bare open stream"].append(time.perf_counter() - start)
            if len(times["bare new stream"]) < 100:
                start = time.perf_counter()
                fresh = await self.bare.new_stream(self.target.peer_id, [ECHO])
                await fresh.write(bytes(1024))
                await fresh.read(65536)
                times["bare new stream"].append(time.perf_counter() - start)
                await fresh.reset()
            times["courier"].append(await self.statement())
        base = p50(times["bare open stream"])
        lines = [Line(name, ms(values), p50(values) / base, "bare open stream") for name, values in times.items()]
        show("1 KiB there, and its answer back", lines)

    async def statement(self) -> float:
        """Seconds from the outbox to the acknowledgement noted."""
        self.number += 1
        key = str(self.number)
        noted = trio.Event()
        acknowledged = MemoryOutbox.acknowledged

        async def note(k: str, acknowledgement: Acknowledgement) -> None:
            await acknowledged(self.outbox, k, acknowledgement)
            noted.set()

        self.outbox.acknowledged = note  # type: ignore[method-assign, assignment]
        start = time.perf_counter()
        self.outbox.put(self.peer, key, bytes(1024))
        self.courier.wake(self.peer)
        await noted.wait()
        return time.perf_counter() - start

    async def bulk(self) -> None:
        digests = []
        for _ in range(FILES):
            data = os.urandom(SIZE)
            digests.append(hashlib.sha256(data).digest())
            (self.folder / digests[-1].hex()).write_bytes(data)
        speeds: dict[str, list[float]] = {"bare stream": [], "our stream": [], "blobs": []}
        beside: list[float] = []
        for _ in range(ROUNDS):
            speeds["bare stream"].append(await self.timed(self.bare_copy))
            speeds["our stream"].append(await self.timed(self.our_copy))
            if self.js is not None:
                seconds = await trio.to_thread.run_sync(self.js.copy, FILES * SIZE)
                speeds.setdefault("js-libp2p's stream", []).append(FILES * SIZE / seconds / 1e6)
            speeds["blobs"].append(await self.timed(lambda: self.fetch_all(digests)))
            async with trio.open_nursery() as nursery:

                async def measure() -> None:
                    while True:
                        beside.append(await self.statement())

                nursery.start_soon(measure)
                await self.fetch_all(digests)
                nursery.cancel_scope.cancel()
        middle = {name: p50(values) for name, values in speeds.items()}
        lines = [
            Line(name, f"{speed:.0f} MB/s", speed / middle["bare stream"], "bare stream")
            for name, speed in middle.items()
        ]
        if (theirs := middle.get("js-libp2p's stream")) is not None:
            ratio = middle["our stream"] / theirs
            lines.append(Line("our stream", "", ratio, "js-libp2p's stream", ">= 1x", ratio >= 1))
        show(
            f"{FILES} files of {SIZE / 1e6:g} MB, {ROUNDS} times",
            [*lines, Line("courier meanwhile, on the same connection", ms(beside))],
        )

    async def timed(self, copy) -> float:  # type: ignore[no-untyped-def]
        start = time.perf_counter()
        await copy()
        return FILES * SIZE / (time.perf_counter() - start) / 1e6

    async def bare_copy(self) -> None:
        stream = await self.bare.new_stream(self.target.peer_id, [SOURCE])
        await stream.write((FILES * SIZE).to_bytes(8, "big"))
        got = 0
        while got < FILES * SIZE:
            got += len(await stream.read(1 << 20))

    async def our_copy(self) -> None:
        stream = await self.ours.open_stream(self.peer, SOURCE)
        await stream.write((FILES * SIZE).to_bytes(8, "big"), deadline=60)
        got = 0
        while got < FILES * SIZE:
            got += len(await stream.read(1 << 20, deadline=60))
        await stream.reset()  # else it keeps its share of the window that all streams of a device have together

    async def fetch_all(self, digests: list[bytes]) -> None:
        """Three at a time, so that one file's fsync passes beside the next one's bytes."""
        waiting = iter(digests)

        async def worker(number: int) -> None:
            for digest in waiting:
                target = self.folder / f"fetched{number}"
                await blobs.fetch(
                    self.ours, self.peer, statement_id=bytes(16), digest=digest, size=SIZE, destination=target
                )

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(worker, number)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        try:
            js = stack.enter_context(js_libp2p(Path(folder)))
        except Missing as error:
            print(f"\nwithout js-libp2p: {error}")
            js = None
        command = [sys.executable, "-m", "tests.bench.bench_mesh", "serve", folder]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            try:
                bare_address, our_address = server.stdout.readline().split()
                trio.run(Bench(bare_address, our_address, Path(folder), js).run)
            finally:
                server.kill()


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        trio.run(serve, Path(sys.argv[2]))
    else:
        main()
