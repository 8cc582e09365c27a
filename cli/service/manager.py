"""What a service manager of a person can do for us, and running its programs. The managers: systemd.py, launchd.py."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from peer.protocol.errors import Conflict, Unavailable

SECONDS = 120.0
"""More than a manager gives the daemon to end (STOP_SECONDS)."""
STOP_SECONDS = 90
RESTART_SECONDS = 5
MARK = "Made by `dispatch service install`"
"""What every definition of ours says; a file of that name without it is somebody else's, and is left alone."""


class State(NamedTuple):
    """`enabled`: it starts by itself. `lingers`: also without a login. `detail`: the manager's own words."""

    installed: bool
    enabled: bool
    running: bool
    lingers: bool
    detail: str


class Manager(Protocol):
    """One service manager."""

    name: str
    can_linger: bool
    logs: str
    """The command that shows what the daemon printed."""

    @property
    def path(self) -> Path:
        """The file that defines the service."""

    def check(self) -> None:
        """Raise Unavailable, with what helps, where this manager does not run for this person."""

    def render(self, program: Path, environment: Mapping[str, str], *, linger: bool) -> str:
        """The contents of that file. Pure. Raises Invalid for what it cannot hold."""

    def lingering(self) -> bool:
        """Whether this person's services run without a login already."""

    def lingers_by_us(self) -> bool:
        """Whether they do so since an earlier install turned it on."""

    def install(self, text: str, *, linger: bool) -> None:
        """Write the file, and have the daemon started now and at each start of the manager."""

    def uninstall(self) -> bool:
        """Stop it and remove all that install made; whether there was anything."""

    def state(self) -> State:
        """How it is at this moment."""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a manager's program to its end; a missing one, and one that gives no answer, end with a status as well."""
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except OSError as error:
        return subprocess.CompletedProcess(command, 127, "", str(error))
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"no answer in {SECONDS:.0f} s")


def need(*command: str, fix: str) -> None:
    """Run it; raise Unavailable, with its own words, unless it succeeds."""
    done = run(*command)
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split()) or f"status {done.returncode}"
        raise Unavailable(f"`{' '.join(command)}` failed: {said}", fix=fix)


def written(path: Path) -> str | None:
    """The definition that stands there; None if there is none. Raises Conflict if it is not ours."""
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unavailable(f"can't read {path}: {error.strerror}", fix="check its permissions") from error
    if MARK not in text:
        raise Conflict(
            f"{path} was not made by dispatch", fix="look at it, and move it away if you do not need it; then try again"
        )
    return text


def write(path: Path, text: str) -> None:
    """Put it in place, whole or not at all; readable by all, as such files are."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
            Path(made).chmod(0o644)
            Path(made).replace(path)
        except BaseException:
            Path(made).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Unavailable(f"can't write {path}: {error.strerror}", fix="check its folder's permissions") from error


def remove(path: Path, *, up_to: Path) -> None:
    """Remove the file, and the folders above it, below `up_to`, that are empty then."""
    path.unlink(missing_ok=True)
    for folder in path.parents:
        if folder == up_to or not folder.is_relative_to(up_to):
            return
        try:
            folder.rmdir()
        except OSError:
            return
