"""One session of a host, from its first word to its end: the wire, the tools, the node, and the signals that end it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import AsyncIterator

import trio

from mcp_plugin import server
from mcp_plugin.greeting import Begun
from mcp_plugin.hosting import Hosting
from mcp_plugin.session import Session
from mcp_plugin.transport import Wire
from peer.state_folder import StateFolder

END_SECONDS = 0.4
"""Hosts kill after half a second. What is not tidied up by then is left to the journal: every state is durable."""


def run(folder: StateFolder, incoming: int, outgoing: int, begun: Begun) -> None:
    """Serve one session on two file descriptors until its host closes them or a signal comes."""
    trio.run(_serve, folder, Wire(incoming, outgoing, begun))


async def _serve(folder: StateFolder, wire: Wire) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            hosting = Hosting(folder, wire.answered)
            nursery.start_soon(_stop_at, signals, nursery.cancel_scope)
            nursery.start_soon(hosting.run)
            try:
                await server.run(wire, Session(folder, hosting))
            finally:
                _end_soon()
                nursery.cancel_scope.cancel()


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
