"""The service under a real systemd with logind: a person's daemon after logout, killed, and gone.

Started by inside.py as root, in a guest. A session is opened through PAM, as login and sshd open one; what runs in it
is the person's.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import HANG

ROOT = Path(__file__).resolve().parents[2]
NAME, HOME = "person", Path("/home/person")
PATIENCE = HANG * 4

pytestmark = pytest.mark.skipif("KERNEL_TESTS_GUEST" not in os.environ, reason="needs a guest's logind")


def in_session(*words: str) -> str:
    """Run a program in a session of its own, which ends with it; return what it prints."""
    opened = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", f"--uid={NAME}", "--property=PAMName=login"]
    with_room = ["--setenv=LANG=C.UTF-8", f"--setenv=HOME={HOME}", f"--working-directory={HOME}"]
    done = subprocess.run([*opened, *with_room, *words], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def dispatch(*words: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(in_session(str(Path(sys.executable).parent / "dispatch"), *words, "--json"))
    return found


def user(what: str) -> str:
    """A property of the person at logind; "" while it knows nothing of them."""
    shown = subprocess.run(
        ["loginctl", "show-user", NAME, f"--property={what}", "--value"], capture_output=True, text=True, check=False
    )
    return shown.stdout.strip()


def daemon() -> int:
    """The process of the daemon that answers; 0 for none."""
    try:
        told = json.loads((HOME / ".dispatch/daemon.json").read_bytes())
        urllib.request.urlopen(f"http://127.0.0.1:{told['port']}/", timeout=PATIENCE)
    except urllib.error.HTTPError:
        pass  # it wants a token, so it is there
    except (OSError, ValueError):
        return 0
    pid = int(told["pid"])
    return pid if Path(f"/proc/{pid}").exists() else 0


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, f"{user('State')=} {daemon()=}"
        time.sleep(0.2)


def test_a_daemon_that_lingers_serves_when_nobody_is_logged_in() -> None:
    """And is started again when it is killed meanwhile."""
    told = dispatch("service", "install", "--yes", "--linger")
    assert told["status"] == "installed" and told["linger"] is True
    until(lambda: user("State") == "lingering")
    until(daemon)
    first = daemon()
    os.kill(first, signal.SIGKILL)
    until(lambda: daemon() not in (0, first))
    assert user("State") == "lingering"
    status = dispatch("service", "status")
    assert status["running"] and status["lingers"]


def test_one_that_does_not_ends_with_the_last_session() -> None:
    told = dispatch("service", "install", "--yes", "--no-linger")
    assert told["linger"] is False
    until(lambda: user("State") == "")
    until(lambda: not daemon())
    assert dispatch("service", "status")["lingers"] is False  # a session, which starts it again
    until(lambda: user("State") == "")


def test_uninstalling_leaves_nothing() -> None:
    assert dispatch("service", "uninstall", "--yes")["changed"] is True
    assert not list((HOME / ".config").rglob("*dispatch*"))
    until(lambda: user("State") == "")
    assert not daemon()
