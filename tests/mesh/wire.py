"""A wire between two ends on this machine that a test cuts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio


class Wire:
    """A way to an address that can be cut without a word, as a network is that somebody has left."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.port = 0
        self.taken = 0
        self._whole = trio.Event()
        self._whole.set()

    @property
    def address(self) -> str:
        return f"/ip4/127.0.0.1/tcp/{self.port}"

    def mend(self) -> None:
        self._whole.set()

    def cut(self) -> None:
        """From now on nothing passes, and new connections are taken and lead nowhere."""
        self._whole = trio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(trio.serve_tcp, self._serve, 0, host="127.0.0.1"))
            self.port = listeners[0].socket.getsockname()[1]
            yield
            nursery.cancel_scope.cancel()

    async def _serve(self, near: trio.SocketStream) -> None:
        self.taken += 1
        await self._whole.wait()
        far = await trio.open_tcp_stream("127.0.0.1", self._port)
        async with far, trio.open_nursery() as nursery:
            nursery.start_soon(self._pass_on, near, far)
            nursery.start_soon(self._pass_on, far, near)

    async def _pass_on(self, one: trio.SocketStream, other: trio.SocketStream) -> None:
        try:
            async for data in one:
                await self._whole.wait()
                await other.send_all(data)
            await self._whole.wait()
            await other.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
