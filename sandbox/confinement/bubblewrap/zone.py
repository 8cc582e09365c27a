"""The shell zone as dp-agent has it: the line to its server (zone_server.py), which can stop all shells for a while."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import trio

from sandbox.errors import SandboxError

_ANSWERED_WITHIN: Final = 10.0
"""Seconds. The server tries to stop the shells for two."""
_STARTED_WITHIN: Final = 60.0
_ERRORS_KEPT: Final = 2_000
"""Bytes."""


class ShellZone:
    """One zone. `path`: of the socket at which it takes commands, which is removed on `close`.

    `errors`: descriptor of a file to which the zone's own programs report why they failed; no shell has it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._control, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        self.errors = os.memfd_create("dispatch-zone-errors")
        self._asking = trio.Lock()
        self._owes_an_answer = False
        self.closed = False

    @contextlib.contextmanager
    def other_end(self) -> Iterator[int]:
        """The descriptor that the server talks on, for the time in which it is started."""
        with self._theirs:
            yield self._theirs.fileno()

    async def proxy_listener(self) -> trio.SocketListener:
        """The listener inside at which commands look for a proxy, once; of a zone whose profile has a network.

        Raises SandboxError where the zone does not give it.
        """
        async with self._asking:
            with trio.move_on_after(_STARTED_WITHIN), contextlib.suppress(OSError):
                await trio.lowlevel.wait_readable(self._control.fileno())
                said, given, _, _ = socket.recv_fds(self._control, 64, 1, socket.MSG_CMSG_CLOEXEC)
                if said == b"proxy" and given:
                    listening = socket.socket(fileno=given[0])
                    listening.setblocking(False)
                    return trio.SocketListener(trio.socket.from_stdlib_socket(listening))
                for descriptor in given:
                    os.close(descriptor)
            raise SandboxError("the sandbox of the run's shell commands has no place for a proxy", code=503)

    async def stop(self) -> int:
        """Stop all processes in the zone; return their number. Raises SandboxError where one does not stop."""
        answer = await self._ask(b"stop")
        if not answer.startswith(b"stopped "):
            raise SandboxError(
                "a command that an earlier call left running could not be paused for this call",
                fix="stop that command first",
                code=503,
            )
        return int(answer.removeprefix(b"stopped "))

    async def go(self) -> None:
        """Let them run on."""
        await self._ask(b"go")

    async def count(self) -> int:
        """How many processes there are in the zone, its server left out."""
        return int((await self._ask(b"count")).removeprefix(b"there are "))

    async def _ask(self, word: bytes) -> bytes:
        async with self._asking:
            answer = b""
            if self._owes_an_answer:  # which would be taken for the answer to this
                raise SandboxError("the sandbox of the run's shell commands has stopped answering", code=503)
            self._owes_an_answer = True
            with trio.move_on_after(_ANSWERED_WITHIN), contextlib.suppress(OSError):
                await trio.lowlevel.wait_writable(self._control.fileno())
                self._control.send(word)
                await trio.lowlevel.wait_readable(self._control.fileno())
                answer = self._control.recv(64)
                self._owes_an_answer = False
            if not answer:
                raise SandboxError("the sandbox of the run's shell commands does not answer", code=503)
            return answer

    def why_it_ended(self) -> str:
        """The end of what the zone's own programs reported."""
        size = os.fstat(self.errors).st_size
        return os.pread(self.errors, _ERRORS_KEPT, max(size - _ERRORS_KEPT, 0)).decode(errors="replace").strip()

    def close(self) -> None:
        """Idempotent."""
        if not self.closed:
            self.closed = True
            self._control.close()
            self._theirs.close()
            os.close(self.errors)
            self._path.unlink(missing_ok=True)
