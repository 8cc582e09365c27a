"""What plays the way in from an invitation: a shell on a terminal, and a command that installs the programs."""

from __future__ import annotations

import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.cli.test_terminal import ROOT, Terminal

PROMPT = "bob-shell$ "
PROGRAMS = {"dispatch": "cli.main", "dispatch-daemon": "peer.programs.daemon"}


class Shell(Terminal):
    """bash on a terminal, in an environment of its own: what a person pastes, it runs."""

    def __init__(self, environment: dict[str, str], folder: Path, *, columns: int = 200) -> None:
        self.master, slave = pty.openpty()
        self.shown = ""
        self.process = subprocess.Popen(
            ["/bin/bash", "--noprofile", "--norc", "-i"],
            cwd=folder,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment | {"TERM": "dumb", "COLUMNS": str(columns), "PS1": PROMPT, "HISTFILE": ""},
            start_new_session=True,
        )
        os.close(slave)
        self.until(PROMPT)

    def run(self, command: str) -> str:
        """Type a command, and wait for the next prompt; return what it printed, without the command's echo."""
        self.type(f"{command}\n")
        self.until("\n")
        return self.until(PROMPT)


def installer(folder: Path) -> str:
    """Return a command that installs the programs of this tree into ~/bin."""
    script = folder / "install.sh"
    lines = ["set -e", "mkdir -p ~/bin"]
    for name, module in PROGRAMS.items():
        run = f'exec env PYTHONPATH={shlex.quote(str(ROOT))} {shlex.quote(sys.executable)} -m {module} "$@"'
        lines.append(f"printf '%s\\n' '#!/bin/sh' {shlex.quote(run)} > ~/bin/{name}; chmod 755 ~/bin/{name}")
    script.write_text("\n".join(lines) + "\n")
    return f"sh {shlex.quote(str(script))}"


def indented(text: str, pattern: str) -> str:
    """Return the one line of a mail that is to be copied and matches."""
    (found,) = re.findall(rf"^ +({pattern})$", text.replace("\r\n", "\n"), re.M)
    return str(found)
