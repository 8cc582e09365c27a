"""One confined process tree as trio sees it: pipes, waiting, killing. Starting it is start.py's."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from types import TracebackType
from typing import IO, Self

import trio

from sandbox.confinement.bubblewrap.watchdog import Watchdog
from sandbox.confinement.interface import Excess


class BubblewrapProcess:
    """The tree under one bwrap, as a `ConfinedProcess`.

    `pid` is bwrap's; killing it ends the pid namespace and so everything in it, setsid or not.
    """

    def __init__(self, started: subprocess.Popen[bytes], watchdog: Watchdog | None = None) -> None:
        self._started = started
        self._watchdog = watchdog
        self._reaped = False
        self._pidfd = os.pidfd_open(started.pid)
        self.pid = started.pid
        # The stream classes of trio's interface, as the protocol has them.
        self.stdin: trio.abc.SendStream | None = _stream(started.stdin)
        self.stdout: trio.abc.ReceiveStream | None = _stream(started.stdout)
        self.stderr: trio.abc.ReceiveStream | None = _stream(started.stderr)

    @property
    def returncode(self) -> int | None:
        """As `wait` returns it; None while it runs."""
        return self._started.returncode

    async def wait(self) -> int:
        """See `ConfinedProcess`."""
        while self._started.poll() is None:
            await trio.lowlevel.wait_readable(self._pidfd)
        if not self._reaped:
            self._reaped = True
            os.close(self._pidfd)
        await trio.lowlevel.checkpoint()
        return int(self._started.returncode)

    def kill(self) -> None:
        """SIGKILL the tree. Idempotent; `wait` afterwards returns within milliseconds."""
        if self._started.returncode is None:
            # bwrap leads a process group. Until the namespace is built its child waits for bwrap, also for a dead one,
            # and is in that group. As long as bwrap is not reaped, no other group can have its number.
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    async def aclose(self) -> None:
        """See `ConfinedProcess`."""
        with trio.CancelScope(shield=True):
            if self._started.returncode is None:
                self.kill()
                await self.wait()
            for stream in (self.stdin, self.stdout, self.stderr):
                if stream is not None:
                    await stream.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def excess(self) -> Excess | None:
        """See `ConfinedProcess`."""
        return None if self._watchdog is None else await trio.to_thread.run_sync(self._watchdog.ended)


def _stream(pipe: IO[bytes] | None) -> trio.lowlevel.FdStream | None:
    if pipe is None:
        return None
    # The stream owns a descriptor of its own, so that Popen's file object closing does not pull it away.
    descriptor = os.dup(pipe.fileno())
    pipe.close()
    return trio.lowlevel.FdStream(descriptor)
