"""Starting a program of the person's own beside a run: their machine as they have it, but blind to given folders and
dead with the run. Confines nothing that is not trusted; that is bwrap.py's.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from sandbox import mark
from sandbox.confinement.bwrap import find
from sandbox.confinement.pins import Pins
from sandbox.confinement.process import ConfinedProcess


def spawn_beside(command: Sequence[str], env: Mapping[str, str], *, hidden: Sequence[Path]) -> ConfinedProcess:
    """Start ``command`` in the person's home with exactly ``env`` and its three streams as pipes; the program is
    looked up in env's PATH.

    It sees this machine, its network included, as the person does, with ``hidden`` folders empty and no process but
    its own, and carries the mark for which programs of ours refuse to run. Call it from the main thread: the kernel
    kills the tree when the *thread* that forked bwrap ends. A program that does not exist shows as exit status 1 and a
    line on stderr. SandboxError 503 without bubblewrap.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("processes of a run are started from the main thread only")
    started = subprocess.Popen(
        [find(), *_arguments(hidden, env.get("HOME", "/")), "--", *command],
        env=dict(env),
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        close_fds=True,
        start_new_session=True,
    )
    return ConfinedProcess(started, Pins())


def _arguments(hidden: Sequence[Path], home: str) -> list[str]:
    words = ["--dev-bind", "/", "/", "--unshare-pid", "--proc", "/proc", "--die-with-parent"]
    # Of a daemon that runs as root: what covers the folders could otherwise be unmounted. Nobody else has any.
    words += ["--cap-drop", "ALL", *mark.WORDS]
    # Only what exists: bwrap would make the rest, on the real disk.
    real = sorted({path.resolve() for path in hidden if path.is_dir()})
    for path in real:
        if not any(parent in real for parent in path.parents):
            words += ["--size", "1048576", "--perms", "0500", "--tmpfs", str(path)]
    return [*words, "--chdir", home if Path(home).is_dir() else "/"]
