"""Removes what runs leave on disk, whatever it is, in the background. Which folders those are is said by who calls.

What a run leaves is hostile: folders nested without end, closed (mode 000), names that are no text, pipes, links, and
it may change while it is removed. So a tree is renamed into the trash first, which frees its name at once. There it is
taken apart by descriptors, one component at a time, and no link is ever followed. A folder that is not empty is renamed
into the trash itself instead of being descended into: no depth needs recursion, a long path or more than four
descriptors. What cannot be removed is logged and tried again; nothing raises.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final

import structlog
import trio

log = structlog.get_logger(__name__)

TRASH: Final = ".trash"
AT_ONCE: Final = 500
"""Entries removed in one stay in a thread."""
RETRY_SECONDS: Final = 900.0
"""Until what could not be removed is tried again."""
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAX_NEXT: Final = 1_000


class Pass:
    """One way through a trash folder. `removed`: entries that are gone, or a step nearer to it; `left`: how many could
    not be removed, by the system's word for it.
    """

    def __init__(self, trash: Path) -> None:
        self.removed = 0
        self.left: Counter[str] = Counter()
        self._next: list[str] = []
        """Entries that came into the trash just now: the listing need not show them."""
        self._steps = self._all(trash)

    def advance(self, most: int) -> bool:
        """Take up to `most` steps, an entry each; return whether there are more. Blocking."""
        return sum(1 for _ in islice(self._steps, most)) == most

    def _all(self, trash: Path) -> Iterator[None]:
        try:
            top = os.open(trash, _FOLDER)
        except FileNotFoundError:
            return
        except OSError as error:
            self._fail(error)
            return
        try:
            # Listed by a descriptor of its own, since entries are renamed into it meanwhile.
            listed = os.open(".", _FOLDER, dir_fd=top)
            try:
                for name in _names(listed):
                    self._next.append(name)
                    while self._next:
                        yield from self._remove(top, self._next.pop())
                        yield
            finally:
                os.close(listed)
        except OSError as error:
            self._fail(error)
        finally:
            os.close(top)

    def _remove(self, top: int, name: str) -> Iterator[None]:
        """Remove an entry of the trash. What is in a folder and is none, or an empty one, is removed; the others become
        entries of the trash.
        """
        try:
            if _gone(top, name):
                self.removed += 1
                return
            folder = _opened(top, name)
        except OSError as error:
            self._fail(error)
            return
        failed = self.left.total()
        try:
            for inner in _names(folder):
                try:
                    if not _gone(folder, inner):
                        lifted = _lift(folder, inner, top)
                        if len(self._next) < _MAX_NEXT:
                            self._next.append(lifted)
                    self.removed += 1
                except OSError as error:
                    self._fail(error)
                yield
        except OSError as error:
            self._fail(error)
        finally:
            os.close(folder)
        try:
            os.rmdir(name, dir_fd=top)
            self.removed += 1
        except OSError as error:
            if self.left.total() == failed:  # else it is known why something lies in it
                self._fail(error)

    def _fail(self, error: OSError) -> None:
        if error.errno != errno.ENOENT:
            self.left[error.strerror or "unknown"] += 1


class Remover:
    """Removes trees below `folder`, which is private to this process's user: set aside at once, gone in a while."""

    def __init__(self, folder: Path, *, retry_seconds: float = RETRY_SECONDS) -> None:
        self._folder = folder
        self._trash = folder / TRASH
        self._retry_seconds = retry_seconds
        self._stuck: set[Path] = set()
        """What could not even be set aside."""
        self._more = trio.Event()

    async def remove(self, tree: Path) -> None:
        """Set a tree aside, and its parent folder too if that is empty then. Raises nothing."""
        await trio.to_thread.run_sync(self._set_aside, tree)
        self._more.set()

    async def remove_all(self) -> None:
        """Set aside whatever is in the folder. Raises nothing."""
        await trio.to_thread.run_sync(self._set_all_aside)
        self._more.set()

    async def run(self) -> None:
        """Remove what was set aside, also before this process began."""
        while True:
            self._more = trio.Event()
            for tree in tuple(self._stuck):
                await trio.to_thread.run_sync(self._set_aside, tree)
            await self._empty()
            with trio.move_on_after(self._retry_seconds):
                await self._more.wait()

    async def _empty(self) -> None:
        while True:
            one = Pass(self._trash)
            while await trio.to_thread.run_sync(one.advance, AT_ONCE, abandon_on_cancel=True):  # type: ignore[call-arg]  # unknown to the stubs
                pass
            if not one.removed:
                break
        if one.left:
            log.warning("removal.left", entries=one.left.total(), why=", ".join(sorted(one.left)))

    def _set_all_aside(self) -> None:
        try:
            with os.scandir(self._folder) as entries:
                names = [entry.name for entry in entries if entry.name != TRASH]
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("removal.not_listed", why=error.strerror)
            return
        for name in names:
            self._set_aside(self._folder / name)

    def _set_aside(self, tree: Path) -> None:
        try:
            with suppress(FileExistsError):
                self._trash.mkdir(mode=0o700)
            parent = os.open(tree.parent, _FOLDER)
            try:
                top = os.open(self._trash, _FOLDER)
                try:
                    _lift(parent, tree.name, top)
                finally:
                    os.close(top)
            finally:
                os.close(parent)
        except FileNotFoundError:
            self._stuck.discard(tree)
        except OSError as error:
            self._stuck.add(tree)
            log.warning("removal.not_set_aside", why=error.strerror)
        else:
            self._stuck.discard(tree)
        if tree.parent != self._folder:
            with suppress(OSError):
                tree.parent.rmdir()


def _names(folder: int) -> Iterator[str]:
    """The names in a folder, as they are read: there may be more than fit in memory."""
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry.name


def _gone(folder: int, name: str) -> bool:
    """Remove what is no folder, or an empty one; return False for a folder with something in it. Raises OSError."""
    try:
        os.unlink(name, dir_fd=folder)
    except OSError as error:
        # Of a folder this is EISDIR on Linux, and EPERM elsewhere.
        if error.errno not in (errno.EISDIR, errno.EPERM):
            raise
        try:
            os.rmdir(name, dir_fd=folder)
        except OSError as second:
            if second.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise (error if second.errno == errno.ENOTDIR else second) from None
    return True


def _lift(folder: int, name: str, top: int) -> str:
    """Rename an entry of `folder` into `top`, under a name of ours, which is returned. Raises OSError."""
    fresh = secrets.token_hex(16)
    try:
        os.rename(name, fresh, src_dir_fd=folder, dst_dir_fd=top)
    except PermissionError:
        # A folder that moves gets another `..`, which takes the right to write to it.
        os.close(_opened(folder, name))
        os.rename(name, fresh, src_dir_fd=folder, dst_dir_fd=top)
    return fresh


def _opened(parent: int, name: str) -> int:
    """Open a folder, and let us do everything in it. Raises OSError: ELOOP or ENOTDIR when it is none (any more)."""
    try:
        folder = os.open(name, _FOLDER, dir_fd=parent)
    except PermissionError:
        # Its own descriptor leads to exactly this folder, whatever has its name by now (proc_pid_fd(5)).
        closed = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            Path(f"/proc/self/fd/{closed}").chmod(0o700)
            folder = os.open(f"/proc/self/fd/{closed}", _FOLDER & ~os.O_NOFOLLOW)
        finally:
            os.close(closed)
    if os.fstat(folder).st_mode & 0o700 != 0o700:
        with suppress(OSError):  # not ours: perhaps it can be removed in spite of that
            os.fchmod(folder, 0o700)
    return folder
