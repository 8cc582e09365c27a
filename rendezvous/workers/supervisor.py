"""The process that starts the others: each is started again when it ends, and all of them stop with this one."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import structlog
import trio

from peer.protocol.errors import Unavailable
from rendezvous.workers.notices import CHANGED, READY, Outbox, messages
from rendezvous.workers.worker import Inherited

log = structlog.get_logger(__name__)

START_SECONDS: Final = 60
"""For a process until it accepts connections: it may have a database to migrate."""
AGAIN_SECONDS: Final = (0.2, 5.0)
"""Before one is started again that ended: first, and at most; the wait doubles until one has been ready."""


class Supervisor:
    """`count` processes that `serve` runs in, each with the `arguments` of this one's command line.

    `stop_seconds`: what one may take to end once it is asked to.
    """

    def __init__(self, count: int, arguments: Sequence[str], listening: Sequence[int], *, stop_seconds: float) -> None:
        self._count = count
        # -P: nothing is imported from the folder that it was started in.
        self._command = [sys.executable, "-P", "-m", "rendezvous.main", *arguments]
        self._listening = tuple(listening)
        self._stop_seconds = stop_seconds
        self._outboxes: dict[int, Outbox] = {}

    async def run(self, started: Callable[[], None], stop: Callable[[], Awaitable[object]]) -> None:
        """Run them until `stop` returns, and then let them end. Calls `started` once all accept connections.

        Raises Unavailable if one ends before that: what it has printed says why.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._until, stop, nursery.cancel_scope)
            # The first one by itself: it makes or migrates the tables, and what is wrong is said once.
            for number in range(self._count):
                await nursery.start(self._keep, number)
            started()

    async def _until(self, stop: Callable[[], Awaitable[object]], workers: trio.CancelScope) -> None:
        await stop()
        workers.cancel()

    async def _keep(self, number: int, *, task_status: Any) -> None:  # trio-stubs lack trio.TaskStatus
        """Run process `number`, again and again; it has `started` once it was ready for the first time."""
        first, most = AGAIN_SECONDS
        wait, told = first, False

        def ready() -> None:
            nonlocal wait, told
            wait = first
            if not told:
                told = True
                task_status.started()

        while True:
            code = await self._once(number, ready)
            if not told:
                raise Unavailable(f"a worker of the broker ended as it started, with code {code}", fix="see above")
            log.error("worker.ended", worker=number, code=code, again_after=wait)
            await trio.sleep(wait)
            wait = min(2 * wait, most)

    async def _once(self, number: int, ready: Callable[[], None]) -> int:
        ours, theirs = socket.socketpair()
        with theirs:
            inherited = Inherited(theirs.fileno(), self._listening)
            process = await trio.lowlevel.open_process(
                [*self._command, "--worker", inherited.option],
                pass_fds=inherited.descriptors,
                stdin=subprocess.DEVNULL,
            )
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        outbox = self._outboxes[number] = Outbox()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_send, outbox, stream)
                nursery.start_soon(self._receive, number, stream, ready, process)
                code = await process.wait()
                nursery.cancel_scope.cancel()
        finally:
            del self._outboxes[number]
            with trio.CancelScope(shield=True):
                await self._ended(process)
                await stream.aclose()
        return code

    async def _receive(
        self, number: int, stream: trio.SocketStream, ready: Callable[[], None], process: trio.Process
    ) -> None:
        with trio.move_on_after(START_SECONDS) as starting:
            async for message in messages(stream):
                if message.get(READY):
                    starting.deadline = float("inf")
                    ready()
                if CHANGED in message:
                    told = message[CHANGED]
                    for other, outbox in self._outboxes.items():
                        if other != number:
                            outbox.tell(told if isinstance(told, list) else None)
        if starting.cancelled_caught:
            log.error("worker.not_ready", worker=number, seconds=START_SECONDS)
            process.kill()

    async def _ended(self, process: trio.Process) -> None:
        """Ask a process to stop, and wait until it has."""
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with trio.move_on_after(self._stop_seconds):
                await process.wait()
        if process.poll() is None:
            log.error("worker.killed", pid=process.pid, seconds=self._stop_seconds)
            process.kill()
            await process.wait()


async def _send(outbox: Outbox, stream: trio.SocketStream) -> None:
    with suppress(trio.BrokenResourceError):  # the process has ended
        await outbox.send(stream)
