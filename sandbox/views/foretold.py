"""What a run's view of a folder will leave out, known before it is made: where the view is a copy, with its bounds.

Only looks, by the same way as the copy itself goes. Whether the kernel mounts an overlay here after all is found out
when it is tried; what can be known without is asked here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sandbox.confinement.given import open_given
from sandbox.confinement.profile import Limits
from sandbox.confinement.walk import Folder
from sandbox.errors import SandboxError
from sandbox.views import overlay
from sandbox.views.copy import Allowance, Copying, Left, reserve
from sandbox.views.manifest import Copied, ManifestWriter, kind_of

SECONDS: Final = 1.0
"""For one folder: a person waits for it."""
_MAX_NAMED: Final = 5
_MAX_SHOWN: Final = 60
"""Characters of a path: its end."""


class _Enough(Exception):
    """The time is over."""


def left_out(
    folder: Path, state: Path, *, no_overlay: str, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic
) -> list[str]:
    """Return a sentence about what a run that may write `folder` will not see of it; none where that is nothing.

    `state`: a folder on the disk that the copy would come to. `no_overlay`: why this machine makes none (namespace.py),
    "" if it does. Blocking; raises nothing.
    """
    try:
        original = open_given(folder)
    except SandboxError:
        return []  # the accept says why
    try:
        why = no_overlay or overlay.hindrance(original)
        if not why or kind_of(os.fstat(original)) != "folder":
            return []
        disk = os.open(state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            found = _look(original, disk, Allowance(reserve=reserve(state, Limits())), clock() + seconds, clock)
        finally:
            os.close(disk)
    except OSError:
        return []
    finally:
        os.close(original)
    return [f"not all of the folder is there, because it is copied ({why}): {found}"] if found else []


def _look(original: int, disk: int, allowance: Allowance, until: float, clock: Callable[[], float]) -> str:
    """Return what is left out, in words; "" for nothing."""
    left = Left("", most=_MAX_NAMED)
    more = ""
    try:
        _Looking(allowance, left, disk, until, clock).folder(original)
    except _Enough:
        more = "and it is too large to look at all of it now"
    names = [each.rpartition(": ") for each in left.named]
    found = [f"{name[-_MAX_SHOWN:] or 'the folder itself'} ({why})" for name, _, why in names]
    return ", ".join([*found, *([f"and {left.more:,} more"] if left.more else []), *([more] if more else [])])


class _Looking(Copying):
    """Goes the way of a copy, and makes nothing."""

    def __init__(self, allowance: Allowance, left: Left, disk: int, until: float, clock: Callable[[], float]) -> None:
        super().__init__(_Nothing(), allowance, left, disk)
        self._until = until
        self._clock = clock

    def enter(self, here: Folder) -> None:
        self._tick()

    def make_file(self, source: int, about: os.stat_result, name: str, into: int) -> os.stat_result | None:
        self._tick()
        self._allowance.reserve += about.st_size  # it will be on the disk when the next is copied
        return None

    def make_link(self, found: int, about: os.stat_result, name: str, into: int, path: bytes) -> None:
        self._tick()

    def _tick(self) -> None:
        if self._clock() > self._until:
            raise _Enough


class _Nothing(ManifestWriter):
    """A manifest that is not written."""

    def __init__(self) -> None:
        pass

    def add(self, copied: Copied) -> None:
        pass
