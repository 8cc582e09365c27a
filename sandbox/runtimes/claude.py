"""The Claude agent as a runtime: whether it is installed, where its program is, and handing a task to a
session.

The session itself, with the SDK and all it imports, is `claude_session`: loading it takes longer than
everything else before a run together, so it is done while the sandbox is being proven.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Final

from sandbox.confinement import Root
from sandbox.errors import SandboxError
from sandbox.runtimes import Outcome, Surroundings, Task

PROGRAM: Final = Path("/opt/claude/claude")
"""Where the program is seen inside; its place on this machine would tell the sender a folder name."""


class ClaudeRuntime:
    """One session of the claude program for one task."""

    name = "claude"
    needs_model = True

    def version(self) -> str:
        """The version of the program that the pinned SDK brings along."""
        return _program().with_name("claude.version").read_text().split()[0]

    def programs(self) -> tuple[Root, ...]:
        """The program itself, one file."""
        return (Root(_program(), at=PROGRAM),)

    def prepare(self) -> None:
        """Import the SDK."""
        importlib.import_module("sandbox.runtimes.claude_session")

    async def run(self, task: Task, surroundings: Surroundings) -> Outcome:
        """See `Runtime.run`."""
        from sandbox.runtimes import claude_session

        return await claude_session.run(task, surroundings, PROGRAM)


def _program() -> Path:
    """The program inside the SDK's package, found without importing it."""
    found = importlib.util.find_spec("claude_agent_sdk")
    if found is None or found.origin is None:
        fix = "pip install 'dispatch-courier[claude]'"
        raise SandboxError("the Claude agent is not installed here", fix=fix, code=503)
    program = Path(found.origin).resolve().parent / "_bundled" / "claude"
    if not program.is_file():
        fix = "pip install --force-reinstall 'dispatch-courier[claude]'"
        raise SandboxError("the claude program is missing from its package", fix=fix, code=503)
    return program
