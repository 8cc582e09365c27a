"""The variable that marks every process of a granted MCP server, and how a program of ours finds itself marked.

The confinement sets it (`Confinement.spawn_on_host`). Light to load: the programs for people look here first.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

MARKER: Final = "DISPATCH_GRANTED_SERVER"


def is_marked() -> bool:
    """Whether this process belongs to a granted MCP server.

    The server may have emptied the environment of this process. The first process that it sees is the confinement's,
    whose command line names the variable too.
    """
    if os.environ.get(MARKER):
        return True
    try:
        words = Path("/proc/1/cmdline").read_bytes()
    except OSError:
        # No Linux, so no run either; or a machine that hides its first process, which is then not the confinement's.
        return False
    return MARKER.encode() in words.split(b"\0")
