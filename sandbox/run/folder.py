"""A run's folder on this machine: where things are in it, and making it. What a run may see of it: grants.py.

Layout, inside the `run_dir` that the node gives:
    workspace/      the agent's own; in/ what came along, out/ what goes back
                    .cache/ what its tools keep, seeded with what the person's own have of the project's packages
    home/           a fresh home for the agent program
    collected/      returned files, copied out when the run is over; no run ever sees it
    views/          the views of the person's folders (sandbox/views); a run sees what is merged or copied there
    model.sock      the model proxy
    shells-*.sock   the shell zone, while a program runs
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

from sandbox import frames
from sandbox.errors import SandboxError
from sandbox.run.collect import IN, OUT

CACHE: Final = ".cache"
"""In the workspace; where tools look for it says toolchains.py."""


@dataclass(frozen=True)
class RunFolder:
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
    def socket(self) -> Path:
        return self.path / "model.sock"

    def make(self, files: Sequence[frames.Attachment]) -> None:
        """Make the folders and copy `files` in. Blocking. SandboxError for names or files that are not plain."""
        for folder in (self.workspace, self.home):
            folder.mkdir(mode=0o700)
        for name in (IN, OUT):
            (self.workspace / name).mkdir(mode=0o700)
        for file in files:
            _copy(Path(file.path), self.workspace / IN, file.name)

    def seed(self, seeds: Sequence[frames.Seed]) -> None:
        """Copy files into the run's caches; one that cannot be read any more is left out. Blocking."""
        for seed in seeds:
            place = PurePath(seed.place)
            if place.is_absolute() or ".." in place.parts:
                raise SandboxError("a cached file's place is not one in the run's caches", code=422)
            folder = self.workspace / CACHE / place.parent
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(OSError):  # a cache is the person's, and may change at any moment
                _copy(Path(seed.path), folder, place.name, program=True)

    def place(self, name: Path, text: str) -> None:
        """Put a file of ours into the run's own folder. Blocking; before the run begins."""
        path = self.workspace / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _copy(source: Path, folder: Path, name: str, *, program: bool = False) -> None:
    """`program`: whether it can still be run where it could be."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise SandboxError("an attached file's name is not a plain file name", code=422)
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as reading:  # noqa: PTH123 - a descriptor, not a path
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise SandboxError("an attached file is not a plain file", code=422)
        with (folder / name).open("xb") as writing:
            shutil.copyfileobj(reading, writing)
            if program and os.fstat(descriptor).st_mode & stat.S_IXUSR:
                os.fchmod(writing.fileno(), 0o700)
