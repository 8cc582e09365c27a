"""What many devices cost a relay: the memory of 1,000 that are connected and idle, 100 pipes that all transfer at once.

The relay is the real program; the devices are connections of this process, from as many addresses of loopback as its
bounds for one network ask for. Every byte of every pipe is compared. The baseline of the throughput is one pipe alone.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from contextlib import ExitStack
from itertools import count
from math import ceil

import psutil
import trio
from trio_websocket import WebSocketConnection, wrap_client_stream

from peer.protocol.relays import messages
from peer.protocol.relays.masking import mask_in_c
from peer.protocol.relays.messages import CONTROL_PATH, MAX_PIECE, PIPE_PATH, SUBPROTOCOL, Joined, Listen, Welcome
from rendezvous.relay.limits import RelayLimits
from tests.bench._table import Line, p50, show
from tests.rendezvous.relay.world import Client, Keys, proof

DEVICES, TAGS, PIPES, ROUNDS = 1000, 20, 100, 3
SIZE, PIECE = 4_000_000, 65_536
"""Bytes of one pipe, and of each message: what a host's Noise messages have."""
SECRET = b"only for this measurement, which is on this machine"
LIMITS = RelayLimits()
DESCRIPTORS = 8192
AT_ONCE = 32
"""Handshakes at once, below the relay's bound for one network."""
OWN_PER_ADDRESS = LIMITS.connections_per_network // 2


class Devices:
    """Opens connections to the relay at `port`, each few from another address of this machine."""

    def __init__(self, port: int, nursery: trio.Nursery) -> None:
        self._port, self._nursery, self._opened = port, nursery, count()

    async def connect(self, path: str) -> WebSocketConnection:
        local = f"127.0.1.{1 + next(self._opened) // OWN_PER_ADDRESS}"
        stream = await trio.open_tcp_stream("127.0.0.1", self._port, local_address=local)
        stream.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
        return await wrap_client_stream(
            self._nursery, stream, "relay", path, subprotocols=[SUBPROTOCOL], receive_buffer_size=MAX_PIECE
        )

    async def control(self) -> Client:
        """A device that is admitted, and is rung at TAGS tags."""
        client = Client(await self.connect(CONTROL_PATH))
        challenge = await client.receive()
        assert isinstance(challenge, messages.Challenge)
        await client.send(proof(Keys(), challenge, SECRET))
        assert isinstance(await client.receive(), Welcome)
        return client

    async def pipe(self, ticket: bytes) -> WebSocketConnection:
        socket = await self.connect(PIPE_PATH)
        await Client(socket).send(messages.Join(ticket))
        return socket

    async def joined(self, caller: Client, callee: Client) -> tuple[WebSocketConnection, WebSocketConnection]:
        tag = os.urandom(16)
        await callee.listen(tag)
        near = await self.pipe(await caller.ticket(tag))
        far = await self.pipe((await callee.incoming()).ticket)
        for end in (near, far):
            assert isinstance(await Client(end).receive(), Joined)
        return near, far


async def send(socket: WebSocketConnection, content: bytes) -> None:
    for start in range(0, len(content), PIECE):
        await socket.send_message(content[start : start + PIECE])


async def receive(socket: WebSocketConnection, content: bytes) -> None:
    got = 0
    while got < len(content):
        piece = await socket.get_message()
        assert isinstance(piece, bytes) and piece == content[got : got + len(piece)]
        got += len(piece)


async def transfer(pipes: list[tuple[WebSocketConnection, WebSocketConnection]], size: int) -> float:
    """Send so many bytes over each pipe, all at once; return MB/s of all together."""
    contents = [os.urandom(size) for _ in pipes]
    start = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for (near, far), content in zip(pipes, contents, strict=True):
            nursery.start_soon(send, near, content)
            nursery.start_soon(receive, far, content)
    return size * len(pipes) / (time.perf_counter() - start) / 1e6


async def measure(port: int, relay: psutil.Process) -> None:
    async with trio.open_nursery() as nursery:
        devices = Devices(port, nursery)
        first = [await devices.control() for _ in range(10)]  # what the first ones make it load is no device's
        before = relay.memory_info().rss
        clients: list[Client] = []

        async def some(number: int) -> None:
            for _ in range(number):
                client = await devices.control()
                await client.send(Listen(tuple(os.urandom(16) for _ in range(TAGS))))
                clients.append(client)

        async with trio.open_nursery() as connecting:
            for _ in range(AT_ONCE):
                connecting.start_soon(some, ceil(DEVICES / AT_ONCE))
        for client in clients:
            await client.socket.ping()
        each = (relay.memory_info().rss - before) / len(clients) / 1e3
        idle = relay.memory_info().rss
        line = Line(f"{len(clients)} with {TAGS} tags each", f"{each:.0f} kB each", None, "", "<= 60 kB", each <= 60)
        show("devices that are connected and idle: resident memory of the relay", [line])

        alone = await devices.joined(*first[:2])
        many = [
            await devices.joined(caller, callee)
            for caller, callee in zip(clients[:PIPES], clients[PIPES : 2 * PIPES], strict=True)
        ]
        one, together, peak = [], [], 0

        async def watch() -> None:
            nonlocal peak
            while True:
                peak = max(peak, relay.memory_info().rss)
                await trio.sleep(0.05)

        async with trio.open_nursery() as watching:
            watching.start_soon(watch)
            for _ in range(ROUNDS):
                one.append(await transfer([alone], SIZE * 10))
                together.append(await transfer(many, SIZE))
            watching.cancel_scope.cancel()
        held = (peak - idle) / PIPES / 1e3
        lines = [
            Line("one pipe alone", f"{p50(one):.0f} MB/s", 1.0),
            Line(f"{PIPES} pipes, all together", f"{p50(together):.0f} MB/s", p50(together) / p50(one), "one alone"),
            Line("memory of the relay at its most", f"{held:.0f} kB a pipe"),
        ]
        show(f"{PIPES} pipes at once, {SIZE / 1e6:g} MB each, {ROUNDS} times, every byte compared", lines)
        nursery.cancel_scope.cancel()


def main() -> None:
    mask_in_c()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, most), most))
    command = [sys.executable, "-m", "rendezvous.relay.main", "serve", "--allow", "token", "--port", "0"]
    environment = {**os.environ, "DISPATCH_RELAY_TOKEN": SECRET.decode()}
    with ExitStack() as stack:
        relay = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment))
        stack.callback(relay.kill)
        assert relay.stdout is not None
        port = int(relay.stdout.readline().rpartition(":")[2])
        trio.run(measure, port, psutil.Process(relay.pid))


if __name__ == "__main__":
    main()
