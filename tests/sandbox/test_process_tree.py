"""Ending a program with a tree that is only being built: played by a shell whose child outlives it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from sandbox import process_tree
from tests.conftest import HANG
from tests.sandbox.node import ROOT
from tests.system.world import all_gone

PROGRAM = """
import signal, subprocess, sys
from sandbox import process_tree
half_built = ["setpriv", "--pdeathsig", "KILL", "sh", "-c", "sleep 1000 & echo built; wait"]
tree = subprocess.Popen(half_built, start_new_session=True, stdout=subprocess.PIPE)
tree.stdout.readline()
print("ready", flush=True)
sys.stdin.readline()
process_tree.leave()
"""


@pytest.fixture
def program() -> Iterator[subprocess.Popen[str]]:
    """A program with a half built tree, in a session of its own."""
    started = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    tree: list[psutil.Process] = []
    try:
        assert started.stdout is not None and started.stdout.readline() == "ready\n"
        tree = psutil.Process(started.pid).children(recursive=True)
        assert len(tree) == 2
        yield started
        assert all_gone([process.pid for process in tree])
    finally:
        for process in tree:
            if process.is_running():
                process.kill()
        started.kill()
        started.wait()
        for stream in (started.stdin, started.stdout):
            assert stream is not None
            stream.close()


def test_whoever_is_killed_takes_it_along(program: subprocess.Popen[str]) -> None:
    """Seen to fail with a kill of the program alone: what the shell had started lived on."""
    process_tree.kill(program.pid)
    assert program.wait(HANG) == -signal.SIGKILL


def test_whoever_leaves_takes_it_along(program: subprocess.Popen[str]) -> None:
    """Seen to fail with dp-agent leaving at once."""
    assert program.stdin is not None
    program.stdin.close()
    assert program.wait(HANG) == 1
