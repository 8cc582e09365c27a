"""Machines that refuse, for real: in a guest an administrator's switches are set, and doctor has to name and mend them.

Started by inside.py, as root and as an ordinary user who may use sudo. Never on a machine that is somebody's.
"""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import HANG, SLOWER

ROOT = Path(__file__).resolve().parents[2]
ROOTLESS = os.geteuid() != 0
SUDO = ["sudo"] if ROOTLESS else []
APPARMOR = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
CLONE = Path("/proc/sys/kernel/unprivileged_userns_clone")
PIVOTING = 255
"""The first systemd of those seen that leaves a unit no mount but its own."""
PROFILE = Path("/etc/apparmor.d/bwrap-userns-restrict")

pytestmark = pytest.mark.skipif("KERNEL_TESTS_GUEST" not in os.environ, reason="changes the machine that it runs on")


def agent(*words: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-B", "-m", "tests.kernels.patient", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANG * 4,
        check=False,
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def systemd() -> int:
    done = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[1])


@contextmanager
def switched(name: str, value: str) -> Iterator[None]:
    before = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=True).stdout.strip()
    subprocess.run([*SUDO, "sysctl", "-q", "-w", f"{name}={value}"], check=True)
    try:
        yield
    finally:
        subprocess.run([*SUDO, "sysctl", "-q", "-w", f"{name}={before}"], check=True)


DISPATCH = f"""
from cli import agent_program
agent_program.SECONDS *= {SLOWER}
agent_program.AGENT = ({sys.executable!r}, "-B", "-m", "tests.kernels.patient")
agent_program.AGENT_ENVIRONMENT = {{**agent_program.AGENT_ENVIRONMENT, "TESTS_SLOWER": "{SLOWER}"}}
from cli.main import main
main()
"""
"""`dispatch` with the time that an emulated processor takes."""


def doctor(home: Path, answer: bytes) -> str:
    """Type `answer` at the question of `dispatch doctor --fix` on a terminal; return all that was shown there."""
    shown = b""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-B", "-c", DISPATCH, "doctor", "--fix"],
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(ROOT), "DISPATCH_HOME": str(home), "TERM": "dumb"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as command:
        os.close(theirs)
        while select.select([ours], [], [], HANG * 4)[0]:
            try:
                read = os.read(ours, 65536)
            except OSError:  # the other end of a terminal is closed
                break
            shown += read
            if shown.rstrip().endswith(b"[y/N]") and answer:
                os.write(ours, answer)
                answer = b""
        command.kill()
    os.close(ours)
    return shown.decode(errors="replace")


@pytest.mark.skipif(not (ROOTLESS and APPARMOR.exists()), reason="Ubuntu's restriction, which root is not under")
def test_ubuntus_restriction_is_named_and_mended(tmp_path: Path) -> None:
    """Comes first: all that follows needs it mended. The profile's package is installed, so no archive is asked."""
    assert APPARMOR.read_text().strip() == "1" and not PROFILE.exists()
    cause = agent("--machine")["cause"]
    assert isinstance(cause, dict) and cause["name"] == "apparmor", cause
    refused = agent("--prove")["error"]
    assert isinstance(refused, dict) and "kernel.apparmor_restrict_unprivileged_userns is 1" in str(refused["message"])
    shown = doctor(tmp_path, b"n\n")
    assert "sudo apparmor_parser -r /etc/apparmor.d/bwrap-userns-restrict" in shown and "Run them now?" in shown, shown
    assert not PROFILE.exists() and "broken  sandbox" in shown
    shown = doctor(tmp_path, b"y\n")
    assert PROFILE.exists() and "canaries were denied" in shown, shown
    assert agent("--machine")["cause"] is None
    assert agent("--prove").get("error") is None


def test_no_user_namespaces() -> None:
    with switched("user.max_user_namespaces", "0"):
        refused = agent("--prove")["error"]
        assert isinstance(refused, dict) and "user.max_user_namespaces is 0" in str(refused["message"]), refused
        assert "sysctl -q -p /etc/sysctl.d/60-dispatch.conf" in str(refused["fix"])
    assert agent("--prove").get("error") is None


@pytest.mark.skipif(not (ROOTLESS and CLONE.exists()), reason="Debian's switch, which root is not under")
def test_debians_switch() -> None:
    with switched("kernel.unprivileged_userns_clone", "0"):
        refused = agent("--prove")["error"]
        assert isinstance(refused, dict)
        assert "kernel.unprivileged_userns_clone is 0" in str(refused["message"]), refused
    assert agent("--prove").get("error") is None


def test_a_service_managers_proc() -> None:
    """A real systemd covers parts of /proc for a unit with ProtectKernelTunables=, as containers do.

    Debian 12's (252) leaves the machine's own /proc in the unit's namespace, out of reach of its programs, and that is
    enough for the kernel to give a run one: there nothing is to be named, and the sandbox has to hold.
    """

    def in_unit(word: str) -> dict[str, object]:
        words = ["systemd-run", "--quiet", "--pipe", "--wait", "-p", "ProtectKernelTunables=yes"]
        words += ["-p", f"WorkingDirectory={ROOT}", "-p", f"User={os.geteuid()}", "-E", f"TESTS_SLOWER={SLOWER}"]
        done = subprocess.run(
            [*SUDO, *words, sys.executable, "-B", "-m", "tests.kernels.patient", word],
            capture_output=True,
            text=True,
            timeout=HANG * 4,
            check=False,
        )
        found: dict[str, object] = json.loads(done.stdout)
        return found

    cause, refused = in_unit("--machine")["cause"], in_unit("--prove").get("error")
    if cause is None:
        assert refused is None and systemd() < PIVOTING, refused
    else:
        assert isinstance(cause, dict) and cause["name"] == "masked proc", cause
        assert "ProtectKernelTunables=" in cause["fix"]
        assert isinstance(refused, dict) and refused["message"] == cause["message"]
