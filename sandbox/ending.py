"""Ends a process with all that it has started, also what does not die with it by itself.

A confined tree dies with whoever started it (bwrap.py), but for the few milliseconds in which bwrap is being built: its
child waits there for a word of bwrap, and with bwrap dead it would wait for ever. It is in the group that bwrap leads.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

_STOPPED_WITHIN: Final = 0.05
"""Seconds for a process to stop; it starts nothing any more then."""


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
        for end in (os.killpg, os.kill):  # not the leader of a group yet, if it was only just forked
            with suppress(ProcessLookupError):
                end(child, signal.SIGKILL)


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
