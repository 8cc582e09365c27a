"""The interface of a runtime, and the values it works with. No runtime's own code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from subprocess import PIPE
from typing import Literal, Protocol

from sandbox import frames
from sandbox.confinement import ConfinedProcess, Confinement, Excess, Profile, Root
from sandbox.gate.gate import Gate
from sandbox.mcp.bridge import McpBridge
from sandbox.model_api.interface import ModelApi


@dataclass(frozen=True)
class Task:
    """What the runtime is to do.

    `sender_text`: the sender's task, passed on verbatim. `attached`: everything else that came along, already framed as
    data ("" when nothing did). `instructions`: our own: where the agent is and what it may do. `script`: for the
    scripted runtime only.
    """

    sender_text: str
    attached: str
    instructions: str
    script: tuple[frames.ScriptStep, ...] = ()


@dataclass(frozen=True)
class RunContext:
    """What a runtime works with.

    `confinement`, `profile`: the sandbox to start programs in. `gate`: asked before every call. `emit`: adds an event
    to the trace. `tools`: granted built-in tools. `mcp`: the granted MCP servers, for a call that the gate allowed and
    that was admitted there. `model`: a model's name, or None for the runtime's own choice. `program_counts_usd`: the
    agent program knows what that one costs; otherwise only the proxy counts money. `model_secret`: what the
    proxy wants from the agent program in place of a key; no child of the program may have it. `serve_network`: begins
    to serve the proxy of a program's shell commands; None where they reach nothing.
    """

    confinement: Confinement
    profile: Profile
    gate: Gate
    emit: Callable[[frames.TraceEvent], Awaitable[None]]
    tools: frozenset[str]
    budget: frames.Budget
    model: str | None
    mcp: McpBridge
    model_secret: str = ""
    program_counts_usd: bool = True
    serve_network: Callable[[ConfinedProcess], Awaitable[None]] | None = None
    _started: list[ConfinedProcess] = field(default_factory=list)

    async def spawn(self, command: Sequence[str], env: Mapping[str, str], *, stderr: int = PIPE) -> ConfinedProcess:
        """Start a program of the run. See `Confinement.spawn`."""
        process = await self.confinement.spawn(self.profile, command, env, stderr=stderr)
        self._started.append(process)
        if self.serve_network is not None:
            try:
                await self.serve_network(process)
            except BaseException:
                await process.aclose()
                raise
        self.gate.shells.add(process)
        return process

    async def excess(self) -> Excess | None:
        """The bound of this machine that a program of the run was killed for; call it when all have ended."""
        found = [await process.excess() for process in self._started]
        return next((one for one in found if one is not None), None)


@dataclass(frozen=True)
class Outcome:
    """How a run ended by itself.

    `reply`: the agent's last text. `reason`, `fix`, `code`: why it failed, for people. `exhausted`: the budget that is
    used up. `killed`: it took too much of this machine.
    """

    status: Literal["completed", "failed"]
    reply: str = ""
    turns: int = 0
    reason: str | None = None
    code: int | None = None
    exhausted: Literal["turns", "usd"] | None = None
    killed: bool = False
    fix: str = ""


@dataclass(frozen=True)
class GateSession:
    """A session for the gate's proof: calls of the agent's tools, for which gate_proof.py has a canned model ask.

    `denied`: (tool, input) of calls that must reach the gate and must not be executed, among them one that only reads
    the secret in the workspace's file `canary` and one that makes the file `denied` there. `allowed`: one that makes
    the file `allowed`. `errand`: the prompt of a sub-agent among the denied; it must not begin. `tools`: what the
    program is started with, `granted`: those of them that the scope grants.
    """

    denied: tuple[tuple[str, Mapping[str, str]], ...]
    allowed: tuple[str, Mapping[str, str]]
    errand: str
    tools: frozenset[str]
    granted: frozenset[str]


class Runtime(Protocol):
    """An agent program. One object serves one run."""

    name: str
    model_api: ModelApi | None
    """The API that the program asks; None for one without a model."""
    gate_session: GateSession | None
    """How the gate is proven with the program; None where all calls are made on this side of the sandbox."""

    def version(self) -> str:
        """The agent program's version. SandboxError 503 with the fix when it is not installed."""

    def programs(self) -> tuple[Root, ...]:
        """What must be visible inside for it to start, read-only."""

    def prepare(self) -> None:
        """Whatever takes long and needs nothing of the run. Blocking; called in a thread, once, before `run`."""

    async def run(self, task: Task, context: RunContext) -> Outcome:
        """Do the task. Every tool call passes `gate.judge` first; every process is started by `context.spawn`.

        Cancelling ends it and all it started. SandboxError when it cannot start.
        """
