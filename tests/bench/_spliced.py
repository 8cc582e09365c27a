"""The baseline of relayed bytes: two TLS connections that a relay in between splices. Three processes, nothing of ours.

The relay ends TLS at both sides, as a relay with a certificate does, and reads 256 KiB at once.
"""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil
import trio

from tests.bench._bare import PIECE, ROOT

HOST = "localhost"


class Spliced:
    """The receiving end."""

    def __init__(self, port: int, certificate: Path, processes: list[psutil.Process]) -> None:
        self._port, self._certificate = port, certificate
        self.processes = processes
        """The relay and the source."""

    def copy(self, size: int) -> float:
        """Receive `size` bytes, into nothing; return how many seconds it took from the request on."""
        return trio.run(self._copy, size)

    async def _copy(self, size: int) -> float:
        trusted = ssl.create_default_context(cafile=str(self._certificate))
        async with await trio.open_ssl_over_tcp_stream(HOST, self._port, ssl_context=trusted) as stream:
            await stream.send_all(b"r")
            start = time.perf_counter()
            await stream.send_all(size.to_bytes(8, "big"))
            while size:
                size -= len(await stream.receive_some(min(size, PIECE)))
            return time.perf_counter() - start


@contextmanager
def spliced(certificate: Path, key: Path) -> Iterator[Spliced]:
    """Give the receiving end, and have the two other processes run."""
    command = [sys.executable, "-m", __name__]
    with subprocess.Popen([*command, "relay", str(certificate), str(key)], cwd=ROOT, stdout=subprocess.PIPE) as relay:
        assert relay.stdout is not None
        port = int(relay.stdout.readline())
        with subprocess.Popen([*command, "source", str(certificate), str(port)], cwd=ROOT) as source:
            try:
                yield Spliced(port, certificate, [psutil.Process(relay.pid), psutil.Process(source.pid)])
            finally:
                relay.kill()
                source.kill()


async def _relay(certificate: str, key: str) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    sources, over = trio.open_memory_channel[tuple[trio.SSLStream, trio.Event]](100)

    async def pass_on(one: trio.abc.Stream, other: trio.abc.Stream) -> None:
        while data := await one.receive_some(PIECE):
            await other.send_all(data)

    async def joined(stream: trio.SSLStream) -> None:
        try:
            if await stream.receive_some(1) == b"s":
                ended = trio.Event()
                await sources.send((stream, ended))
                await ended.wait()
            else:
                source, ended = await over.receive()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(pass_on, source, stream)
                    await pass_on(stream, source)
                    nursery.cancel_scope.cancel()
                ended.set()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    serve = partial(trio.serve_ssl_over_tcp, joined, 0, context, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(serve)
        print(listener.transport_listener.socket.getsockname()[1], flush=True)


async def _source(certificate: str, port: str) -> None:
    """One connection for each transfer: the next one begins when the one before was asked for."""
    trusted = ssl.create_default_context(cafile=certificate)
    piece = os.urandom(PIECE)
    while True:
        stream = await trio.open_ssl_over_tcp_stream(HOST, int(port), ssl_context=trusted)
        await stream.send_all(b"s")
        size = int.from_bytes(await stream.receive_some(8), "big")
        for start in range(0, size, PIECE):
            await stream.send_all(piece[: size - start])
        with suppress(trio.BrokenResourceError):  # the relay's end of it, without a goodbye
            await stream.receive_some(1)
        await trio.aclose_forcefully(stream)


if __name__ == "__main__":
    trio.run({"relay": _relay, "source": _source}[sys.argv[1]], *sys.argv[2:])
