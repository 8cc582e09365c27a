"""Confining one run by the operating system: bubblewrap, system-call filters and Landlock together (tier "full"), or not at all."""

from __future__ import annotations

from sandbox.confinement.bwrap import check_machine, interpreter, spawn
from sandbox.confinement.limits import Limits
from sandbox.confinement.process import ConfinedProcess
from sandbox.confinement.profile import HOME, MODEL_SOCKET, SHELL_HOME, SHELL_LAUNCHER, WORKSPACE, Profile, Root

TIER = "full"
MECHANISMS = ("bubblewrap", "seccomp", "landlock")

__all__ = [
    "HOME",
    "MECHANISMS",
    "MODEL_SOCKET",
    "SHELL_HOME",
    "SHELL_LAUNCHER",
    "TIER",
    "WORKSPACE",
    "ConfinedProcess",
    "Limits",
    "Profile",
    "Root",
    "check_machine",
    "interpreter",
    "spawn",
]
