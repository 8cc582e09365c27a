"""One session of a host, from its first word to its end: the wire, the tools, the node, and the signals that end it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable

import trio

from mcp_plugin.greeting import Begun
from mcp_plugin.hosting import Hosting
from mcp_plugin.session import Session
from peer.state_folder import StateFolder

END_SECONDS = 0.4
"""Hosts kill after half a second. What is not tidied up by then is left to the journal: every state is durable."""


def run(folder: StateFolder, incoming: int, outgoing: int, begun: Begun) -> None:
    """Serve one session on two file descriptors until its host closes them or a signal comes."""
    trio.run(_serve, folder, incoming, outgoing, begun)


async def _serve(folder: StateFolder, incoming: int, outgoing: int, begun: Begun) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            answered = trio.Event()
            if begun.answered is not None:
                answered.set()
            hosting = Hosting(folder, answered)
            nursery.start_soon(_stop_at, signals, nursery.cancel_scope)
            nursery.start_soon(hosting.run)
            try:
                # A second and more, in which the node comes up beside it. An import cannot be called back.
                loaded = await trio.to_thread.run_sync(_load, abandon_on_cancel=True)  # type: ignore[call-arg]
                await loaded(Session(folder, hosting), incoming, outgoing, begun, answered)
            finally:
                _end_soon()
                nursery.cancel_scope.cancel()


def _load() -> Callable[[Session, int, int, Begun, trio.Event], Awaitable[None]]:
    from mcp_plugin.server import run  # the SDK

    return run


async def _stop_at(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in signals:
        _end_soon()
        scope.cancel()
        return


def _end_soon() -> None:
    """End the process soon, however long its parts take to end."""
    timer = threading.Timer(END_SECONDS, os._exit, (0,))
    timer.daemon = True
    timer.start()
