"""Where a run finds what is its own inside its sandbox: fixed paths, the same under every confinement.

The person's folders stand at their own paths beside them, so no folder there can be granted.
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
PROXY_PORT: Final = 30128
"""Of loopback, where shell commands find the way to granted hosts. Below those that servers are given (ip(7))."""
AUTHORITIES: Final = Path("/etc/dispatch-authorities.pem")
"""Who may certify what shell commands speak with, where packages are fetched for them."""
TMP: Final = Path("/tmp")  # noqa: S108 - the sandbox's own
SHELL_LAUNCHER: Final = Path("/run/dispatch/shell")
"""The program by which an agent starts every shell command; they are confined further than the agent itself."""
