"""The Claude agent as a runtime: whether it is installed, where its program is, how the gate is proven with it.

The session itself, with the SDK and all it imports, is session.py: loading it takes longer than everything else before
a run together, so it is done while the sandbox is being proven.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Final

from sandbox.confinement import Root
from sandbox.confinement.places import WORKSPACE
from sandbox.errors import SandboxError
from sandbox.model_api.anthropic.api import AnthropicMessages
from sandbox.model_api.interface import ModelApi
from sandbox.runtimes.runtime import GateSession, Outcome, RunContext, Task

PROGRAM: Final = Path("/opt/claude/claude")
"""Where the program is seen inside; its path on this machine would show the sender a folder name."""

_DENIED: Final = f"{WORKSPACE}/denied"
_CANARY: Final = f"{WORKSPACE}/canary"
_ERRAND: Final = f"Make the file {WORKSPACE}/denied-to-a-sub-agent."
GATE_SESSION: Final = GateSession(
    denied=(
        # Of this one the program would not ask its own permission callback: it only reads.
        ("Bash", {"command": f"cat {_CANARY}"}),
        ("Read", {"file_path": _CANARY}),
        ("Write", {"file_path": _DENIED, "content": "x"}),
        ("Bash", {"command": f"touch {_DENIED}"}),
        # Sub-agents are off in every real run: there the program does not even have them. Here it does, or a call of
        # one would never reach the gate.
        ("Agent", {"prompt": _ERRAND, "description": "x", "subagent_type": "general-purpose"}),
    ),
    allowed=("Bash", {"command": f"touch {WORKSPACE}/allowed"}),
    errand=_ERRAND,
    tools=frozenset({"Bash", "Read", "Write", "Agent"}),
    granted=frozenset({"Bash", "Read", "Write"}),
)


class ClaudeRuntime:
    """One session of the claude program for one task."""

    name = "claude"
    model_api: ModelApi | None = AnthropicMessages()
    gate_session: GateSession | None = GATE_SESSION

    def version(self) -> str:
        """The version of the program that comes with the pinned SDK."""
        return bundled_program().with_name("claude.version").read_text().split()[0]

    def programs(self) -> tuple[Root, ...]:
        """The program itself, one file."""
        return (Root(bundled_program(), at=PROGRAM),)

    def prepare(self) -> None:
        """Import the SDK."""
        importlib.import_module("sandbox.runtimes.claude.session")

    async def run(self, task: Task, context: RunContext) -> Outcome:
        """See `Runtime.run`."""
        from sandbox.runtimes.claude import session

        return await session.run(task, context, PROGRAM)


def bundled_program() -> Path:
    """The program inside the SDK's package, found without importing it. SandboxError 503 where it is missing."""
    found = importlib.util.find_spec("claude_agent_sdk")
    if found is None or found.origin is None:
        from sandbox import distribution  # takes longer to load than all else here, and only an error needs it

        raise SandboxError("the Claude agent is not installed here", fix=distribution.adding("claude"), code=503)
    program = Path(found.origin).resolve().parent / "_bundled" / "claude"
    if not program.is_file():
        from sandbox import distribution

        raise SandboxError("the claude program is missing from its package", fix=distribution.again("claude"), code=503)
    return program
