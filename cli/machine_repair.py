"""`doctor --fix` where this machine keeps runs from being confined: the commands that mend it, shown, asked about, run.

What is wrong and what mends it is found by `dp-agent --machine`.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence

from cli.agent_program import asked
from cli.output import Output, interactive
from peer.client.blocking import Document


def offer(out: Output) -> bool:
    """Show the commands, and run them if the person says yes; return whether they were run to their end.

    Nothing happens with --json or without a terminal: the check's fix names the commands there.
    """
    if out.json or not interactive():
        return False
    cause = _cause()
    commands = [[str(word) for word in command] for command in (cause or {}).get("commands") or ()]
    if cause is None or not commands:
        return False
    out.line(str(cause["message"]))
    if os.geteuid() != 0:
        if shutil.which("sudo") is None:
            out.line("run these commands as root to fix it (there is no sudo here):")
            _show(out, commands)
            return False
        commands = [["sudo", *command] for command in commands]
    out.line("these commands fix it:")
    _show(out, commands)
    if advice := str(cause.get("advice") or ""):
        out.line(advice)
    from cli.prompts import confirm

    if not confirm("Run them now?"):
        return False
    for command in commands:
        if status := _run(command):
            out.line(f"`{shlex.join(command)}` failed with status {status}; the rest was not run")
            return False
    return True


def _show(out: Output, commands: Sequence[Sequence[str]]) -> None:
    for command in commands:
        out.line(shlex.join(command), indent=4)


def _run(command: Sequence[str]) -> int:
    """Run a command that the person has said yes to, on their terminal, where sudo asks for their password."""
    try:
        return subprocess.run(command, check=False).returncode
    except OSError:
        return 127


def _cause() -> Document | None:
    try:
        found: Document | None = asked("--machine")["cause"]
    except (OSError, ValueError, KeyError, subprocess.TimeoutExpired):
        return None
    return found
