"""The programs without standard streams, as services and cron start them, and with a device that is full."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
        ("{1} -m peer.programs.daemon <&- >&-", 1),
    ],
)
def test_closed_and_full_streams_are_no_bug(tmp_path: Path, line: str, code: int) -> None:
    """Seen as a traceback and "a bug of dispatch"."""
    done = run(tmp_path, line)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr and "bug of dispatch" not in done.stderr
    if "full" in line:
        said = "error 503: can't write: No space left on device\n"
        assert done.stderr == said + "fix: free some space, or send the output elsewhere\n"


@pytest.mark.parametrize("to", ["| true", "> /dev/full"])
@pytest.mark.parametrize("command", ["sent", "status 0192f0c1"])
def test_an_error_whose_document_nobody_takes_is_told_all_the_same(tmp_path: Path, command: str, to: str) -> None:
    """Seen as a traceback, without the error's own words."""
    done = run(tmp_path, f"{{0}} {command} --json {to}")
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error 401: no token") and "\nfix: run `dispatch login" in done.stderr
