"""The scripted runtime: a fixed list of tool calls through the same gate and sandbox as any agent's. No model."""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

import trio

from sandbox import frames
from sandbox.confinement import ConfinedProcess, Root
from sandbox.confinement.places import SHELL_LAUNCHER
from sandbox.errors import FrameError, SandboxError
from sandbox.model_api.interface import ModelApi
from sandbox.runtimes.runtime import GateSession, Outcome, RunContext, Task
from sandbox.runtimes.scripted import executor

_RESULT_LIMIT: Final = 4 * 1024 * 1024


class ScriptedRuntime:
    """Carries out `Task.script`. After a denied or failed call the script goes on, as an agent would."""

    name = "scripted"
    model_api: ModelApi | None = None
    gate_session: GateSession | None = None

    def version(self) -> str:
        """This package's version: the executor is part of it."""
        try:
            return importlib.metadata.version("dispatch-courier")
        except importlib.metadata.PackageNotFoundError:
            return "source"

    def programs(self) -> tuple[Root, ...]:
        """Nothing of its own: the confinement brings Python along for its shells already."""
        return ()

    def prepare(self) -> None:
        """Nothing."""

    async def run(self, task: Task, context: RunContext) -> Outcome:
        """Each step in turn. The reply is the last `say`."""
        command = [context.confinement.python(), "-ISBc", inspect.getsource(executor), str(SHELL_LAUNCHER)]
        profile = context.profile
        async with await context.spawn(command, profile.environment(), stderr=subprocess.DEVNULL) as process:
            return await self._follow(task.script, _Executor(process), context)

    async def _follow(self, script: Sequence[frames.ScriptStep], program: _Executor, context: RunContext) -> Outcome:
        reply = ""
        calls = 0
        for number, step in enumerate(script):
            if step.say is not None:
                reply = step.say
                await context.emit(frames.Reasoning(text=step.say))
            if step.tool is not None:
                if calls >= context.budget.turns:
                    return Outcome("failed", reply, calls, exhausted="turns")
                calls += 1
                await self._call(step.tool, step.input, f"step-{number}", program, context)
        return Outcome("completed", reply, calls)

    async def _call(
        self, tool: str, arguments: dict[str, object], call_id: str, program: _Executor, context: RunContext
    ) -> None:
        ruling = await context.gate.judge(tool, arguments, call_id=call_id)
        if not ruling.allow:
            ok, output = False, ruling.reason
        elif tool in context.mcp.tools:
            context.mcp.admit(tool, ruling.input)
            reply = await context.mcp.call(tool, ruling.input)
            ok, output = reply.ok, reply.text
        else:
            ok, output = await program.do(tool, ruling.input)
        await context.gate.executed(call_id)
        await context.emit(frames.ToolResult(call_id=call_id, ok=ok, output=output))


class _Executor:
    """The executor inside the sandbox, at the other end of its pipes."""

    def __init__(self, process: ConfinedProcess) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._stdin = process.stdin
        self._results: AsyncIterator[bytes] = frames.lines(process.stdout, limit=_RESULT_LIMIT)

    async def do(self, tool: str, arguments: Mapping[str, object]) -> tuple[bool, str]:
        """(ok, output) of one call. SandboxError when the executor has ended."""
        try:
            await self._stdin.send_all(json.dumps({"tool": tool, "input": dict(arguments)}).encode() + b"\n")
            answer = json.loads(await anext(self._results))
            return bool(answer["ok"]), str(answer["output"]).encode("utf-8", "replace").decode()
        except (
            trio.BrokenResourceError,
            StopAsyncIteration,
            FrameError,
            LookupError,
            ValueError,
            TypeError,
        ) as problem:
            # A command it ran may have tampered with it, so its output may be anything.
            raise SandboxError("the scripted agent ended before its script did", code=500) from problem
