"""A TCP load balancer for tests: each connection goes to whichever broker is chosen for it when it comes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import trio


class Balancer:
    """Takes connections at one address. `choose` returns the port on 127.0.0.1 that the next one goes to, or None to
    refuse it. `source` returns the address of this machine that the connection to the broker comes from, or None for
    the usual one."""

    def __init__(
        self,
        listener: trio.SocketListener,
        choose: Callable[[], int | None],
        *,
        source: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._listener = listener
        self._choose = choose
        self._source = source
        self.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"

    async def serve(self) -> None:
        """Carry connections until cancelled."""
        await trio.serve_listeners(self._bring, [self._listener])

    async def _bring(self, came: trio.SocketStream) -> None:
        port = self._choose()
        try:
            if port is None:
                raise ConnectionRefusedError
            there = await trio.open_tcp_stream("127.0.0.1", port, local_address=self._source())
        except OSError:
            await trio.aclose_forcefully(came)
            return
        async with there, trio.open_nursery() as nursery:
            for one, other in ((came, there), (there, came)):
                nursery.start_soon(self._carry, one, other, nursery.cancel_scope)

    async def _carry(self, one: trio.SocketStream, other: trio.SocketStream, both: trio.CancelScope) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in one:
                await other.send_all(data)
        both.cancel()
