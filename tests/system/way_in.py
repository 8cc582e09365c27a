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


class Readme:
    """The commands of README's five minutes, in their order; each is taken once, by whom it stands there for."""

    def __init__(self) -> None:
        text = (ROOT / "README.md").read_text("utf-8")
        (section,) = re.findall(r"^## Five minutes to a first result$(.*?)^## ", text, re.M | re.S)
        lines = re.findall(r"^    (.+)$", section.replace("\\\n", ""), re.M)
        # What begins with > is said to a session of Claude Code.
        self.left = [re.sub(r"\s{2,}#.*", "", line) for line in lines if not line.startswith("> ")]

    def take(self, who: str, **made_up: str) -> str:
        """Return the next command, which must be `who`'s ("" for the broker's host), with `made_up` words replaced."""
        prompt, found, command = self.left.pop(0).rpartition("$ ")
        assert (prompt + found).strip() == (f"{who}$" if who else ""), (who, prompt, command)
        for word, real in made_up.items():
            assert word in command, (word, command)
            command = command.replace(word, real)
        return command.strip()


def indented(text: str, pattern: str) -> str:
    """Return the one line of a mail that is to be copied and matches."""
    (found,) = re.findall(rf"^ +({pattern})$", text.replace("\r\n", "\n"), re.M)
    return str(found)
