"""Folders of a made-up person, and running a program in a profile to its end. Shared by the sandbox
tests only.
"""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from sandbox.confinement import ConfinedProcess, Profile, Root
from sandbox.confinement.bubblewrap import spawn
from sandbox.views import namespace
from sandbox.views.making import make_views
from tests.conftest import HANG

NO_OVERLAY: Final = namespace.enter()
"""Why tests that make views in their own process have copies, "" for overlays. Entered as dp-agent does, and for the
same reason here: later there are threads.
"""
_numbers = itertools.count(1)


KILLED: Final = (-9, 137)
"""Statuses of a confined program that was killed from outside, which hits bwrap and what it confines at once: bwrap's
own end, or what it tells of the other's.
"""


@contextlib.contextmanager
def viewed(profile: Profile, *, no_overlay: str = NO_OVERLAY) -> Iterator[Profile]:
    """The profile with views of its writable roots, mounted until the end of the block. Those that it has it keeps."""
    if all(root.view is not None for root in profile.roots if root.writable):
        yield profile
        return
    folder = profile.workspace.parent / f"views-{next(_numbers)}"
    folder.mkdir(mode=0o700)
    views = make_views(profile.roots, folder, no_overlay=no_overlay, limits=profile.limits)
    try:
        yield replace(profile, roots=views.roots)
    finally:
        views.close()


@dataclass(frozen=True)
class Person:
    """A machine's folders: what may be seen, and what may not.

    `plain`: what a run gets. `profile`: the same with views, new ones each time, of what the folders hold now.
    """

    base: Path
    workspace: Path
    project: Path
    reading: Path
    state: Path
    ssh: Path
    views: contextlib.ExitStack

    @property
    def profile(self) -> Profile:
        return self.views.enter_context(viewed(self.plain))

    @property
    def plain(self) -> Profile:
        return Profile(
            workspace=self.workspace,
            roots=(Root(self.project, writable=True), Root(self.reading)),
            protected=(self.state, self.ssh),
        )


@pytest.fixture
def person() -> Iterator[Person]:
    # Not pytest's own folder: that is in /tmp, which is private and writable inside, as no home folder ever
    # is.
    with (
        tempfile.TemporaryDirectory(prefix="dispatch-test-", dir="/var/tmp") as folder,
        contextlib.ExitStack() as views,
    ):
        yield make_person(Path(folder).resolve(), views)


def seen(profile: Profile) -> Path:
    """Where on this machine the first folder lies that the run sees."""
    view = profile.roots[0].view
    assert view is not None
    return view.seen


def make_person(base: Path, views: contextlib.ExitStack) -> Person:
    state, ssh = base / "home/.dispatch", base / "home/.ssh"
    workspace = state / "runs/1/workspace"
    project, reading = base / "home/project", base / "home/reading"
    for folder in (workspace, ssh, project, reading):
        folder.mkdir(parents=True)
    (state / "device.key").write_text("device secret")
    (ssh / "id_ed25519").write_text("ssh secret")
    (project / "code.py").write_text("print('hello')\n")
    (reading / "notes.txt").write_text("notes\n")
    return Person(base, workspace, project, reading, state, ssh, views)


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


Run = Callable[..., Awaitable[Done]]


async def finish(process: ConfinedProcess, seconds: float = HANG) -> Done:
    """Read a process to its end."""
    parts = {"out": b"", "err": b""}

    async def drain(name: str, stream: trio.lowlevel.FdStream | None) -> None:
        if stream is not None:
            async for chunk in stream:
                parts[name] += chunk

    with trio.fail_after(seconds):
        async with process, trio.open_nursery() as nursery:
            nursery.start_soon(drain, "out", process.stdout)
            nursery.start_soon(drain, "err", process.stderr)
            code = await process.wait()
    return Done(code, parts["out"].decode(errors="replace"), parts["err"].decode(errors="replace"))


async def run(profile: Profile, argv: Sequence[str], env: Mapping[str, str] | None = None, **changes: Any) -> Done:
    """Run ``argv`` confined and return how it ended."""
    profile = replace(profile, **changes)
    everything = {**profile.environment(), **(env or {})}
    with viewed(profile) as shown:
        return await finish(await spawn(shown, argv, everything, stdin=subprocess.DEVNULL))


async def shell(profile: Profile, command: str, **changes: Any) -> Done:
    """Run a command as the agent's own shell commands are run: through the launcher, in the nested domain."""
    return await run(profile, ["/run/dispatch/shell", command], **changes)


async def each(place: str, profile: Profile, attempts: Sequence[str]) -> list[tuple[str, int, str]]:
    """Run shell commands one after another in one sandbox, as the agent or as one of its shells:
    (command, status, output) of each.
    """
    mark = "5a5b5c"
    script = "\n".join(f"({attempt}\n) 2>&1; status=$?; echo; echo {mark} $status" for attempt in attempts)
    done = await (shell(profile, script) if place == "shell" else run(profile, ["/bin/bash", "-c", script]))
    out: list[tuple[str, int, str]] = []
    said: list[str] = []
    for line in done.out.splitlines():
        if line.startswith(mark):
            out.append((attempts[len(out)], int(line.split()[1]), "\n".join(said)))
            said = []
        else:
            said.append(line)
    assert len(out) == len(attempts), done
    return out
