"""`setup` where its steps are skipped, answered by the test; on a real terminal: tests/system/test_setup.py."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli import login, prompts
from cli.service.systemd import Systemd
from cli.setup import steps
from tests.cli.conftest import Cli

URL = "https://broker.example"


@pytest.fixture
def asked(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """As if at a terminal. `answers`: what is typed at each line that is asked for; "" at all others."""
    answers: dict[str, Any] = {"waited": 0}
    prompted: list[str] = []

    def line(prompt: str, **_: object) -> str:
        prompted.append(prompt)
        assert prompted.count(prompt) <= 3, f"asked again and again: {prompt}"
        return str(next((answers[words] for words in answers if words in prompt), ""))

    def no_key(_prompt: str) -> str:
        raise EOFError  # Ctrl-D

    def waits(*_: object, **__: object) -> None:
        answers["waited"] += 1
        raise KeyboardInterrupt

    for name in ("cli.setup.command", "cli.login", "cli.service.command"):
        monkeypatch.setattr(f"{name}.interactive", lambda: True)
    for module in (steps, login, prompts):
        monkeypatch.setattr(module, "line", line)
    monkeypatch.setattr(getpass, "getpass", no_key)
    monkeypatch.setattr("peer.broker.signin.sign_in", waits)
    monkeypatch.setattr(steps, "STARTED_SECONDS", 0.0)
    monkeypatch.setattr(Systemd, "check", lambda self: None)
    monkeypatch.setattr(Systemd, "lingering", lambda self: False)
    return answers


@pytest.mark.parametrize(
    ("address", "waited"), [("", 0), ("bob@example.org", 1)], ids=["no address", "Ctrl-C while it waits"]
)
def test_no_step_is_a_dead_end(
    cli: Cli, asked: dict[str, Any], address: str, waited: int, step: Callable[[str, str], str]
) -> None:
    """Seen to fail: the sign-in ended all of it with 130, and the service that nobody wanted "did not answer"."""
    asked["e-mail"] = address
    outcome = cli("setup", "--broker", URL)
    assert (outcome.code, asked["waited"]) == (1, waited)
    for name, command in (
        ("sign-in", f"dispatch login --broker {URL}"),
        ("daemon", "dispatch service install"),
        ("model key", "dispatch config set model.api_key -"),
        ("projects", "dispatch config set roots PATH"),
    ):
        assert f"skipped; to do it later: `{command}`" in step(outcome.out, name)
    assert "nothing was changed" in step(outcome.out, "daemon") and outcome.err == ""


@pytest.fixture
def step() -> Callable[[str, str], str]:
    """What was shown of a step, by its name."""

    def part(shown: str, name: str) -> str:
        return shown.partition(f"of 4  {name}\n")[2].partition(" of 4  ")[0]

    return part


def test_what_is_in_the_project_folders_is_said(
    cli: Cli, asked: dict[str, Any], step: Callable[[str, str], str], tmp_path: Path
) -> None:
    """When they are set, when they are set already, and in the document."""
    for name in ("till", "shop"):
        (tmp_path / "code" / name / ".git").mkdir(parents=True)
    asked["Folders with your projects"] = str(tmp_path / "code")
    for _ in range(2):
        assert f"✓ {tmp_path}/code: 2 projects (shop, till)" in step(cli("setup").out, "projects")
        asked["Folders with your projects"] = "-"
    (row,) = cli("setup", "--json").document["project_folders"]
    assert (row["folder"], row["count"], row["names"]) == (f"{tmp_path}/code", 2, ["shop", "till"])
