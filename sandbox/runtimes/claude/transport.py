"""The SDK's transport to the claude program, confined: its command line, its environment, its pipes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import claude_agent_sdk as sdk
import trio
from claude_agent_sdk._internal.transport.subprocess_cli import SubprocessCLITransport

from sandbox import frames
from sandbox.confinement import ConfinedProcess, Profile
from sandbox.confinement.places import MODEL_SOCKET, SHELL_LAUNCHER
from sandbox.errors import FrameError
from sandbox.runtimes.runtime import RunContext

_MESSAGE_LIMIT: Final = 32 * 1024 * 1024
_STDERR_KEPT: Final = 4_096
"""Bytes, of which a failure names the last _STDERR_LINES."""
_STDERR_LINES: Final = 20


class ConfinedTransport(sdk.Transport):
    """An SDK transport that starts the program by `context.spawn` and by nothing else.

    The SDK's own merges this process's environment into the program's and starts it unconfined. Only its command line
    is used, so that the options mean what they mean in the pinned SDK.

    Its standard error is read from its start on, in `nursery`: a program whose pipe is full waits, and what it has said
    is known also when it is killed.
    """

    def __init__(self, options: sdk.ClaudeAgentOptions, context: RunContext, nursery: trio.Nursery) -> None:
        # As the SDK does for its own transport: it is asked about `can_use_tool` over stdio.
        asked = replace(options, can_use_tool=None, permission_prompt_tool_name="stdio")
        self._command: list[str] = SubprocessCLITransport("", asked)._build_command()
        self._environment = environment(context.profile, context.model_secret, context.budget.minutes)
        self._context = context
        self.process: ConfinedProcess | None = None
        self._writing = trio.Lock()
        self._nursery = nursery
        self._stderr = bytearray()
        self._stderr_ended = trio.Event()

    async def connect(self) -> None:
        """Start the program."""
        self.process = await self._context.spawn(self._command, self._environment)
        self._nursery.start_soon(self._keep_stderr, self.process)

    async def write(self, data: str) -> None:
        """One line to the program."""
        async with self._writing:
            if self.process is None or self.process.stdin is None:
                raise sdk.CLIConnectionError("the agent is not running")
            await self.process.stdin.send_all(data.encode())

    # Any: the type that the SDK's Transport gives its messages.
    async def read_messages(self) -> AsyncIterator[dict[str, Any]]:
        """The program's messages, until it ends. ProcessError when it failed."""
        process = self.process
        if process is None or process.stdout is None:
            raise sdk.CLIConnectionError("the agent is not running")
        try:
            async for line in frames.lines(process.stdout, limit=_MESSAGE_LIMIT):
                if line.startswith(b"{"):
                    yield json.loads(line)
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            return
        except (FrameError, ValueError) as problem:
            raise sdk.ProcessError(f"the agent sent something unreadable: {type(problem).__name__}") from problem
        with trio.move_on_after(1):  # what it started may still hold the pipe
            await self._stderr_ended.wait()
        status = await process.wait()
        if status != 0:
            raise sdk.ProcessError("the agent failed", exit_code=status)

    async def close(self) -> None:
        """Kill the program and all it started. Bounded: the kernel ends the tree within milliseconds."""
        if self.process is not None:
            await self.process.aclose()

    def is_ready(self) -> bool:
        """Whether it was started."""
        return self.process is not None

    async def end_input(self) -> None:
        """Close its input."""
        if self.process is not None and self.process.stdin is not None:
            await self.process.stdin.aclose()

    def stderr_end(self) -> str:
        """The end of what it wrote to stderr, for the reason of a failure."""
        lines = self._stderr.decode(errors="replace").splitlines()
        return " ".join(lines[-_STDERR_LINES:])[-500:]

    async def _keep_stderr(self, process: ConfinedProcess) -> None:
        assert process.stderr is not None
        try:
            with suppress(trio.ClosedResourceError, trio.BrokenResourceError):
                while chunk := await process.stderr.receive_some(65536):
                    self._stderr += chunk
                    del self._stderr[:-_STDERR_KEPT]
        finally:
            self._stderr_ended.set()


def environment(profile: Profile, model_secret: str, minutes: float = 60.0) -> dict[str, str]:
    """Every variable the program gets; none of them is this process's. `minutes`: how long the run may take.

    The key is the run's own secret, which is good for the proxy alone: the proxy has the real one. The shell launcher
    keeps it from shells.
    """
    return {
        **profile.environment(),
        "ANTHROPIC_BASE_URL": "http://model.invalid",
        "ANTHROPIC_UNIX_SOCKET": str(MODEL_SOCKET),
        "ANTHROPIC_API_KEY": model_secret,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
        # Each command starts in the folder that the run starts in, so that a rule for one means the same every time.
        "CLAUDE_BASH_MAINTAIN_PROJECT_WORKING_DIR": "1",
        # It would otherwise retry with a refused key for more than forty seconds. For an API that has no room the proxy
        # waits, as long as the run lasts, and so must the program: it would give up on its request after ten minutes,
        # and its HTTP client after five without a byte.
        "CLAUDE_CODE_MAX_RETRIES": "2",
        "API_TIMEOUT_MS": str(int(minutes * 60_000) + 60_000),
        "CLAUDE_STREAM_FIRST_BYTE_TIMEOUT_MS": "1800000",
        "CLAUDE_CODE_TMPDIR": "/tmp",  # noqa: S108 - the sandbox's own
        "CLAUDE_CODE_SHELL_PREFIX": str(SHELL_LAUNCHER),
        "CLAUDE_CODE_ENTRYPOINT": "sdk-py",
    }
