"""From chosen entries to the steps that put them in place, beside what the folders hold now. Writes nothing."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Final, NamedTuple

from peer.landing import commits as repositories
from peer.landing import tree as places
from peer.landing.journal import Commits, Move, Parts, State
from peer.landing.tree import Obstacle, Tree, Unreachable
from sandbox.changes.values import BLOBS, Base, Entry

STAGED: Final = b".dispatch-"
"""How the names begin that something has in a person's folder while it comes or goes."""
MAX_KEPT: Final = 1 << 30
"""Bytes of former contents that one landing keeps for undo. What goes beyond cannot be taken back."""

Key = tuple[int, Parts]


class Refusal(NamedTuple):
    """An entry, and why it cannot be put in place, or taken back: a sentence for people."""

    number: int
    reason: str


class _Wanted(NamedTuple):
    """What an entry asks for: that something is removed at `from_parts`, that something is added at `parts`, both, or
    that what is there (`removes` and `adds` are None then, `base` is what it was) becomes something else.
    """

    entry: Entry
    parts: Parts
    from_parts: Parts
    base: State | None
    removes: State | None
    adds: State | None
    becomes: State | None = None

    @property
    def view(self) -> int:
        return self.entry.view


class Planner:
    """Makes the steps of a landing. `moves` and `commits` are complete if `refusals` is empty."""

    def __init__(
        self,
        tree: Tree,
        failed: Mapping[int, Unreachable],
        files: Mapping[int, bytes],
        folder: Path,
        namespace: str,
    ) -> None:
        """`failed`: views whose root cannot be had, and why. `files`: views that are a single file, and its name.
        `namespace`: of the refs that commits get.
        """
        self.refusals: dict[int, Refusal] = {}
        self.commits: list[Commits] = []
        self._namespace = namespace
        self._tree = tree
        self._failed = failed
        self._files = files
        self._blobs = folder / BLOBS
        self._before: list[Move] = []
        """Removals, then changes in place."""
        self._added: list[Move] = []
        self._removed: dict[Key, State] = {}
        self._made: dict[Key, State] = {}
        self._modes: dict[Key, int] = {}
        """Permissions of the files that go."""
        self._spellings: dict[tuple[int, Parts, str], bytes] = {}
        self._kept = 0

    @property
    def moves(self) -> list[Move]:
        return [*self._before, *self._added]

    def plan(self, chosen: Sequence[Entry]) -> None:
        """Look at every entry."""
        wanted: list[_Wanted] = []
        for entry in chosen:
            with self._refusing(entry):
                self._check(entry)
                if entry.change == "commits":
                    self.commits.append(repositories.planned(entry, self._tree, self._namespace))
                else:
                    wanted.append(self._read(entry))
        for each in wanted:
            if each.removes is not None:
                self._removed[each.view, each.from_parts] = each.removes
        # A folder goes after what is in it, and comes before that.
        for each in sorted(wanted, key=lambda each: -len(each.from_parts)):
            if each.removes is not None:
                with self._refusing(each.entry):
                    self._remove(each)
        for each in wanted:
            if each.becomes is not None:
                with self._refusing(each.entry):
                    self._change(each)
        for each in sorted(wanted, key=lambda each: len(each.parts)):
            if each.adds is not None:
                with self._refusing(each.entry):
                    self._add(each)

    @contextmanager
    def _refusing(self, entry: Entry) -> Iterator[None]:
        try:
            yield
        except Obstacle as error:
            self.refusals.setdefault(entry.number, Refusal(entry.number, str(error)))
        except OSError as error:
            self.refusals.setdefault(entry.number, Refusal(entry.number, places.sentence(error)))

    def _check(self, entry: Entry) -> None:
        """Raise Obstacle for an entry that cannot be put in place by what it says of itself."""
        if entry.never:
            raise Obstacle(entry.never)
        if entry.conflict:
            raise Obstacle(entry.conflict)
        if entry.change in ("folded", "dropped", "unread"):
            raise Obstacle("its content was not kept, so it cannot be applied")
        if entry.view in self._failed:
            raise Obstacle(self._failed[entry.view].reason)

    def _read(self, entry: Entry) -> _Wanted:
        """Say what an entry asks for. Raises Obstacle."""
        parts = self._parts(entry, entry.path)
        base = None if entry.base is None else _state_of(entry.base)
        new = None if entry.change == "deleted" else self._new(entry, parts)
        if (base is None) != (entry.change in ("added", "renamed")):
            raise Obstacle(places.GONE if base is None else places.OCCUPIED)
        if entry.change == "renamed":
            return _Wanted(entry, parts, self._parts(entry, entry.renamed_from), None, new, new)
        if base is not None and new is not None and (base.kind == "folder") != (new.kind == "folder"):
            return _Wanted(entry, parts, parts, base, base, new)
        if base is not None and new is not None and base.kind == new.kind == "folder":
            raise Obstacle("a folder is already there")
        if entry.change == "deleted":
            return _Wanted(entry, parts, parts, base, base, None)
        if entry.change == "added":
            return _Wanted(entry, parts, parts, None, None, new)
        return _Wanted(entry, parts, parts, base, None, None, new)

    def _new(self, entry: Entry, parts: Parts) -> State:
        if entry.kind == "other":
            raise Obstacle("it is neither a file nor a folder nor a link")
        if entry.change == "mode":
            if entry.kind != "file" or entry.base is None or entry.base.kind != "file":
                raise Obstacle(places.CHANGED)
            # Its content is what is there already; no blob of it is needed.
            return State(kind="file", size=entry.base.size, sha256=entry.base.sha256)
        if entry.kind == "link":
            if not _stays_below(parts, entry.target):
                raise Obstacle("it is a link that leads out of the folder")
            return State(kind="link", target=entry.target)
        if entry.kind == "file":
            if len(entry.sha256) != 64 or not entry.sha256.isalnum():
                raise Obstacle("its content was not kept, so it cannot be applied")
            self._look_at_blob(entry)
        mode = 0o777 if entry.executable or entry.kind == "folder" else 0o666
        return State(kind=entry.kind, mode=mode, size=entry.size, sha256=entry.sha256)

    def _look_at_blob(self, entry: Entry) -> None:
        try:
            about = (self._blobs / entry.sha256).lstat()
        except FileNotFoundError:
            raise Obstacle("its content is missing from what was kept of the run") from None
        if not stat.S_ISREG(about.st_mode) or about.st_size != entry.size:
            raise Obstacle("its content was altered after it was kept")

    def _parts(self, entry: Entry, path: bytes) -> Parts:
        name = self._files.get(entry.view)
        if name is not None:
            if path:
                raise Obstacle("only a single file was granted, and this is not it")
            if entry.base is None:
                raise Obstacle(places.GONE)
            return (name,)
        parts = tuple(path.split(b"/"))
        if b"\0" in path or any(part in (b"", b".", b"..") for part in parts):
            raise Obstacle("its path is not a valid file path")
        return parts

    def _remove(self, each: _Wanted) -> None:
        view, parts, expected = each.view, each.from_parts, each.removes
        assert expected is not None
        folder = self._folder_of(view, parts)
        if expected.kind == "folder":
            inside = places.names_in(folder, (parts[-1],), len(self._removed) + 1)
            if any((view, (*parts, name)) not in self._removed for name in inside):
                raise Obstacle("the folder contains something that was not chosen with it")
            about = self._status(folder, parts[-1])
            before = State(kind="folder", mode=about.st_mode & 0o777)
        else:
            before = self._compare(folder, parts[-1], expected)
            self._modes[view, parts] = before.mode
        # The uppermost folder that goes is left by everything below it first.
        tops = (parts[:depth] for depth in range(1, len(parts)))
        top = next((part for part in tops if self._is_removed_folder(view, part)), parts)
        self._before.append(self._move(each.entry, view, parts, top[:-1], before, None, kept=self._is_kept(before)))

    def _is_removed_folder(self, view: int, parts: Parts) -> bool:
        gone = self._removed.get((view, parts))
        return gone is not None and gone.kind == "folder"

    def _change(self, each: _Wanted) -> None:
        assert each.base is not None and each.becomes is not None
        folder = self._folder_of(each.view, each.parts)
        before = self._compare(folder, each.parts[-1], each.base)
        after = each.becomes
        if after.kind == "file":
            if each.entry.change != "mode" and before.kind == "file" and not before.mode & 0o200:
                raise Obstacle("it is read-only: make it writable first")
            mode = after.mode & os.fstat(folder).st_mode & 0o777
            if before.kind == "file":
                mode = _with_execution(before.mode, each.entry.executable)
            after = State(kind="file", mode=mode, size=after.size, sha256=after.sha256)
        parent = each.parts[:-1]
        kept = each.entry.change == "mode" or self._is_kept(before)
        move = self._move(each.entry, each.view, each.parts, parent, before, after, kept=kept)
        self._before.append(move)

    def _add(self, each: _Wanted) -> None:
        view, parts, new = each.view, each.parts, each.adds
        assert new is not None
        if (view, parts) in self._made:
            if self._made[view, parts].kind == new.kind == "folder":
                return
            raise Obstacle("another chosen entry is at the same place")
        depth = self._depth_of_existing(view, parts)
        existing = parts[:depth]
        folder = self._tree.folder(view, existing)
        _check_writable(folder)
        mode = os.fstat(folder).st_mode & 0o777
        for end in range(depth + 1, len(parts)):
            if (made := self._made.get((view, parts[:end]))) is None:
                above = State(kind="folder", mode=mode)
                self._place(each.entry, view, parts[:end], existing, above, implied=True)
            elif made.kind != "folder":
                raise Obstacle("another chosen entry is where it needs a folder")
        if new.kind != "link":
            mode &= new.mode
            if each.entry.change == "renamed" and new.kind == "file":
                mode = self._modes.get((view, each.from_parts), mode)
            new = State(kind=new.kind, mode=mode, size=new.size, sha256=new.sha256)
        self._place(each.entry, view, parts, existing, new)

    def _place(
        self, entry: Entry, view: int, parts: Parts, staged_in: Parts, new: State, *, implied: bool = False
    ) -> None:
        parent = parts[:-1]
        name = self._spellings.setdefault((view, parent, places.folded(parts[-1])), parts[-1])
        if name != parts[-1] and places.folds_case(self._tree.folder(view, staged_in)):
            raise Obstacle("another chosen entry has a name that differs only in upper and lower case")
        stays = parent == staged_in and (view, parts) not in self._removed
        if stays and places.status(self._tree.folder(view, parent), parts[-1]) is not None:
            raise Obstacle(places.OCCUPIED)
        self._made[view, parts] = new
        self._added.append(self._move(entry, view, parts, staged_in, None, new, implied=implied))

    def _depth_of_existing(self, view: int, parts: Parts) -> int:
        """Return how many components of the path to the parent are folders that are there and stay. Raises Obstacle."""
        if not any((view, parts[:depth]) in self._removed for depth in range(1, len(parts))):
            try:
                self._tree.folder(view, parts[:-1])
            except OSError:
                pass
            else:
                return len(parts) - 1
        for depth in range(1, len(parts)):
            if (view, parts[:depth]) in self._removed:
                return depth - 1
            about = places.status(self._tree.folder(view, parts[: depth - 1]), parts[depth - 1])
            if about is None:
                return depth - 1
            if stat.S_ISLNK(about.st_mode):
                raise Obstacle(places.LINK)
            if not stat.S_ISDIR(about.st_mode):
                raise Obstacle("a file is where it needs a folder")
        return len(parts) - 1

    def _folder_of(self, view: int, parts: Parts) -> int:
        folder = self._tree.folder(view, parts[:-1])
        _check_writable(folder)
        if places.is_spelled_otherwise(folder, parts[-1]):
            raise Obstacle("it is there under a name that differs only in upper and lower case")
        return folder

    def _compare(self, folder: int, name: bytes, expected: State) -> State:
        """Return what is there, with its permissions of now. Raises Obstacle if it is not what the run's end saw."""
        if why := places.difference(folder, name, expected):
            raise Obstacle(why)
        mode = self._status(folder, name).st_mode & 0o777 if expected.kind == "file" else 0
        return State(kind=expected.kind, mode=mode, size=expected.size, sha256=expected.sha256, target=expected.target)

    def _status(self, folder: int, name: bytes) -> os.stat_result:
        about = places.status(folder, name)
        if about is None:
            raise Obstacle(places.GONE)
        return about

    def _is_kept(self, before: State) -> bool:
        self._kept += before.size
        return self._kept <= MAX_KEPT or not before.size

    def _move(
        self,
        entry: Entry,
        view: int,
        parts: Parts,
        staged_in: Parts,
        before: State | None,
        after: State | None,
        *,
        implied: bool = False,
        kept: bool = True,
    ) -> Move:
        staged = STAGED + token_hex(16).encode()
        return Move(
            number=entry.number,
            view=view,
            parts=parts,
            staged=staged,
            staged_in=staged_in,
            before=before,
            after=after,
            implied=implied,
            kept=kept,
        )


def _state_of(base: Base) -> State:
    if base.kind == "other":
        raise Obstacle("something that is neither a file nor a folder nor a link is there")
    return State(kind=base.kind, mode=base.mode & 0o777, size=base.size, sha256=base.sha256, target=base.target)


def _stays_below(parts: Parts, target: bytes) -> bool:
    """Return whether a link at `parts` names something below the root, by its words alone."""
    depth = len(parts) - 1
    if not target or target.startswith(b"/") or b"\0" in target:
        return False
    for name in target.split(b"/"):
        depth += {b"": 0, b".": 0, b"..": -1}.get(name, 1)
        if depth < 0:
            return False
    return True


def _with_execution(mode: int, executable: bool) -> int:
    """Return permissions that let those execute who may read, or nobody."""
    if executable == bool(mode & stat.S_IXUSR):
        return mode
    return mode | (mode & 0o444) >> 2 | stat.S_IXUSR if executable else mode & ~0o111


def _check_writable(folder: int) -> None:
    """Raise Obstacle where nothing can be put into a folder."""
    if not os.access(".", os.W_OK | os.X_OK, dir_fd=folder, effective_ids=True):
        read_only = os.fstatvfs(folder).f_flag & os.ST_RDONLY
        raise Obstacle(places.sentence(OSError(errno.EROFS if read_only else errno.EACCES, "")))
