"""The programs without standard streams, as services and cron start them, and with a device that is full."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from peer.machine.state_folder import StateFolder
from tests.conftest import HANG, more

DISPATCH = f"{sys.executable} -m cli.main"


def run(home: Path, line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", line.format(DISPATCH, sys.executable)],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHONPATH": os.getcwd()},  # noqa: PTH109
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("{0} config list >&-", 0),
        ("{0} config list --json >&- 2>&-", 0),
        ("{0} --version <&- >&- 2>&-", 0),
        ("{0} sent >&-", 1),
        ("{0} sent <&- >&- 2>&-", 1),
        ("{0} send bob@example.org - <&-", 2),
        ("{0} config list > /dev/full", 1),
        ("{0} config list --json > /dev/full", 1),
        ("{0} --help > /dev/full", 1),
        ("{1} -m peer.programs.daemon --port x <&- >&-", 2),
    ],
)
def test_closed_and_full_streams_are_no_bug(tmp_path: Path, line: str, code: int) -> None:
    """Seen as a traceback and "a bug in dispatch"."""
    done = run(tmp_path, line)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr and "bug in dispatch" not in done.stderr
    if "full" in line:
        said = "error 503: can't write: No space left on device\n"
        assert done.stderr == said + "fix: free some space, or send the output elsewhere\n"


@pytest.mark.parametrize("closed", [*more("<&- >&-"), "<&- >&- 2>&-"])
def test_a_daemon_without_streams_serves_and_stops(tmp_path: Path, closed: str) -> None:
    """It serves the set-up, since nobody has signed in here, and no socket of its own becomes a standard stream."""
    with (tmp_path / "errors").open("wb") as errors:
        daemon = subprocess.Popen(
            ["/bin/sh", "-c", f"exec {sys.executable} -m peer.programs.daemon --port 0 {closed}"],
            env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": os.getcwd()},  # noqa: PTH109
            stderr=errors,
        )
    try:
        announced = StateFolder(tmp_path / ".dispatch").daemon_json
        until = time.monotonic() + HANG
        while not announced.exists() and daemon.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        assert announced.exists(), (tmp_path / "errors").read_text()
        document = json.loads(announced.read_bytes())
        with socket.create_connection(("127.0.0.1", document["port"]), timeout=HANG):
            assert document["pid"] == daemon.pid
        daemon.terminate()
        assert daemon.wait(HANG) == 0
    finally:
        daemon.kill()
        daemon.wait()
    said = (tmp_path / "errors").read_text()
    assert "Traceback" not in said and "bug in dispatch" not in said and "error" not in said


@pytest.mark.parametrize("to", ["| true", "> /dev/full"])
@pytest.mark.parametrize("command", ["sent", "status 0192f0c1"])
def test_an_error_whose_document_nobody_takes_is_told_all_the_same(tmp_path: Path, command: str, to: str) -> None:
    """Seen as a traceback, without the error's own words."""
    done = run(tmp_path, f"{{0}} {command} --json {to}")
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error 401: no token") and "\nfix: run `dispatch setup`" in done.stderr
