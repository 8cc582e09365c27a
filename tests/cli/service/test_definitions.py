"""What is written for systemd and launchd, and how the commands ask; test_systemd.py has a real user manager."""

from __future__ import annotations

import os
import plistlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli import prompts
from cli.service import command, environment, systemd
from cli.service.launchd import Launchd
from cli.service.manager import MARK
from cli.service.systemd import Systemd
from peer.machine import identity
from peer.machine.lock import state_lock
from peer.machine.state_folder import StateFolder
from peer.protocol.errors import Invalid
from tests.cli.conftest import Cli

DAEMON = Path(sys.executable).parent / "dispatch-daemon"
ODD = Path("/tmp/a b/$HOME/100%/dispatch-daemon")
SECRET = "sk-ant-made-up"


def test_the_unit_is_one_that_systemd_reads(tmp_path: Path) -> None:
    """Seen to fail with a misspelt setting."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (Debian: systemd)")
    odd = tmp_path / "a b $HOME 100%"
    odd.mkdir()
    program = shutil.copy("/bin/true", odd / "dispatch-daemon")
    unit = tmp_path / systemd.UNIT
    unit.write_text(Systemd().render(Path(program), {"DISPATCH_HOME": '/a b/%h "x" $HOME'}, linger=True))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--recursive-errors=no", unit],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_words_are_quoted() -> None:
    text = Systemd().render(ODD, {"A": 'x\\y% "q"'}, linger=False).splitlines()
    assert 'ExecStart=:"/tmp/a b/$HOME/100%%/dispatch-daemon"' in text
    assert 'Environment="A=x\\\\y%% \\"q\\""' in text


@pytest.mark.parametrize("odd", ['a"b', "a'b", "a\\b"])
def test_a_program_that_systemd_would_not_start_is_refused(odd: str) -> None:
    """Found by systemd-analyze: such a unit is "bad", however the path is written in it."""
    with pytest.raises(Invalid, match="quote or a backslash"):
        Systemd().render(Path(f"/{odd}/dispatch-daemon"), {}, linger=False)


def test_a_line_break_adds_no_setting() -> None:
    with pytest.raises(Invalid):
        Systemd().render(Path("/a\nExecStartPre=/bin/evil/dispatch-daemon"), {}, linger=False)
    assert environment.kept({"PATH": "/bin\nExecStartPre=/bin/evil"}) == {}


def test_nothing_that_keeps_runs_from_being_confined() -> None:
    """Each of these, as a setting, would."""
    names = {line.partition("=")[0] for line in Systemd().render(DAEMON, {}, linger=False).splitlines() if "=" in line}
    settings = {name for name in names if not name.startswith("#")}
    allowed = {
        *("Description", "StartLimitIntervalSec", "StartLimitBurst", "Type", "ExecStart", "Restart", "RestartSec"),
        *("KillMode", "TimeoutStopSec", "OOMPolicy", "LimitCORE", "SyslogIdentifier", "WantedBy"),
    }
    assert settings == allowed


def test_no_secret_is_written() -> None:
    env = {
        "ANTHROPIC_API_KEY": SECRET,
        "ANTHROPIC_AUTH_TOKEN": SECRET,
        "DISPATCH_TOKEN": SECRET,
        "DISPATCH_SMTP_PASSWORD": SECRET,
        "HTTPS_PROXY": f"http://me:{SECRET}@proxy.example:3128",
        "ANTHROPIC_BASE_URL": f"https://gateway.example/v1?key={SECRET}",
        "DISPATCH_BROKER": "https://broker.example",
        "DISPATCH_HOME": "/srv/state",
        "OTHER": "1",
    }
    assert environment.kept(env) == {"DISPATCH_BROKER": "https://broker.example", "DISPATCH_HOME": "/srv/state"}
    told = environment.left_out(env)
    assert set(told) == {
        *("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "DISPATCH_TOKEN", "HTTPS_PROXY", "ANTHROPIC_BASE_URL")
    }
    assert SECRET not in str(told)


def test_the_agent_of_launchd_is_a_property_list(tmp_path: Path) -> None:
    """Read back by Python's plistlib; there is no launchd here to load it."""
    text = Launchd(StateFolder(tmp_path)).render(ODD, {"PATH": "/bin & </dict>"}, linger=False)
    read = plistlib.loads(text.encode())
    assert read["ProgramArguments"] == [str(ODD)]
    assert read["EnvironmentVariables"] == {"PATH": "/bin & </dict>"}
    assert read["KeepAlive"] == {"SuccessfulExit": False} and read["RunAtLoad"] is True
    assert read["StandardErrorPath"] == str(tmp_path / "service.log")
    assert MARK in text


def test_it_is_shown_and_nothing_is_changed(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("service", "install", "--show")
    assert outcome.code == 0 and f'ExecStart=:"{DAEMON}"' in outcome.out
    assert f'Environment="DISPATCH_HOME={tmp_path / "state"}"' in outcome.out
    document = cli("service", "install", "--show", "--json").document
    assert document["status"] == "shown" and document["text"].startswith("# Made by")
    assert not (tmp_path / "home").exists()


def test_a_secret_that_is_set_is_told_and_not_shown(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", SECRET)
    out = cli("service", "install", "--show").out
    assert "$ANTHROPIC_API_KEY is left out" in out and SECRET not in out


@pytest.fixture
def managed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Signed in, and as if a user manager ran: what would be asked of it is noted, and nothing is done."""
    identity.create(cli.folder, "alice@example.org", "laptop", lambda: time.time_ns() // 1_000_000, os.urandom)
    done: list[str] = []
    monkeypatch.setattr(Systemd, "check", lambda self: None)
    monkeypatch.setattr(Systemd, "install", lambda self, text, linger: done.append(f"install, linger {linger}"))
    monkeypatch.setattr(Systemd, "lingering", lambda self: False)
    return done


@pytest.mark.parametrize(("answers", "expected"), [("yy", "True"), ("ny", "False"), ("yn", ""), ("nn", "")])
def test_the_person_is_asked_about_both(
    cli: Cli, managed: list[str], monkeypatch: pytest.MonkeyPatch, answers: str, expected: str
) -> None:
    """Seen to fail with the answer to the second question not looked at."""
    left = iter(answers)
    monkeypatch.setattr(command, "interactive", lambda: True)
    monkeypatch.setattr(prompts, "confirm", lambda question: next(left) == "y")
    outcome = cli("service", "install")
    assert outcome.code == 0 and "[Service]" in outcome.out
    assert managed == ([f"install, linger {expected}"] if expected else [])
    assert ("X-DispatchLinger=enabled" in outcome.out) == (answers[0] == "y")


@pytest.mark.parametrize("words", [["install"], ["install", "--json"]])
def test_where_nobody_can_be_asked_nothing_is_done(cli: Cli, managed: list[str], words: list[str]) -> None:
    outcome = cli("service", *words)
    assert outcome.code == 2 and "--yes" in outcome.out + outcome.err and managed == []


def test_a_daemon_that_runs_already_is_named(cli: Cli, managed: list[str]) -> None:
    """Seen to fail without the check: the service would have failed five times instead."""
    with state_lock(cli.folder):
        outcome = cli("service", "install", "--yes", "--json")
    assert outcome.document["error"]["code"] == 409 and "stop that one" in outcome.document["error"]["fix"]
    assert managed == []


def test_a_machine_that_has_not_signed_in_gets_a_service_too(cli: Cli, managed: list[str]) -> None:
    """Its daemon serves the page for setting it up. Seen to fail with 401 while the daemon of such a machine ended."""
    shutil.rmtree(cli.folder.path)
    assert cli("service", "install", "--yes", "--json").document["status"] == "installed"
    assert managed == ["install, linger False"]


def test_a_unit_of_somebody_else_is_left_alone(cli: Cli, managed: list[str], tmp_path: Path) -> None:
    path = tmp_path / "home/.config/systemd/user" / systemd.UNIT
    path.parent.mkdir(parents=True)
    path.write_text("[Service]\nExecStart=/bin/mine\n")
    for words in (["install", "--yes"], ["uninstall", "--yes"], ["status"]):
        assert cli("service", *words, "--json").document["error"]["code"] == 409
    assert managed == [] and "mine" in path.read_text()


def test_lingering_that_was_there_before_is_not_ours(
    cli: Cli, managed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So uninstalling does not turn it off."""
    monkeypatch.setattr(Systemd, "lingering", lambda self: True)
    assert cli("service", "install", "--yes", "--linger", "--json").document["linger"] is False


def test_without_systemd_the_fix_is_said(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    error = cli("service", "install", "--yes", "--json").document["error"]
    assert error["code"] == 503 and "systemd" in error["message"] and error["fix"]


def test_no_manager_and_nothing_installed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert cli("service", "status").out.startswith("not installed")
    assert cli("service", "uninstall").out == "it was not installed\n"
    monkeypatch.setattr(sys, "platform", "freebsd")
    assert "your own service manager" in cli("service", "status").err
