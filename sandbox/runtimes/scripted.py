"""The scripted runtime: a fixed list of tool calls through the same gate and sandbox as any agent's. No
model.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import subprocess
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import trio

from sandbox import frames
from sandbox.confinement import SHELL_LAUNCHER, ConfinedProcess, Root, interpreter
from sandbox.errors import FrameError, SandboxError
from sandbox.runtimes import Outcome, Surroundings, Task, executor, tell_left_behind

_RESULT_LIMIT: Final = 4 * 1024 * 1024


class ScriptedRuntime:
    """Carries out `Task.script`. A denied or failed call is recorded and the script goes on, as an agent
    would.
    """

    name = "scripted"
    needs_model = False

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

    async def run(self, task: Task, surroundings: Surroundings) -> Outcome:
        """Each step in turn. The reply is the last `say`."""
        python, _ = interpreter()
        command = [python, "-ISBc", inspect.getsource(executor), str(SHELL_LAUNCHER)]
        profile = surroundings.profile
        async with await surroundings.spawn(command, profile.environment(), stderr=subprocess.DEVNULL) as process:
            outcome = await self._follow(task.script, _Hands(process), surroundings)
        await tell_left_behind(process, surroundings)
        return outcome

    async def _follow(self, script: Sequence[frames.ScriptStep], hands: _Hands, surroundings: Surroundings) -> Outcome:
        reply = ""
        calls = 0
        for number, step in enumerate(script):
            if step.say is not None:
                reply = step.say
                await surroundings.emit(frames.Reasoning(text=step.say))
            if step.tool is not None:
                if calls >= surroundings.budget.turns:
                    return Outcome("failed", reply, calls, exhausted="turns")
                calls += 1
                await self._call(step.tool, step.input, f"step-{number}", hands, surroundings)
        return Outcome("completed", reply, calls)

    async def _call(
        self, tool: str, arguments: dict[str, Any], call_id: str, hands: _Hands, surroundings: Surroundings
    ) -> None:
        ruling = await surroundings.gate.judge(tool, arguments, call_id=call_id)
        if not ruling.allow:
            ok, output = False, ruling.reason
        elif tool in surroundings.mcp.tools:
            surroundings.mcp.admit(tool, arguments)
            reply = await surroundings.mcp.call(tool, arguments)
            ok, output = reply.ok, reply.text
        else:
            ok, output = await hands.do(tool, arguments)
        await surroundings.emit(frames.ToolResult(call_id=call_id, ok=ok, output=output))


class _Hands:
    """The executor at the other end of a pair of pipes."""

    def __init__(self, process: ConfinedProcess) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._stdin = process.stdin
        self._answers: AsyncIterator[bytes] = frames.lines(process.stdout, limit=_RESULT_LIMIT)

    async def do(self, tool: str, arguments: dict[str, Any]) -> tuple[bool, str]:
        """(ok, output) of one call. SandboxError when the executor has ended."""
        try:
            await self._stdin.send_all(json.dumps({"tool": tool, "input": arguments}).encode() + b"\n")
            answer = json.loads(await anext(self._answers))
            return bool(answer["ok"]), str(answer["output"]).encode("utf-8", "replace").decode()
        except (
            trio.BrokenResourceError,
            StopAsyncIteration,
            FrameError,
            LookupError,
            ValueError,
            TypeError,
        ) as problem:
            # A command it ran may have tampered with it: what it says is not trusted to be well formed.
            raise SandboxError("the scripted agent ended before its script did", code=500) from problem
