"""Why a machine confines no runs, and what mends it, as a value."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from sandbox.errors import SandboxError

Commands = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Cause:
    """Why no run can be confined. `commands`, to be run as root in this order, mend it without a guess; () if none do.

    `advice` is what to do where no command can; with commands, what to know of them.
    """

    name: str
    message: str
    advice: str = ""
    commands: Commands = ()

    @property
    def fix(self) -> str:
        shown = " && ".join(f"sudo {shlex.join(command)}" for command in self.commands)
        if not shown:
            return self.advice
        return f"`dispatch doctor --fix` offers to do it: {shown}{f' ({self.advice})' if self.advice else ''}"

    def error(self) -> SandboxError:
        return SandboxError(self.message, fix=self.fix)
