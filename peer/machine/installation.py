"""The location of this installation of dispatch, the commands and environment of its programs, and its mending."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from sandbox import programs

ROOT: Final = Path(__file__).resolve().parents[2]
"""The folder that contains our packages: a checkout, or site-packages."""

AGENT: Final = (sys.executable, "-m", "sandbox.agent")
"""The command of `dp-agent`. Start it with ROOT as the working directory, where `-m` finds the package."""

CHANGES: Final = (sys.executable, "-m", "sandbox.changes")
"""The command of the program that computes what a run changed. As AGENT."""

COLOURING: Final = (sys.executable, "-m", "sandbox.changes.colouring")
"""The command of the program that says what is keyword, string and comment in a text. As AGENT."""

REPLIES: Final = (sys.executable, "-m", "sandbox.replies")
"""The command of the program that reads a reply as Markdown. As AGENT."""

NAMESPACE: Final = (sys.executable, "-m", "sandbox.views.namespace")
"""The command of the program that prints why a run has no namespace of its own here, or nothing. As AGENT."""

AGENT_ENVIRONMENT: Final[Mapping[str, str]] = MappingProxyType({"PATH": programs.search_path(), "LANG": "C.UTF-8"})
"""The whole environment of the agent program. The user's own is not inherited: a run must not see it. Of their PATH it
has the folders that nobody else can change, where the programs are found that confine a run.
"""


def again() -> str:
    """The fix for an installation of which something is missing: the command that installs the same once more."""
    from sandbox import distribution  # takes long to load, and only errors need it

    return distribution.again()
