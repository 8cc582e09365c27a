"""The mark of what runs in a granted MCP server: how the sandbox puts it on, and how a program of ours sees it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

MARK: Final = "DISPATCH_GRANTED_SERVER"
WORDS: Final = ("--setenv", MARK, "1")
"""bwrap's arguments. They set the variable, over whatever the server's configuration says; and bwrap stays the first
process that the server's processes see, so these words are in its command line also where a wrapper empties the
environment.
"""


def inside() -> bool:
    """Whether this process belongs to a granted MCP server."""
    if os.environ.get(MARK):
        return True
    try:
        words = Path("/proc/1/cmdline").read_bytes()
    except OSError:
        return False  # no Linux, so no run either; or a machine that hides the first process, which is not the server's
    return "\0".join(WORDS).encode() in words
