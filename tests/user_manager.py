"""A real user manager of systemd, started for a test in a mount namespace with a /run of its own.

logind is not there, so `loginctl` is a stand-in that notes what it is asked.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cli.service.systemd import UNIT
from peer.machine import identity
from peer.machine.state_folder import StateFolder

SYSTEMD = Path("/usr/lib/systemd/systemd")
PROGRAMS = Path(sys.executable).parent
PATIENCE = 120.0
START = """\
mount -t tmpfs none /run && mkdir -p /run/systemd/system "$XDG_RUNTIME_DIR" && exec "$0" --user --log-target=console
"""
LOGINCTL = """\
#!/bin/sh
case $1 in
show-user) [ "$(tail -n1 {noted} 2>/dev/null)" = enable-linger ] && echo yes || echo no ;;
*) echo "$1" >>{noted} ;;
esac
"""


class Session:
    """One person's login: a home, a user manager, and the command line."""

    def __init__(self, folder: Path) -> None:
        self.home, self.state, self.programs = folder / "home", folder / "state", folder / "bin"
        for each in (self.home, self.programs):
            each.mkdir()
        identity.create(
            StateFolder(self.state), "alice@example.org", "laptop", lambda: time.time_ns() // 1_000_000, os.urandom
        )
        self.noted = folder / "loginctl"
        loginctl = self.programs / "loginctl"
        loginctl.write_text(LOGINCTL.format(noted=self.noted))
        loginctl.chmod(0o755)
        self.environment = {
            "HOME": str(self.home),
            "PATH": f"{self.programs}:/usr/bin:/bin:/usr/sbin:/sbin",
            "DISPATCH_HOME": str(self.state),
            "XDG_RUNTIME_DIR": "/run/user/0",
            "LANG": "C.UTF-8",
        }
        self.log = folder / "manager.log"
        with self.log.open("wb") as log:
            self.manager = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "sh", "-c", START, SYSTEMD],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def run(self, *command: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["nsenter", "--mount", f"--target={self.manager.pid}", "--wdns=/", "--", *map(str, command)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def dispatch(self, *words: str, status: int = 0) -> Any:
        done = self.run(PROGRAMS / "dispatch", "service", *words, "--json")
        assert done.returncode == status, done.stdout + done.stderr + self.log.read_text()
        return json.loads(done.stdout)

    def main_pid(self) -> int:
        return int(self.run("systemctl", "--user", "show", UNIT, "--property=MainPID", "--value").stdout or 0)

    def serving(self) -> int:
        """The process that says, in daemon.json, that it serves; 0 for none."""
        try:
            return int(json.loads((self.state / "daemon.json").read_bytes())["pid"])
        except (OSError, ValueError):
            return 0


def until(what: Callable[[], bool], session: Session) -> None:
    """Poll for what is reported by no event; give up after PATIENCE."""
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end and session.manager.poll() is None, session.log.read_text()
        time.sleep(0.1)


@contextmanager
def started(folder: Path) -> Iterator[Session]:
    """The manager, once it answers; the test is skipped where none can be started."""
    if os.geteuid() != 0 or not SYSTEMD.exists() or not shutil.which("unshare"):
        pytest.skip("needs root and Debian's systemd, to start a user manager in a mount namespace")
    here = Session(folder)
    try:
        until(lambda: here.run("systemctl", "--user", "show", "--property=Version").returncode == 0, here)
        yield here
    finally:
        here.run("systemctl", "--user", "kill", "--signal=SIGKILL", "*.service")
        here.manager.terminate()
        try:
            here.manager.wait(30)
        except subprocess.TimeoutExpired:
            here.manager.kill()
            here.manager.wait()
