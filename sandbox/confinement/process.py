"""One confined process tree as trio sees it: pipes, waiting, killing. How it is started is bwrap.py's."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import trio

from sandbox.confinement.pins import Pins
from sandbox.confinement.watch import Excess, Watch


class ConfinedProcess:
    """The tree under one bwrap. ``pid`` is bwrap's; killing it ends the pid namespace and so everything
    in it, setsid or not.

    ``stdin``, ``stdout``, ``stderr``: trio streams where a pipe was asked for, else None. As an async
    context manager it is killed and reaped on leaving.
    """

    def __init__(self, started: subprocess.Popen[bytes], pins: Pins, watch: Watch | None = None) -> None:
        self._started = started
        self._pins = pins
        self._watch = watch
        self._reaped = False
        self._pidfd = os.pidfd_open(started.pid)
        self.pid = started.pid
        self.stdin = _stream(started.stdin)
        self.stdout = _stream(started.stdout)
        self.stderr = _stream(started.stderr)

    @property
    def returncode(self) -> int | None:
        """None while it runs; negative for a signal, 128 + signal when the program inside died of one."""
        return self._started.returncode

    async def wait(self) -> int:
        """Wait for the whole tree's end and return ``returncode``. Cancelling the wait leaves the tree
        running.
        """
        while self._started.poll() is None:
            await trio.lowlevel.wait_readable(self._pidfd)
        self._finish()
        await trio.lowlevel.checkpoint()
        return int(self._started.returncode)

    def kill(self) -> None:
        """SIGKILL the tree. Idempotent; ``wait`` afterwards returns within milliseconds."""
        if self._started.returncode is None:
            # bwrap leads a process group. Its child is in it until the namespace is built, and would wait for ever for
            # a bwrap that has died; not reaped yet, bwrap keeps the number of the group from being anybody else's.
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    async def aclose(self) -> None:
        """Kill, reap and close the pipes, also when cancelled."""
        with trio.CancelScope(shield=True):
            if self._started.returncode is None:
                self.kill()
                await self.wait()
            for stream in (self.stdin, self.stdout, self.stderr):
                if stream is not None:
                    await stream.aclose()

    async def __aenter__(self) -> ConfinedProcess:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def excess(self) -> Excess | None:
        """Why the tree was killed by its watch, None when it was not. Call it after ``wait``."""
        return None if self._watch is None else await trio.to_thread.run_sync(self._watch.ended)

    async def planted(self) -> tuple[Path, ...]:
        """Host paths of protected names (a new `.git`, `.vscode`, …) that the run made in writable
        folders: tell the person.

        Call it after ``wait``.
        """
        return await trio.to_thread.run_sync(self._pins.planted)

    def _finish(self) -> None:
        if not self._reaped:
            self._reaped = True
            os.close(self._pidfd)
            self._pins.release()


def _stream(pipe: object) -> trio.lowlevel.FdStream | None:
    if pipe is None:
        return None
    # The stream owns a descriptor of its own, so that Popen's file object closing does not pull it away.
    descriptor = os.dup(pipe.fileno())  # type: ignore[attr-defined]
    pipe.close()  # type: ignore[attr-defined]
    return trio.lowlevel.FdStream(descriptor)
