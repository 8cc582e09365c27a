"""Starting a program of the person's own beside a run: unconfined, but blind to given folders, and ended with the run.

It protects honest programs from being misled into reading what is ours. Confining what is not trusted is start.py's.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from sandbox.confinement.bubblewrap.process import BubblewrapProcess
from sandbox.confinement.bubblewrap.start import find_bwrap


def spawn_on_host(
    command: Sequence[str], env: Mapping[str, str], /, *, hidden: Sequence[Path], marker: str
) -> BubblewrapProcess:
    """Start `command` in the person's home with exactly `env`, its three streams as pipes.

    The program is looked up in env's PATH. It sees this machine, its network included, as the person does, with
    `hidden` folders empty and no process but its own. All its processes have the variable `marker`, whatever `env`
    says; and bwrap stays the first process they see, so its command line shows `marker` also to one whose environment
    was emptied.

    Call it from the main thread: the kernel kills the tree when the *thread* that forked bwrap ends. A program that
    does not exist shows as exit status 1 and a line on stderr. SandboxError 503 without bubblewrap.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("processes of a run are started from the main thread only")
    started = subprocess.Popen(
        [find_bwrap(), *_arguments(hidden, env.get("HOME", "/"), marker), "--", *command],
        env=dict(env),
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        close_fds=True,
        start_new_session=True,
    )
    return BubblewrapProcess(started)


def _arguments(hidden: Sequence[Path], home: str, marker: str) -> list[str]:
    words = ["--dev-bind", "/", "/", "--unshare-pid", "--proc", "/proc", "--die-with-parent"]
    # Where the daemon runs as root, what covers the folders could otherwise be unmounted. Nobody else has capabilities.
    words += ["--cap-drop", "ALL", "--setenv", marker, "1"]
    # Only what exists: bwrap would make the rest, on the real disk.
    real = sorted({path.resolve() for path in hidden if path.is_dir()})
    for path in real:
        if not any(parent in real for parent in path.parents):
            words += ["--size", "1048576", "--perms", "0500", "--tmpfs", str(path)]
    return [*words, "--chdir", home if Path(home).is_dir() else "/"]
