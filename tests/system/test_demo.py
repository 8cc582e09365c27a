"""`dispatch demo` as a newcomer meets it: all real but the model's words, told in one document or on a terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_terminal import Terminal, plain
from tests.conftest import HANG


@pytest.fixture(autouse=True)
def newcomer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody whose home is empty, and stays so."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("DISPATCH_HOME", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.mark.long
def test_it_ends_with_one_document(newcomer: Path) -> None:
    """Seen to fail with a result whose file was left out."""
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "demo", "--json"], capture_output=True, timeout=HANG, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    keys = {"dispatch_id", "status", "runtime", "sandbox", "events", "reply", "files", "signatures_valid", "seconds"}
    assert set(told) == keys
    assert (told["status"], told["runtime"], told["sandbox"]) == ("completed", "claude", "full")
    assert told["signatures_valid"] is True
    assert [file["name"] for file in told["files"]] == ["till.py"] and told["files"][0]["ready"]
    answers = [(event["outcome"], event["by"]) for event in told["events"] if event["kind"] == "approval"]
    assert answers == [("allowed", "person")] * 2
    assert [event["tool"] for event in told["events"] if event["kind"] == "tool_call"] == ["Read", "Write"]
    assert "divided by 10" in told["reply"]
    assert list(newcomer.iterdir()) == [], "it keeps to folders of its own"


@pytest.mark.long
def test_a_person_answers_on_a_terminal() -> None:
    """Seen to fail with a demo that answers by itself on a terminal too."""
    terminal = Terminal("demo")
    try:
        terminal.until("Accept it? [y/N]")
        terminal.type("y\n")
        shown = plain(terminal.until("Your answer? ["))
        assert "Read" in shown and "alice@demo.example" in shown
        terminal.type("1\n")
        shown = plain(terminal.until("Your answer? ["))
        assert "Write" in shown and "+    return whole - whole * discount_percent // 100" in shown
        terminal.type("1\n")
        told = plain(terminal.until("done, in"))
        assert "returned file till.py" in told and "signed statements verified" in told
        assert terminal.end() == 0
    finally:
        terminal.close()


@pytest.mark.long
def test_whoever_declines_sees_that_nothing_ran() -> None:
    terminal = Terminal("demo")
    try:
        terminal.until("Accept it? [y/N]")
        terminal.type("n\n")
        assert "nothing ran" in plain(terminal.until("to start again"))
        assert terminal.end() == 1
    finally:
        terminal.close()
    assert "sandbox.agent" not in "".join(_programs())


def test_live_without_credentials_says_what_is_missing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "demo", "--live", "--json"], capture_output=True, timeout=HANG, check=False
    )
    error = json.loads(done.stdout)["error"]
    assert done.returncode == 1 and error["code"] == 503 and "model.api_key" in error["fix"]


def _programs() -> list[str]:
    """Return the command lines of this user's processes whose home is this test's."""
    mine = f"HOME={os.environ['HOME']}"
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mine in (folder / "environ").read_bytes().decode("utf-8", "replace").split("\0"):
                found.append((folder / "cmdline").read_bytes().decode("utf-8", "replace"))
        except OSError:
            continue
    return found
