"""The baseline of everything that goes over the wire: py-libp2p as it comes, two processes, nothing of ours.

A stock host with Noise and Yamux in a process of its own, which echoes and gives bytes, and a client of it here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.network.stream.exceptions import StreamError
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr import Multiaddr

ROOT = Path(__file__).parents[2]
LISTEN = Multiaddr("/ip4/127.0.0.1/tcp/0")
ECHO, SOURCE = TProtocol("/bench/echo/1"), TProtocol("/bench/source/1")
PIECE = 256 * 1024
"""Bytes written at once: what this library is fastest with."""


def stock_host() -> Any:
    """Return a host as the library makes it."""
    return new_host(key_pair=create_new_key_pair(os.urandom(32)))


class Bare:
    """The client of the other process."""

    def __init__(self, host: Any, peer: Any) -> None:
        self._host = host
        self._peer = peer

    async def stream(self, protocol: TProtocol) -> Any:
        """Open a stream."""
        return await self._host.new_stream(self._peer, [protocol])

    async def ask(self, stream: Any, body: bytes) -> None:
        """One request and its response, as long as the request, on an open stream."""
        await stream.write(body)
        left = len(body)
        while left:
            left -= len(await stream.read(left))

    async def ask_anew(self, body: bytes) -> None:
        """One request and its response on a stream of their own, as libp2p's request-response protocols do it."""
        stream = await self.stream(ECHO)
        await self.ask(stream, body)
        await stream.close()

    async def copy(self, size: int) -> None:
        """Have the other process send `size` bytes on one stream, into nothing."""
        stream = await self.stream(SOURCE)
        await stream.write(size.to_bytes(8, "big"))
        while size:
            size -= len(await stream.read(min(size, 1 << 20)))
        await stream.close()


@asynccontextmanager
async def bare() -> AsyncIterator[Bare]:
    """Give a client connected to a stock host in another process."""
    with subprocess.Popen([sys.executable, "-m", __name__], cwd=ROOT, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            target = info_from_p2p_addr(Multiaddr(server.stdout.readline().decode().strip()))
            host = stock_host()
            async with host.run([LISTEN]):
                await host.connect(target)
                yield Bare(host, target.peer_id)
        finally:
            server.kill()


async def _serve() -> None:
    host = stock_host()
    piece = os.urandom(PIECE)

    async def echo(stream: Any) -> None:
        # The end is caught here: an exception that leaves a handler ends a stock host.
        with suppress(StreamError):
            while data := await stream.read(65_536):
                await stream.write(data)
        await stream.close()

    async def source(stream: Any) -> None:
        size = int.from_bytes(await stream.read(8), "big")
        for start in range(0, size, PIECE):
            await stream.write(piece[: size - start])
        await stream.close()

    host.set_stream_handler(ECHO, echo)
    host.set_stream_handler(SOURCE, source)
    async with host.run([LISTEN]):
        print(host.get_addrs()[0], flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(_serve)
