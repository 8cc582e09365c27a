"""Confining one run: the interface that every confinement implements, and the choice of the one for this machine.

What a run may see is a value, `Profile`. The one implementation is the room `bubblewrap`.
"""

from __future__ import annotations

from sandbox import platforms
from sandbox.confinement.cause import Cause
from sandbox.confinement.interface import ConfinedProcess, Confinement, Excess
from sandbox.confinement.profile import Limits, Profile, Root
from sandbox.confinement.report import CanaryReport
from sandbox.errors import SandboxError

__all__ = [
    "CanaryReport",
    "Cause",
    "ConfinedProcess",
    "Confinement",
    "Excess",
    "Limits",
    "Profile",
    "Root",
    "of_this_machine",
]


def of_this_machine() -> Confinement:
    """The confinement for this system. SandboxError 503 where there is none."""
    if not platforms.can_confine():
        raise SandboxError("runs are confined on Linux only", fix="accept this dispatch on a Linux machine")
    from sandbox.confinement import bubblewrap

    return bubblewrap
