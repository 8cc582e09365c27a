"""Where this installation of dispatch is, and how its agent program is started. Nothing of what the agent does."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
"""The folder that holds our packages: a checkout, or site-packages."""

AGENT: Final = (sys.executable, "-m", "sandbox.agent")
"""The command of `dp-agent`. Started with ROOT as its working directory, from where `-m` finds the package."""

AGENT_ENVIRONMENT: Final[Mapping[str, str]] = MappingProxyType(
    {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
)
"""All of the agent program's environment: nothing of the person's, since a run must not see it."""
