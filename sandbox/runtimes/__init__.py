"""What runs a task: the interface every runtime has, and the list of those there are. No runtime's own
code.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from subprocess import PIPE
from typing import Final, Literal, Protocol

from sandbox import frames
from sandbox.confinement import ConfinedProcess, Excess, Profile, Root, spawn
from sandbox.errors import SandboxError
from sandbox.gate import Gate
from sandbox.mcp_bridge import McpBridge


@dataclass(frozen=True)
class Task:
    """What the runtime is to do. `sender_text` is the sender's task, to the letter, and is passed on
    unchanged; `attached` is everything else that came along, already framed as data ("" when nothing did);
    `instructions` are ours: where it is and what it may do. `script` is for the scripted runtime only.
    """

    sender_text: str
    attached: str
    instructions: str
    script: tuple[frames.ScriptStep, ...] = ()


@dataclass(frozen=True)
class Surroundings:
    """What a runtime works with. `profile`: the sandbox to start programs in. `gate`: asked before every
    call. `emit`: one line of the trace. `tools`: granted built-in tools. `mcp`: the granted MCP servers, for a
    call that the gate allowed and that was admitted there. `model`: a model's name, or the runtime's own.
    `model_secret`: what the model's door wants from the agent program in place of a key; for no child of it.
    """

    profile: Profile
    gate: Gate
    emit: Callable[[frames.TraceEvent], Awaitable[None]]
    tools: frozenset[str]
    budget: frames.Budget
    model: str | None
    mcp: McpBridge
    model_secret: str = ""
    _started: list[ConfinedProcess] = field(default_factory=list)

    async def spawn(self, command: Sequence[str], env: Mapping[str, str], *, stderr: int = PIPE) -> ConfinedProcess:
        """Start a program of the run. See `confinement.spawn`."""
        process = await spawn(self.profile, command, env, stderr=stderr)
        self._started.append(process)
        return process

    async def excess(self) -> Excess | None:
        """Why one of the programs was killed for what it took of this machine, when all have ended; or None."""
        found = [await process.excess() for process in self._started]
        return next((one for one in found if one is not None), None)


@dataclass(frozen=True)
class Outcome:
    """How a run ended by itself. `reply`: the agent's last text. `reason`, `code`: why it failed, for
    people. `exhausted`: the budget that it had no more of. `killed`: it took too much of this machine.
    """

    status: Literal["completed", "failed"]
    reply: str = ""
    turns: int = 0
    reason: str | None = None
    code: int | None = None
    exhausted: Literal["turns", "usd"] | None = None
    killed: bool = False


class Runtime(Protocol):
    """An agent program. One object serves one run."""

    name: str
    needs_model: bool

    def version(self) -> str:
        """The agent program's version. SandboxError 503 with the fix when it is not installed."""

    def programs(self) -> tuple[Root, ...]:
        """What must be visible inside for it to start, read-only."""

    def prepare(self) -> None:
        """Whatever takes long and needs nothing of the run. Blocking; called in a thread, once, before
        `run`.
        """

    async def run(self, task: Task, surroundings: Surroundings) -> Outcome:
        """Do the task. Every tool call passes `gate.judge` first; every process is started by
        `surroundings.spawn`. Cancelling ends it and all it started. SandboxError when it cannot start."""


async def tell_left_behind(process: ConfinedProcess, surroundings: Surroundings) -> None:
    """Put into the trace what the run made that this machine might obey later (a new `sub/.git`, `.vscode`, …).

    Call it when the process has ended.
    """
    for path in await process.planted():
        seen = surroundings.profile.inside(path)
        detail = path.name if seen is None else str(seen)
        await surroundings.emit(frames.Status(status="left_behind", detail=detail))


NAMES: Final = ("claude", "scripted")


def load(name: str) -> Runtime:
    """The runtime of that name. SandboxError 422 when there is none."""
    if name == "claude":
        from sandbox.runtimes.claude import ClaudeRuntime

        return ClaudeRuntime()
    if name == "scripted":
        from sandbox.runtimes.scripted import ScriptedRuntime

        return ScriptedRuntime()
    raise SandboxError(f"there is no runtime {name!r}", fix=f"one of: {', '.join(NAMES)}", code=422)
