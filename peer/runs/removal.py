"""Removes folder trees that runs leave behind, in the background, whatever is in them. Callers choose the trees.

What a run leaves is hostile: endless nesting, folders of mode 000, names that are not text, pipes, links; and it may
change during removal. So a tree is first renamed into the trash, which frees its name at once. There it is taken apart
by descriptors, one component at a time, and no link is ever followed. A folder that is not empty is renamed into the
trash itself instead of being descended into, so no depth needs recursion, a long path or more than four descriptors.
What cannot be removed is logged and tried again; nothing raises.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final

import structlog
import trio

log = structlog.get_logger(__name__)

TRASH: Final = ".trash"
AT_ONCE: Final = 500
"""Entries removed in one call in a worker thread."""
RETRY_SECONDS: Final = 900.0
"""The longest time until a failed removal is tried again; at first that is soon, and then twice as long each time."""
FIRST_RETRY_SECONDS: Final = 0.5
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAX_NEXT: Final = 1_000


class Pass:
    """One pass over a trash folder.

    `removed`: entries deleted, or renamed upwards. `left`: entries that could not be removed, counted by error text.
    """

    def __init__(self, trash: Path) -> None:
        self.removed = 0
        self.left: Counter[str] = Counter()
        self._next: list[str] = []
        """Entries renamed into the trash during this pass; the open listing may not show them."""
        self._steps = self._all(trash)

    def advance(self, most: int) -> bool:
        """Process up to `most` entries; return whether there may be more. Blocking."""
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
            # A separate descriptor for the listing, because entries are renamed into the folder meanwhile.
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
        """Remove one entry of the trash. Of a folder's children, files and empty folders are deleted; the other folders
        become entries of the trash.
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
            if self.left.total() == failed:  # otherwise a failed child has been counted already
                self._fail(error)

    def _fail(self, error: OSError) -> None:
        if error.errno != errno.ENOENT:
            self.left[error.strerror or "unknown"] += 1


class Remover:
    """Removes trees below `folder`, which is private to this process's user: renamed at once, deleted in background."""

    def __init__(self, folder: Path, *, retry_seconds: float = RETRY_SECONDS) -> None:
        self._folder = folder
        self._trash = folder / TRASH
        self._retry_seconds = retry_seconds
        self._stuck: set[Path] = set()
        """Trees that could not be renamed into the trash."""
        self._more = trio.Event()

    async def remove(self, tree: Path) -> None:
        """Rename a tree into the trash, and delete its parent folder if that is empty then. Never raises."""
        await trio.to_thread.run_sync(self._set_aside, tree)
        self._more.set()

    async def remove_all(self, *, but: Collection[Path] = ()) -> None:
        """Rename everything in the folder but these trees, at any depth in it, into the trash. Never raises."""
        spared = frozenset(but)
        above = frozenset[Path]().union(*(tree.parents for tree in spared))
        await trio.to_thread.run_sync(self._set_all_aside, self._folder, spared, above)
        self._more.set()

    async def run(self) -> None:
        """Delete what is in the trash, also from before this process started, until cancelled."""
        pause = FIRST_RETRY_SECONDS
        while True:
            self._more = trio.Event()
            for tree in tuple(self._stuck):
                await trio.to_thread.run_sync(self._set_aside, tree)
            left = await self._empty() or bool(self._stuck)
            # A process that was killed a moment ago may still have made files; what is left later is left for a reason.
            pause = min(2 * pause, self._retry_seconds) if left else FIRST_RETRY_SECONDS
            with trio.move_on_after(pause if left else self._retry_seconds):
                await self._more.wait()

    async def _empty(self) -> bool:
        """Return whether something is left that could not be removed."""
        while True:
            one = Pass(self._trash)
            while await trio.to_thread.run_sync(one.advance, AT_ONCE, abandon_on_cancel=True):  # type: ignore[call-arg]  # unknown to the stubs
                pass
            if not one.removed:
                break
        if one.left:
            log.warning("removal.left", entries=one.left.total(), why=", ".join(sorted(one.left)))
        return bool(one.left)

    def _set_all_aside(self, folder: Path, spared: frozenset[Path], above: frozenset[Path]) -> None:
        try:
            with os.scandir(folder) as entries:
                trees = [folder / entry.name for entry in entries]
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("removal.not_listed", why=error.strerror)
            return
        for tree in trees:
            if tree in above:
                self._set_all_aside(tree, spared, above)
            elif tree not in spared and tree != self._trash:
                self._set_aside(tree)

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
    """Yield the names in a folder one by one: they may not fit in memory together."""
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry.name


def _gone(folder: int, name: str) -> bool:
    """Delete a file or an empty folder; return False for a folder that is not empty. Raises OSError."""
    try:
        os.unlink(name, dir_fd=folder)
    except OSError as error:
        # For a folder unlink() fails with EISDIR on Linux, with EPERM elsewhere.
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
    """Rename an entry of `folder` into `top` under a random name; return that name. Raises OSError."""
    fresh = secrets.token_hex(16)
    try:
        os.rename(name, fresh, src_dir_fd=folder, dst_dir_fd=top)
    except PermissionError:
        # Moving a folder changes its `..` entry, which needs write permission on the folder itself.
        os.close(_opened(folder, name))
        os.rename(name, fresh, src_dir_fd=folder, dst_dir_fd=top)
    return fresh


def _opened(parent: int, name: str) -> int:
    """Open a folder and give its owner all permissions. Raises OSError: ELOOP or ENOTDIR if it is no folder (now)."""
    try:
        folder = os.open(name, _FOLDER, dir_fd=parent)
    except PermissionError:
        # The descriptor names exactly this folder, even if the path is another one by now (proc_pid_fd(5)).
        closed = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            Path(f"/proc/self/fd/{closed}").chmod(0o700)
            folder = os.open(f"/proc/self/fd/{closed}", _FOLDER & ~os.O_NOFOLLOW)
        finally:
            os.close(closed)
    if os.fstat(folder).st_mode & 0o700 != 0o700:
        with suppress(OSError):  # another owner's: removal may still succeed
            os.fchmod(folder, 0o700)
    return folder
