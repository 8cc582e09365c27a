"""`dispatch setup` on a terminal, from an empty home to a machine that runs tasks: a real broker, a real daemon."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from peer.machine.state_folder import StateFolder
from tests.cli.test_terminal import Terminal, plain
from tests.conftest import HANG
from tests.sandbox.fake_model import FakeModel, say, serving
from tests.system.world import Broker

KEY = "sk-made-up-for-this-test"


@pytest.fixture
def newcomer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StateFolder]:
    """Somebody who has a folder of projects and nothing of dispatch. Whatever daemon is left of them is ended."""
    for name in [name for name in os.environ if name.startswith(("DISPATCH_", "ANTHROPIC_"))]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    (home / "code/till/.git").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("DISPATCH_HOME", str(home / "state"))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    monkeypatch.setenv("BROWSER", "true")  # webbrowser(3): the program that gets the address
    folder = StateFolder(home / "state")
    yield folder
    if folder.daemon_json.exists():
        daemon = psutil.Process(json.loads(folder.daemon_json.read_text())["pid"])
        daemon.terminate()
        daemon.wait(HANG)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path / "broker")
    made.start()
    yield made
    made.stop()


def dispatch(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *words], capture_output=True, text=True, timeout=HANG, check=False
    )


def test_it_leads_from_nothing_to_a_machine_that_is_set_up(newcomer: StateFolder, broker: Broker) -> None:
    with serving(FakeModel([say("hello")])) as model:
        model.answers = [(401, {}, b""), (200, {}, b"{}")]
        dispatch("config", "set", "port", "0")
        dispatch("config", "set", "listen", "/ip4/127.0.0.1/tcp/0")
        dispatch("config", "set", "model.base_url", model.url)
        terminal = Terminal("setup")
        try:
            terminal.until("The broker's address, https://… (Enter: skip): ")
            terminal.type("broker.example\n")
            assert "error 422" in plain(terminal.until("The broker's address, https://… (Enter: skip): "))
            terminal.type(f"{broker.url}\n")
            terminal.until("Your e-mail address (Enter: skip): ")
            terminal.type("bob@example.org\n")
            terminal.until("with the code ")
            terminal.until("(Ctrl-C: skip)")
            terminal.type("\x03")
            assert "skipped; to do it later: `dispatch login" in plain(terminal.until("When should it run?"))
            terminal.type("\x03")  # anywhere else it ends the set-up
            assert terminal.end() == 130
        finally:
            terminal.close()
        terminal = Terminal("setup", "--broker", broker.url)
        try:
            terminal.until("Your e-mail address (Enter: skip): ")
            terminal.type("bob@example.org\n")
            terminal.until("with the code ")
            broker.approve(terminal.until(", within"))
            assert "bob@example.org" in plain(terminal.until("When should it run? [1/2/3, Enter: 1] "))
            terminal.type("2\n")
            terminal.until("✓ running")
            terminal.until("The key (not shown; Enter: skip): ")
            terminal.type("sk-wrong\n")
            shown = plain(terminal.until("The key (not shown; Enter: skip): "))
            assert "rejects the key (401)" in shown and "sk-wrong" not in shown
            terminal.type(f"{KEY}\n")
            shown = plain(terminal.until("✓ saved"))
            assert "accepts the key" in shown and KEY not in shown
            asked = plain(terminal.until("- for none): "))
            assert "(Enter: ~/code," in " ".join(asked.split()), "wrapped between words"
            terminal.type("\n")
            assert "✓ ~/code: 1 project (till)" in plain(terminal.until("this machine is set up"))
            terminal.until("[y/N] ")
            terminal.type("n\n")
            terminal.until("`dispatch invite EMAIL`")
            assert terminal.end() == 0
        finally:
            terminal.close()
    ready = json.loads(dispatch("setup", "--json").stdout)
    assert ready["ready"] and all(part["done"] for part in ready["parts"])
    assert dispatch().stdout.startswith("nothing is waiting for you\n")


def test_every_step_can_be_skipped_and_is_there_the_next_time(newcomer: StateFolder) -> None:
    terminal = Terminal("setup")
    try:
        terminal.until("(Enter: skip): ")
        terminal.type("\n")
        assert "skipped; to do it later: `dispatch login" in plain(
            terminal.until("When should it run? [1/2/3, Enter: 1] ")
        )
        terminal.type("2\n")
        assert "✓ running" in plain(terminal.until("The key (not shown; Enter: skip): ")), "it waits for the sign-in"
        terminal.type("\n")
        terminal.until("- for none): ")
        terminal.type("-\n")
        assert "still missing: sign-in" in plain(terminal.until("to continue: `dispatch setup`"))
        assert terminal.end() == 1
    finally:
        terminal.close()
    missing = dispatch("setup")
    assert missing.returncode == 1 and "· sign-in" in missing.stdout
