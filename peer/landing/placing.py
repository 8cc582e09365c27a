"""The steps of a landing, made and taken back one by one; what a crash leaves of each can be told apart.

Everything that comes or goes passes through a name of ours beside it (`Move.staged`): a step is one rename between that
name and its place. What came out is compared with what was expected, and a newer edit is put back where it was. Which
steps, and the order of all, is engine.py's.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Final

from peer.landing import tree as places
from peer.landing.contents import copy, dress, give_to_owner
from peer.landing.journal import Identity, Journal, Move, State, private
from peer.landing.syscalls import EXCHANGE, NOREPLACE, rename
from peer.landing.tree import Obstacle, Tree
from sandbox.changes.values import BLOBS

_TOGETHER: Final = 64
"""New files that are synced together."""
BESIDE: Final = b".before-dispatch-"
"""What the name gets of a former content that has no place any more, since its place was changed at the same moment."""


@dataclass(frozen=True)
class Way:
    """How steps are taken back: after a landing that failed, or for an undo.

    `placed`: what was staged for each step. `is_old`: whether something at the staged name is what was there before the
    step. `leave`: puts away a former content whose place keeps a newer edit; it is given the step's number, the step,
    and the folders of the staged name and of the place.
    """

    placed: Mapping[int, Identity]
    is_old: Callable[[int, Identity], bool]
    leave: Callable[[int, Move, int, int], None]


class Mover:
    """Makes steps in the folders of `tree`."""

    def __init__(self, tree: Tree, journal: Journal) -> None:
        self._tree = tree
        self._journal = journal
        self._unsynced: list[int] = []

    # ------------------------------------------------------------------ what comes

    def stage(self, move: Move, blobs: Path) -> Identity | None:
        """Make what comes beside its place, not yet durable (`sync_staged`). Raises OSError, Obstacle."""
        if move.after is None or move.action == "mode":
            return None
        folder = self._tree.folder(move.view, move.staged_in)
        if move.after.kind == "folder":
            os.mkdir(move.staged, move.after.mode, dir_fd=folder)
        elif move.after.kind == "link":
            os.symlink(move.after.target, move.staged, dir_fd=folder)
        if move.after.kind != "file":
            give_to_owner(folder, move.staged)
        else:
            replaces_file = move.before is not None and move.before.kind == "file"
            like = self._place_of(move) if replaces_file else None
            self._copy_in(blobs / BLOBS / move.after.sha256, folder, move.staged, move.after, like)
        return self.staged_identity(move)

    def staged_identity(self, move: Move) -> Identity | None:
        """Return what has the step's staged name now. Raises OSError."""
        about = places.status(self._tree.folder(move.view, move.staged_in), move.staged)
        return None if about is None else places.identity(about)

    def sync_staged(self) -> None:
        """Make the staged files durable. Raises OSError."""
        try:
            for descriptor in self._unsynced:
                os.fsync(descriptor)
        finally:
            self.forget_staged()

    def forget_staged(self) -> None:
        while self._unsynced:
            os.close(self._unsynced.pop())

    def _place_of(self, move: Move) -> tuple[int, bytes]:
        return self._tree.folder(move.view, move.parts[:-1]), move.parts[-1]

    def _copy_in(self, source: Path, folder: int, name: bytes, state: State, like: tuple[int, bytes] | None) -> None:
        """Copy a kept content to a new name, as `state` says. `like`: a file whose owner and attributes it gets too."""
        try:
            content = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise Obstacle("its content is missing from what was kept of the run") from error
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            new = os.open(name, flags, state.mode, dir_fd=folder)
            try:
                copy(content, new, state)
                if like is not None:
                    dress(new, *like, state.mode)
                else:
                    give_to_owner(folder, name)
                os.posix_fadvise(new, 0, 0, os.POSIX_FADV_DONTNEED)  # starts writing, so that the syncs wait once
            except BaseException:
                os.close(new)
                raise
            self._unsynced.append(new)
        finally:
            os.close(content)
        if len(self._unsynced) >= _TOGETHER:
            self.sync_staged()

    # ------------------------------------------------------------------ forward

    def make(self, move: Move) -> None:
        """Make one step whose staged part is there. Raises OSError, Obstacle: then take it back as well."""
        folder, name = self._place_of(move)
        if move.action == "mode":
            assert move.before is not None and move.after is not None
            _set_mode(folder, name, move.before, move.after)
            return
        stage = self._tree.folder(move.view, move.staged_in)
        if move.action == "add":
            rename(stage, move.staged, folder, name, NOREPLACE)
            return
        if move.action == "swap":
            rename(stage, move.staged, folder, name, EXCHANGE)
        else:
            rename(folder, name, stage, move.staged, NOREPLACE)
        assert move.before is not None
        if why := places.difference(stage, move.staged, move.before):
            raise Obstacle(why)

    def check_still_there(self, moves: Sequence[Move]) -> None:
        """Raise Obstacle or OSError if a folder in which a step was made is elsewhere now."""
        places_of = {(move.view, move.parts[:-1]) for move in moves if move.after is not None}
        for view, parts in places_of | {(move.view, move.staged_in) for move in moves}:
            self._tree.folder(view, parts)

    # ------------------------------------------------------------------ back

    def take_back(self, step: int, move: Move, way: Way) -> str:
        """Take one step back if it was made, and return ""; or why it cannot be: what is there stays.

        Afterwards what had been put in place has the staged name. Safe to repeat. Raises OSError, Obstacle.
        """
        stage = self._tree.known_folder(move.view, move.staged_in)
        try:
            folder = self._tree.known_folder(move.view, move.parts[:-1])
        except OSError as error:
            if move.action == "add" and error.errno in places.NO_WAY:
                return ""  # then nothing was put there
            raise
        if move.action == "mode":
            return _back_mode(folder, move)
        if move.action == "swap":
            return _back_swap(folder, stage, step, move, way)
        if move.action == "remove":
            return _back_remove(folder, stage, step, move, way)
        assert move.after is not None
        if move.after.kind == "folder":
            return _back_folder(folder, move.parts[-1], way.placed.get(step))
        return _back_add(folder, stage, move)

    def drop_staged(self, move: Move) -> None:
        """Delete what has the staged name. Raises OSError: ENOTEMPTY for a folder that somebody put something into."""
        stage = self._tree.known_folder(move.view, move.staged_in)
        about = places.status(stage, move.staged)
        if about is None:
            return
        if stat.S_ISDIR(about.st_mode):
            os.rmdir(move.staged, dir_fd=stage)
        else:
            os.unlink(move.staged, dir_fd=stage)

    # ------------------------------------------------------------------ former contents

    def copy_away(self, step: int, move: Move) -> None:
        """Copy what is about to go to the journal where it cannot be renamed to it. Raises OSError, Obstacle."""
        if not move.has_content or not move.kept:
            return
        folder, name = self._place_of(move)
        if os.fstat(folder).st_dev != self._journal.folder.stat().st_dev:
            self._copy_to_journal(step, move, folder, name)

    def keep(self, step: int, move: Move) -> None:
        """Move what went from the staged name to the journal. Safe to repeat. Raises OSError."""
        if move.action == "mode" or move.before is None:
            return
        stage = self._tree.known_folder(move.view, move.staged_in)
        if places.status(stage, move.staged) is None:
            return
        if move.before.kind == "folder":
            try:
                os.rmdir(move.staged, dir_fd=stage)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                # Who was inside has put something there: it is a newer edit.
                self.give_back(move)
            return
        if move.kept and not self._journal.has_old(step):
            try:
                self._rename_to_journal(step, move, stage)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                self._copy_to_journal(step, move, stage, move.staged)
            else:
                return
        os.unlink(move.staged, dir_fd=stage)

    def make_folder(self, move: Move) -> None:
        """Make a folder again that was removed. Raises OSError."""
        assert move.before is not None
        folder, name = self._place_of(move)
        try:
            os.mkdir(name, move.before.mode, dir_fd=folder)
            os.chmod(name, move.before.mode, dir_fd=folder)
            give_to_owner(folder, name)
        except FileExistsError:
            about = places.status(folder, name)
            if about is None or not stat.S_ISDIR(about.st_mode):
                raise

    def give_back(self, move: Move) -> None:
        """Put what has the staged name back to its place, or beside it. Raises OSError."""
        stage = self._tree.known_folder(move.view, move.staged_in)
        restore(stage, move.staged, self._tree.known_folder(move.view, move.parts[:-1]), move.parts[-1])

    def stage_old(self, step: int, move: Move) -> None:
        """Put what the journal keeps beside its place, to take the step back. Raises OSError, Obstacle."""
        old, folder = self._journal.old(step), self._tree.folder(move.view, move.staged_in)
        try:
            os.rename(os.fsencode(old), move.staged, dst_dir_fd=folder)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            assert move.before is not None
            if move.before.kind == "link":
                os.symlink(move.before.target, move.staged, dir_fd=folder)
            else:
                replaces_file = move.after is not None and move.after.kind == "file"
                like = self._place_of(move) if replaces_file else None
                self._copy_in(old, folder, move.staged, move.before, like)

    def unstage_old(self, step: int, move: Move) -> None:
        """Undo `stage_old`, also where it was interrupted. Raises OSError."""
        stage = self._tree.known_folder(move.view, move.staged_in)
        if places.status(stage, move.staged) is None:
            return
        if self._journal.has_old(step):
            os.unlink(move.staged, dir_fd=stage)
        else:
            self._rename_to_journal(step, move, stage)

    def _rename_to_journal(self, step: int, move: Move, stage: int) -> None:
        os.rename(move.staged, os.fsencode(self._journal.old(step)), src_dir_fd=stage)

    def _copy_to_journal(self, step: int, move: Move, folder: int, name: bytes) -> None:
        assert move.before is not None
        old = self._journal.old(step)
        part = old.with_name(f"{old.name}.part")
        part.unlink(missing_ok=True)
        if move.before.kind == "link":
            part.symlink_to(os.fsdecode(move.before.target))
        else:
            content = os.open(name, places.FILE, dir_fd=folder)
            try:
                new = private(str(part), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
                try:
                    copy(content, new, move.before, altered=places.CHANGED)
                    os.fsync(new)
                finally:
                    os.close(new)
            finally:
                os.close(content)
        part.replace(old)


def _back_add(folder: int, stage: int, move: Move) -> str:
    assert move.after is not None
    name = move.parts[-1]
    if places.status(stage, move.staged) is None:
        if places.status(folder, name) is None:
            return ""
        if why := places.difference(folder, name, move.after):
            return why
        rename(folder, name, stage, move.staged, NOREPLACE)
    if why := places.difference(stage, move.staged, move.after):
        restore(stage, move.staged, folder, name)
        return why
    return ""


def _back_folder(folder: int, name: bytes, placed: Identity | None) -> str:
    about = places.status(folder, name)
    if about is None or not stat.S_ISDIR(about.st_mode):
        return ""
    if places.identity(about) != placed:
        return places.CHANGED
    try:
        os.rmdir(name, dir_fd=folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EBUSY):
            raise
        return "it contains something else now"
    return ""


def _back_swap(folder: int, stage: int, step: int, move: Move, way: Way) -> str:
    assert move.after is not None
    name = move.parts[-1]
    about = places.status(stage, move.staged)
    if about is None:
        return ""
    if way.is_old(step, places.identity(about)):
        try:
            rename(stage, move.staged, folder, name, EXCHANGE)
        except FileNotFoundError:  # what was put there was deleted meanwhile
            restore(stage, move.staged, folder, name)
            return ""
    if why := places.difference(stage, move.staged, move.after):
        # A newer edit came out: it goes back, and the former content comes out again.
        try:
            rename(stage, move.staged, folder, name, EXCHANGE)
        except FileNotFoundError:
            restore(stage, move.staged, folder, name)
        else:
            way.leave(step, move, stage, folder)
        return why
    return ""


def _back_remove(folder: int, stage: int, step: int, move: Move, way: Way) -> str:
    if places.status(stage, move.staged) is None:
        return ""
    try:
        rename(stage, move.staged, folder, move.parts[-1], NOREPLACE)
    except FileExistsError:
        way.leave(step, move, stage, folder)
        return places.OCCUPIED
    return ""


def _back_mode(folder: int, move: Move) -> str:
    assert move.before is not None and move.after is not None
    name = move.parts[-1]
    if not places.difference(folder, name, move.before):
        return ""
    try:
        _set_mode(folder, name, move.after, move.before)
    except Obstacle as error:
        return str(error)
    return ""


def _set_mode(folder: int, name: bytes, expected: State, wanted: State) -> None:
    """Change the permissions of a file that is exactly `expected`. Raises OSError, Obstacle."""
    if why := places.difference(folder, name, expected):
        raise Obstacle(why)
    descriptor = os.open(name, places.FILE, dir_fd=folder)
    try:
        os.fchmod(descriptor, wanted.mode)
        about = places.status(folder, name)
        if about is None or places.identity(about) != places.identity(os.fstat(descriptor)):
            raise Obstacle(places.CHANGED)
    finally:
        os.close(descriptor)


def restore(stage: int, staged: bytes, folder: int, name: bytes) -> None:
    """Put back to its place what has a staged name, or beside it if the place is taken. Raises OSError."""
    try:
        rename(stage, staged, folder, name, NOREPLACE)
    except FileExistsError:
        put_beside(stage, staged, folder, name)


def put_beside(stage: int, staged: bytes, folder: int, name: bytes) -> None:
    """Give what has a staged name a name of its own beside the place, for its person to look at. Raises OSError."""
    rename(stage, staged, folder, name[:200] + BESIDE + token_hex(4).encode(), NOREPLACE)
