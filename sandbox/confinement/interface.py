"""What every confinement of a run offers: the interface and its values. No implementation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, Self

from sandbox.confinement.cause import Cause
from sandbox.confinement.profile import Profile
from sandbox.confinement.report import CanaryReport

if TYPE_CHECKING:
    import trio  # not loaded: reading a change set starts a program that has no use for it


@dataclass(frozen=True, slots=True)
class Excess:
    """Which bound of `Limits` a run passed and was killed for: `used` and `bound` in bytes or numbers.

    `memory`, `processes`: of the whole run. `disk`, `files`: in its own folders. `room`, `inodes`: what is left on a
    file system that it may write, `bound` the least that must be. `sight`: its processes could not be measured.
    `shells`: the sandbox of its shell commands ended; `why` is what it said then, "" for nothing.
    """

    what: Literal["memory", "processes", "disk", "files", "room", "inodes", "sight", "shells"]
    used: int = 0
    bound: int = 0
    why: str = field(default="", compare=False)


class ConfinedProcess(Protocol):
    """A program of a run with everything it starts. As an async context manager it is killed and reaped on leaving."""

    stdin: trio.abc.SendStream | None
    """Like the other two: None where no pipe was asked for."""
    stdout: trio.abc.ReceiveStream | None
    stderr: trio.abc.ReceiveStream | None

    async def wait(self) -> int:
        """Wait for the end of all of it and return its exit status. Cancelling the wait leaves it running.

        Negative for a signal, 128 + signal when the program inside died of one.
        """

    async def aclose(self) -> None:
        """Kill, reap and close the pipes, also when cancelled."""

    async def proxy_listener(self) -> trio.SocketListener | None:
        """The socket on loopback inside, at PROXY_PORT, to which its shell commands connect; None where it has none.

        Call it once, and only where the profile has a network: it waits for the socket. Raises SandboxError.
        """

    async def stop_shells(self) -> int:
        """Stop every process of its shell commands until `resume_shells`; return how many there are.

        Raises SandboxError where one does not stop; then all of them run on.
        """

    async def resume_shells(self) -> None:
        """Let them run on, but those that were stopped before."""

    async def count_shells(self) -> int:
        """How many processes of its shell commands there are. Raises SandboxError where that cannot be told."""

    async def excess(self) -> Excess | None:
        """The bound it was killed for, None when it was not. Call it after `wait`."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class Confinement(Protocol):
    """One way to confine a run on this machine. A module can be one."""

    async def prove(self, profile: Profile, /) -> CanaryReport:
        """Build `profile` and try to break out of it. Main thread only.

        Raises SandboxError 503, with the fix, where it cannot be built, a canary was reached, or one could not be
        tested.
        """

    async def spawn(
        self, profile: Profile, argv: Sequence[str], env: Mapping[str, str], /, *, stderr: int = PIPE
    ) -> ConfinedProcess:
        """Start `argv` confined by `profile`, with exactly `env`; stdin and stdout are pipes. Main thread only.

        `stderr`: PIPE, DEVNULL or a descriptor, as subprocess takes them. Raises SandboxError where the profile cannot
        be built.
        """

    def spawn_on_host(
        self, command: Sequence[str], env: Mapping[str, str], /, *, hidden: Sequence[Path], marker: str
    ) -> ConfinedProcess:
        """Start a program of the person's own, unconfined but blind to the `hidden` folders. Main thread only.

        All its processes have the variable `marker`. It ends with this process.
        """

    def cause(self) -> Cause | None:
        """Why no run can be confined on this machine; None where nothing of it is known to be in the way."""

    def python(self) -> str:
        """The Python that programs inside the sandbox run with, as an inside path."""
