"""The agent programs that can run a task: what the node needs to know of each, and loading one by name.

Light to import: programs that never run a task read `RUNTIMES` too. The interface is runtime.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sandbox.errors import SandboxError

if TYPE_CHECKING:
    from sandbox.runtimes.runtime import Runtime

DEFAULT: Final = "claude"


@dataclass(frozen=True)
class RuntimeInfo:
    """One runtime, without loading it.

    `distribution`: the Python package that has to be installed for it and whose version is its own; None: it is part of
    this one. `extra`: the extra of ours that brings it (distribution.py). `needs_model_key`: it asks a
    model, so its machine needs a key. `has_program`: it has an agent program of its own, with which the gate is proven;
    the calls of one without are made on the gate's side. `takes_script`: it runs the script of the settings.
    """

    name: str
    distribution: str | None
    extra: str
    needs_model_key: bool
    has_program: bool
    takes_script: bool = False


RUNTIMES: Final[Mapping[str, RuntimeInfo]] = {
    info.name: info
    for info in (
        RuntimeInfo(
            "claude",
            distribution="claude-agent-sdk",
            extra="claude",
            needs_model_key=True,
            has_program=True,
        ),
        RuntimeInfo(
            "scripted",
            distribution=None,
            extra="",
            needs_model_key=False,
            has_program=False,
            takes_script=True,
        ),
    )
}


def load(name: str) -> Runtime:
    """The runtime of that name. SandboxError 422 when there is none."""
    if name == "claude":
        from sandbox.runtimes.claude.runtime import ClaudeRuntime

        return ClaudeRuntime()
    if name == "scripted":
        from sandbox.runtimes.scripted.runtime import ScriptedRuntime

        return ScriptedRuntime()
    raise SandboxError(f"there is no runtime {name!r}", fix=f"one of: {', '.join(RUNTIMES)}", code=422)
