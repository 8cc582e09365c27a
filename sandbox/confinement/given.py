"""Opening what a run is to be given, so that it cannot be swapped afterwards. Which things those are: profile.py."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from sandbox.confinement.openat2 import open_pinned
from sandbox.errors import SandboxError

FOLDER_OR_FILE: tuple[Callable[[int], bool], ...] = (stat.S_ISDIR, stat.S_ISREG)


def open_given(path: Path, kinds: Sequence[Callable[[int], bool]] = FOLDER_OR_FILE) -> int:
    """An O_PATH descriptor of `path` and nothing else, of one of these `kinds` (tests of a mode, as stat has them).

    Raises SandboxError: 403 where a link is on the way or it is of another kind, 422 where it cannot be opened.
    """
    try:
        descriptor = open_pinned(path)
    except OSError as problem:
        if problem.errno == errno.ELOOP:
            raise SandboxError(
                f"{path} passes through a symbolic link, which could be swapped",
                fix="name the real folder",
                code=403,
            ) from problem
        raise SandboxError(f"{path} cannot be shown to the run: {problem.strerror}", code=422) from problem
    if not any(kind(os.fstat(descriptor).st_mode) for kind in kinds):
        os.close(descriptor)
        raise SandboxError(
            f"{path} is not something a run may be given", fix="grant a folder or a plain file", code=403
        )
    return descriptor
