"""A run's folder and what follows from it: where things are, what the sandbox shows, what the scope allows.

Layout, inside the `run_dir` that the node gives:
    workspace/      the agent's own; in/ what came along, out/ what goes back
    home/           a fresh home for the agent program
    collected/      returned files, copied out when the run is over; no run ever sees it
    before/         what the person's folders held before, to tell what changed; no run ever sees it either
    model.sock      the model proxy
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sandbox import frames
from sandbox.brief import IN, OUT
from sandbox.confinement import HOME, WORKSPACE, Profile, Root
from sandbox.errors import SandboxError
from sandbox.policy import GRANTABLE_TOOLS, WRITING_TOOLS, Scope, inside

PROJECT: Final = Path("/project")
"""Where the agent sees the folder it starts in. Neutral, since a folder's real name is nobody's business
but ours.
"""
FOLDERS: Final = Path("/folders")
"""Where it sees the edge's folders, by number."""


@dataclass(frozen=True)
class RunDir:
    """The paths of one run on this machine."""

    path: Path

    @property
    def workspace(self) -> Path:
        return self.path / "workspace"

    @property
    def home(self) -> Path:
        return self.path / "home"

    @property
    def collected(self) -> Path:
        return self.path / "collected"

    @property
    def before(self) -> Path:
        return self.path / "before"

    @property
    def socket(self) -> Path:
        return self.path / "model.sock"

    def make(self, files: Sequence[frames.Attachment]) -> None:
        """Make the folders and copy `files` in. Blocking. SandboxError for names or files that are not
        plain.
        """
        for folder in (self.workspace, self.home):
            folder.mkdir(mode=0o700)
        for name in (IN, OUT):
            (self.workspace / name).mkdir(mode=0o700)
        for file in files:
            _copy(Path(file.path), self.workspace / IN, file.name)


def profile(start: frames.Start, run_dir: RunDir, *, programs: tuple[Root, ...], model: bool) -> Profile:
    """What the sandbox shows. SandboxError 403 for a forbidden folder, or a `cwd` outside the paths."""
    roots = _folders(start)
    return Profile(
        workspace=run_dir.workspace,
        home=run_dir.home,
        roots=roots,
        model_socket=run_dir.socket if model else None,
        runtime=programs,
        protected=tuple(Path(path) for path in start.protected),
        cwd=PROJECT if start.cwd is not None else WORKSPACE,
    )


def scope(start: frames.Start, profile: Profile) -> Scope:
    """What the gate allows of the built-in tools. Unknown names are dropped here and denied there."""
    return Scope(
        tools=frozenset(start.tools) & GRANTABLE_TOOLS,
        roots=(str(profile.workspace), *(str(root.path) for root in profile.roots)),
        workspace=str(profile.workspace),
        project=start.cwd or str(profile.workspace),
        cwd=str(profile.cwd),
        home=str(HOME),
        approval=start.approval,
        rules=frozenset(start.rules),
    )


def hidden(start: frames.Start, run_dir: RunDir) -> tuple[Path, ...]:
    """What the person's MCP servers may not see, though they are the person's own."""
    return (run_dir.path, *(Path(path) for path in start.protected))


def _folders(start: frames.Start) -> tuple[Root, ...]:
    """The folder the run starts in, and those of the edge's that have nothing to do with it.

    A path of the edge that holds `cwd` is narrowed to `cwd`: it may hold the person's other projects, and
    their very names are not for a sender to read. No two folders overlap, so every file has one name
    inside.
    """
    if start.cwd is not None and start.paths and not inside(start.cwd, tuple(start.paths)):
        raise SandboxError("the run's folder is outside this edge's paths", fix="choose one inside", code=403)
    writable = bool(WRITING_TOOLS & set(start.tools))
    chosen: list[str] = [] if start.cwd is None else [start.cwd]
    for path in sorted(start.paths, key=len):
        if not any(inside(path, (taken,)) or inside(taken, (path,)) for taken in chosen):
            chosen.append(path)
    places = [PROJECT] if start.cwd is not None else []
    places += [FOLDERS / str(number) for number in range(1, len(chosen) - len(places) + 1)]
    return tuple(Root(Path(path), writable, place) for path, place in zip(chosen, places, strict=True))


def _copy(source: Path, folder: Path, name: str) -> None:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise SandboxError("an attached file's name is not a plain one", code=422)
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as reading:  # noqa: PTH123 - a descriptor, not a path
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise SandboxError("an attached file is not a plain file", code=422)
        with (folder / name).open("xb") as writing:
            shutil.copyfileobj(reading, writing)
