"""A child process that is killed before one of the calls by which it changes something."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from typing import Any

from peer.landing import commits, placing
from peer.landing.syscalls import rename

CALLS = ["chmod", "chown", "fchmod", "fsync", "mkdir", "rename", "replace", "rmdir", "symlink", "unlink", "write"]
"""Functions of `os` that change something. Also counted are `rename` of syscalls.py, opening to create, and starting a
program.
"""


class Killer:
    """Kills this process before its `after`th change. For a child process, whose functions it replaces for good."""

    def __init__(self, after: int) -> None:
        self._left = after

    def __enter__(self) -> None:
        for name in CALLS:
            setattr(os, name, self._counted(getattr(os, name)))
        placing.rename = commits.rename = self._counted(rename)  # type: ignore[attr-defined]
        subprocess.Popen = self._counted(subprocess.Popen)  # type: ignore[misc, assignment]
        opened = os.open

        def counted_open(path: Any, flags: int, *more: Any, **named: Any) -> int:
            if flags & os.O_CREAT:
                self._count()
            return opened(path, flags, *more, **named)

        os.open = counted_open

    def __exit__(self, *_: object) -> None:
        pass

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any, **named: Any) -> Any:
            self._count()
            return call(*arguments, **named)

        return counting

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            os.kill(os.getpid(), signal.SIGKILL)


def killed(after: int, work: Callable[[], object]) -> bool:
    """Do `work` in a child that is killed before its `after`th change; return whether it was."""
    child = os.fork()
    if not child:
        try:
            with Killer(after):
                work()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)
