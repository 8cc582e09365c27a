"""Killing `dp-agent`, or leaving it, with all that it has started.

A confined tree dies with the process that started it, except for the few milliseconds in which bwrap builds the
sandbox: its child waits there for bwrap, and would wait for ever for a dead one. It is in the process group that bwrap
leads, so that group is killed too.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

_STOPPED_WITHIN: Final = 0.05
"""Seconds to wait until a process has stopped; then it starts nothing any more."""


def kill(pid: int) -> None:
    """SIGKILL a child of ours, not reaped yet, and the groups that its children lead. Blocks for milliseconds."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        until = time.monotonic() + _STOPPED_WITHIN
        while _state(pid) not in "TtZX" and time.monotonic() < until:
            time.sleep(0.0005)
        kill_children(pid)
        os.kill(pid, signal.SIGKILL)


def kill_children(pid: int) -> None:
    """SIGKILL the children of a process, and the groups that they lead."""
    for child in _children(pid):
        for kill_one in (os.killpg, os.kill):  # just forked, it may not lead a group yet
            with suppress(ProcessLookupError):
                kill_one(child, signal.SIGKILL)


def leave() -> NoReturn:
    """Exit at once, with status 1, as for a node that is gone.

    bwrap dies with this process, and its pid namespace with it, but not one that is being built.
    """
    kill_children(os.getpid())
    os._exit(1)


def _state(pid: int) -> str:
    """The letter of proc_pid_stat(5); X for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def _children(pid: int) -> list[int]:
    try:
        listed = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    return [int(child) for text in listed for child in text.split()]
