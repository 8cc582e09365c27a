"""Bubblewrap and system-call filters as a `Confinement` (tier "full"), with Landlock where the kernel has it.

A run has two sandboxes side by side, the agent program's and the *shell zone*, in which its shell commands run.
start.py starts both, argv.py has them in bwrap's words, opening.py opens what they are given. shell_launcher.py runs in
the one and zone_server.py in the other; zone.py is our line to that. canaries.py proves them; watchdog.py bounds the
whole run.
"""

from __future__ import annotations

from sandbox.confinement.bubblewrap.canaries import examine, prove
from sandbox.confinement.bubblewrap.host_program import spawn_on_host
from sandbox.confinement.bubblewrap.start import python, spawn
from sandbox.confinement.machine import cause

__all__ = ["cause", "examine", "prove", "python", "spawn", "spawn_on_host"]
