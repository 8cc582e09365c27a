"""One session of a host, from its first message to its end: transport, tools, node, and the signals that end it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable

import trio

from mcp_plugin.handshake import Handshake
from mcp_plugin.host import Host
from mcp_plugin.hosting import Hosting
from mcp_plugin.session import Session
from peer.machine.state_folder import StateFolder

END_SECONDS = 0.4
"""Hosts kill after half a second. Cleaning up that takes longer is left to the next start: every state is durable."""


def run(folder: StateFolder, incoming: int, outgoing: int, handshake: Handshake) -> None:
    """Serve one session on two file descriptors until its host closes them or a signal comes."""
    trio.run(_serve, folder, incoming, outgoing, handshake)


async def _serve(folder: StateFolder, incoming: int, outgoing: int, handshake: Handshake) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            def end() -> None:
                _end_soon()
                nursery.cancel_scope.cancel()

            host = Host(incoming, outgoing, handshake, end)
            hosting = Hosting(folder, host.answered)
            nursery.start_soon(_at_signals, signals, end)
            nursery.start_soon(hosting.run)
            try:
                async with trio.open_nursery() as loading:
                    loading.start_soon(host.read_ahead)
                    # Loading takes a second and more, in which the node starts. An import cannot be interrupted.
                    # mypy takes the options of run_sync for arguments of the function that is run.
                    run = await trio.to_thread.run_sync(_load, abandon_on_cancel=True)  # type: ignore[call-arg]
                    loading.cancel_scope.cancel()
                host.left = _end_soon  # from now on the SDK notices the closed input, but ends slowly
                await run(Session(folder, hosting), host)
            finally:
                end()


def _load() -> Callable[[Session, Host], Awaitable[None]]:
    from mcp_plugin.server import run  # loads the SDK

    return run


async def _at_signals(signals: AsyncIterator[int], end: Callable[[], None]) -> None:
    async for _ in signals:
        end()


def _end_soon() -> None:
    """End the process within END_SECONDS, whatever its tasks and threads still do."""
    timer = threading.Timer(END_SECONDS, os._exit, (0,))
    timer.daemon = True
    timer.start()
