"""`doctor --fix` on a machine that confines no runs: what is shown, asked, and run. tests/kernels has real ones."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import Any

import pytest

from cli import machine_repair, prompts
from tests.cli.conftest import Cli
from tests.cli.test_doctor import PROOF

COMMANDS = [["install", "-m644", "/a b", "/etc/apparmor.d/"], ["apparmor_parser", "-r", "/etc/apparmor.d/c"]]
CAUSE = {"name": "apparmor", "message": "AppArmor is in the way", "fix": "…", "advice": "", "commands": COMMANDS}
BROKEN = {"error": {"code": 503, "message": "AppArmor is in the way", "fix": "`dispatch doctor --fix`"}, "tier": None}


class Machine:
    """Plays dp-agent and the commands: `broken` until all commands were run. `answer`: what the person types."""

    def __init__(self) -> None:
        self.cause: dict[str, Any] | None = CAUSE
        self.answer = True
        self.failing = ""
        self.asked: list[str] = []
        self.ran: list[list[str]] = []

    def run(self, args: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        if args[-1] == "--machine":
            return subprocess.CompletedProcess(args, 1, json.dumps({"cause": self.cause}).encode())
        if "--prove" in args:
            mended = bool(self.ran) and self.ran[-1][-2:] == COMMANDS[-1][-2:]
            return subprocess.CompletedProcess(args, 0, json.dumps(PROOF if mended else BROKEN).encode())
        self.ran.append(args)
        return subprocess.CompletedProcess(args, 3 if self.failing and self.failing in args else 0)

    def confirm(self, question: str) -> bool:
        self.asked.append(question)
        return self.answer


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    here = Machine()
    monkeypatch.setattr(subprocess, "run", here.run)
    monkeypatch.setattr(prompts, "confirm", here.confirm)
    monkeypatch.setattr(machine_repair, "interactive", lambda: True)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    return here


def test_shown_asked_run_and_looked_at_again(cli: Cli, machine: Machine) -> None:
    """Seen to fail with the proof from before the repair shown."""
    shown = cli("doctor", "--fix").out
    assert machine.ran == [["sudo", *command] for command in COMMANDS] and len(machine.asked) == 1
    assert "AppArmor is in the way" in shown and "    sudo install -m644 '/a b' /etc/apparmor.d/" in shown
    assert "ok      sandbox" in shown and "broken  sandbox" not in shown


def test_a_no_changes_nothing(cli: Cli, machine: Machine) -> None:
    """Seen to fail with the answer not looked at."""
    machine.answer = False
    shown = cli("doctor", "--fix").out
    assert machine.asked and not machine.ran and "broken  sandbox" in shown


@pytest.mark.parametrize("how", ["json", "no terminal", "no --fix", "nothing to do", "no answer"])
def test_where_nobody_is_asked_nothing_is_run(
    cli: Cli, machine: Machine, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Seen to fail with the terminal not asked for."""
    if how == "no terminal":
        monkeypatch.setattr(machine_repair, "interactive", lambda: False)
    if how == "nothing to do":
        machine.cause = CAUSE | {"commands": []}
    if how == "no answer":
        machine.cause = None
    words = {"json": ["--fix", "--json"], "no --fix": []}.get(how, ["--fix"])
    assert cli("doctor", *words).code == 1
    assert not machine.asked and not machine.ran


def test_the_first_command_that_fails_is_the_last(cli: Cli, machine: Machine) -> None:
    machine.failing = "/a b"
    shown = cli("doctor", "--fix").out
    assert (
        len(machine.ran) == 1 and "failed with status 3; the rest was not run" in shown and "broken  sandbox" in shown
    )


def test_root_needs_no_sudo(cli: Cli, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    cli("doctor", "--fix")
    assert machine.ran == COMMANDS


def test_without_sudo_they_are_shown_alone(cli: Cli, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    shown = cli("doctor", "--fix").out
    assert "apparmor_parser -r" in shown and "there is no sudo here" in shown and not machine.asked and not machine.ran
