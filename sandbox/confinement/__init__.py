"""Confining one run by the operating system: bubblewrap, system-call filters and Landlock together (tier
"full"), or not at all.
"""

from __future__ import annotations

from sandbox.confinement.beside import spawn_beside
from sandbox.confinement.bwrap import check_machine, interpreter, spawn
from sandbox.confinement.canaries import MECHANISMS, TIER, Canary, CanaryReport, examine, prove
from sandbox.confinement.collect import CollectedFile, Collection, collect_files
from sandbox.confinement.limits import Limits
from sandbox.confinement.process import ConfinedProcess
from sandbox.confinement.profile import (
    HOME,
    MODEL_SOCKET,
    SHELL_HOME,
    SHELL_LAUNCHER,
    WORKSPACE,
    Profile,
    Root,
)
from sandbox.confinement.snapshot import Change, Snapshot
from sandbox.confinement.watch import Excess

__all__ = [
    "HOME",
    "MECHANISMS",
    "MODEL_SOCKET",
    "SHELL_HOME",
    "SHELL_LAUNCHER",
    "TIER",
    "WORKSPACE",
    "Canary",
    "CanaryReport",
    "Change",
    "CollectedFile",
    "Collection",
    "ConfinedProcess",
    "Excess",
    "Limits",
    "Profile",
    "Root",
    "Snapshot",
    "check_machine",
    "collect_files",
    "examine",
    "interpreter",
    "prove",
    "spawn",
    "spawn_beside",
]
