"""Bubblewrap, system-call filters and Landlock together, as a `Confinement` (tier "full"). Linux 6.12 or later.

start.py starts a profile, argv.py has it in bwrap's words; canaries.py proves it; watchdog.py bounds the whole run.
"""

from __future__ import annotations

from sandbox.confinement.bubblewrap.canaries import examine, prove
from sandbox.confinement.bubblewrap.host_program import spawn_on_host
from sandbox.confinement.bubblewrap.start import python, spawn
from sandbox.confinement.machine import cause

__all__ = ["cause", "examine", "prove", "python", "spawn", "spawn_on_host"]
