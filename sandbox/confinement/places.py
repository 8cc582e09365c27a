"""Where a run finds things inside its sandbox: fixed paths, the same under every confinement. No path of this machine.

They are neutral: nothing of the names of the person's own folders reaches the agent through them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

WORKSPACE: Final = Path("/dispatch")
"""The run's own folder."""
HOME: Final = Path("/run/home/agent")
"""$HOME of the agent program."""
SHELL_HOME: Final = Path("/run/home/shell")
"""$HOME of the shell commands that the agent program starts."""
MODEL_SOCKET: Final = Path("/run/dispatch/model.sock")
"""The model proxy."""
TMP: Final = Path("/tmp")  # noqa: S108 - the sandbox's own
SHELL_LAUNCHER: Final = Path("/run/dispatch/shell")
"""The program by which an agent starts every shell command; they are confined further than the agent itself."""
