"""One confined program as trio sees it, its shell zone included: pipes, waiting, killing. Starting it is start.py's."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import IO, Self

import trio

from sandbox.confinement.bubblewrap.watchdog import Watchdog
from sandbox.confinement.bubblewrap.zone import ShellZone
from sandbox.confinement.interface import Excess


class BubblewrapProcess:
    """The tree under one bwrap, and that of its shell zone, as a `ConfinedProcess`.

    `pid` is bwrap's; killing it ends the pid namespace and so everything in it, setsid or not. The zone, `zone_trees`
    with its bwrap, ends with it.
    """

    def __init__(
        self,
        started: subprocess.Popen[bytes],
        watchdog: Watchdog | None = None,
        zone: ShellZone | None = None,
        zone_trees: Sequence[subprocess.Popen[bytes]] = (),
    ) -> None:
        self._started = started
        self._tree = _Tree(started)
        self._zone = zone
        self._zone_trees = [_Tree(tree) for tree in zone_trees]
        self._zone_said = ""
        self._watchdog = watchdog
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
        status = await self._tree.reaped()
        for tree in self._zone_trees:
            tree.kill()
            await tree.reaped()
        return status

    def kill(self) -> None:
        """SIGKILL the agent's tree, which the zone follows. Idempotent; `wait` then returns within milliseconds."""
        # Not the zone: a zone that ends before its agent means to the watch that the run broke.
        self._tree.kill()

    async def proxy_listener(self) -> trio.SocketListener | None:
        """See `ConfinedProcess`."""
        return None if self._zone is None else await self._zone.proxy_listener()

    async def stop_shells(self) -> int:
        """See `ConfinedProcess`."""
        return 0 if self._zone is None else await self._zone.stop()

    async def resume_shells(self) -> None:
        """See `ConfinedProcess`."""
        if self._zone is not None:
            await self._zone.go()

    async def count_shells(self) -> int:
        """See `ConfinedProcess`."""
        return 0 if self._zone is None else await self._zone.count()

    def zone_errors(self) -> str:
        """Why the shell zone ended, in words of its programs; "" where it said nothing. Not after `aclose`."""
        return "" if self._zone is None or self._zone.closed else self._zone.why_it_ended()

    async def aclose(self) -> None:
        """See `ConfinedProcess`."""
        with trio.CancelScope(shield=True):
            self.kill()
            await self.wait()
            for stream in (self.stdin, self.stdout, self.stderr):
                if stream is not None:
                    await stream.aclose()
            if self._zone is not None:
                self._zone_said = self.zone_errors()
                self._zone.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def excess(self) -> Excess | None:
        """See `ConfinedProcess`."""
        found = None if self._watchdog is None else await trio.to_thread.run_sync(self._watchdog.ended)
        if found is None or found.what != "shells":
            return found
        return replace(found, why=self.zone_errors() or self._zone_said)


class _Tree:
    """One bwrap, until it is reaped."""

    def __init__(self, started: subprocess.Popen[bytes]) -> None:
        self._started = started
        self._pidfd = os.pidfd_open(started.pid)
        self._reaped = False

    async def reaped(self) -> int:
        """Wait for its end; its exit status."""
        while self._started.poll() is None:
            await trio.lowlevel.wait_readable(self._pidfd)
        if not self._reaped:
            self._reaped = True
            os.close(self._pidfd)
        await trio.lowlevel.checkpoint()
        return int(self._started.returncode)

    def kill(self) -> None:
        if self._started.returncode is None:
            # bwrap leads a process group. Until the namespace is built its child waits for bwrap, also for a dead one,
            # and is in that group. As long as bwrap is not reaped, no other group can have its number.
            with suppress(ProcessLookupError):
                os.killpg(self._started.pid, signal.SIGKILL)


def _stream(pipe: IO[bytes] | None) -> trio.lowlevel.FdStream | None:
    if pipe is None:
        return None
    # The stream owns a descriptor of its own, so that Popen's file object closing does not pull it away.
    descriptor = os.dup(pipe.fileno())
    pipe.close()
    return trio.lowlevel.FdStream(descriptor)
