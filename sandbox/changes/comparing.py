"""What one view holds against what the original holds: makes the entries of both readers, overlay and copy."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from sandbox.changes.bounds import MAX_FILE, MAX_PATH, Bounds, reason, shown
from sandbox.changes.descriptors import FOLDER, PIN, Digest, Handle, TooLarge, digest, let_in, reopened
from sandbox.changes.draft import Change, Draft
from sandbox.changes.freeze import Blobs
from sandbox.changes.names import BUILT, Special, is_repository, special
from sandbox.changes.original import Found, Meanwhile, Original
from sandbox.changes.values import Base
from sandbox.confinement.walk import walk
from sandbox.views.manifest import kind_of

METADATA_NEVER: Final = "version control's own files are never applied"
FILLED_MARK: Final = "a folder that tools generate: build it again yourself"
_SPECIAL_FILE: Final = "a pipe, socket or device is never applied"


@dataclass(slots=True)
class Place:
    """A folder of the view, while it is looked at.

    `path`: below the root. `descriptor`: the original's folder there, open; None where there is none. `hides`: nothing
    of that shows through, so what the view lacks was deleted. `conflict`: why nothing in it can be put in place.
    `repository`, `nested`, `askable`: as in Draft.
    """

    path: bytes
    descriptor: int | None
    hides: bool = False
    conflict: str = ""
    repository: bool = False
    nested: bool = False
    askable: bool = True

    def below(self, name: str) -> bytes:
        """The path of what has this name in it."""
        raw = os.fsencode(name)
        return self.path + b"/" + raw if self.path else raw

    def close(self) -> None:
        """Close the original's folder."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


class Comparison:
    """The entries of one view, as they are found. `ignored(path)`: whether version control ignores a folder."""

    def __init__(
        self,
        original: Original,
        meanwhile: Meanwhile,
        blobs: Blobs,
        bounds: Bounds,
        ignored: Callable[[bytes], bool],
    ) -> None:
        self.original = original
        self.meanwhile = meanwhile
        self.bounds = bounds
        self.drafts: list[Draft] = []
        self.handles: set[Handle] = set()
        """Of the originals of the entries."""
        self._blobs = blobs
        self._ignored = ignored

    def names(self, folder: int) -> Iterator[str]:
        """The names in an open folder, counted. Raises OSError, Exhausted."""
        with os.scandir(folder) as entries:
            for entry in entries:
                self.bounds.look()
                yield entry.name

    def too_long(self, path: bytes) -> bool:
        """Whether the path is beyond what can be put in place; that is noted."""
        if len(path) <= MAX_PATH:
            return False
        self.bounds.say(f"what lies below {shown(path[:MAX_PATH])} is nested too deeply, and missing here")
        return True

    def place(self, folder: int, path: bytes, above: Place | None) -> Place:
        """The place of a folder of the view that was entered: what the original holds there."""
        place = Place(path, None)
        if above is not None:
            place.conflict, place.repository = above.conflict, above.repository
            place.nested, place.askable = above.nested, above.askable
        else:
            place.conflict = self.original.conflict
        self.bounds.carry(path)
        try:
            place.descriptor = self.original.folder(path) if place.askable else None
        except OSError as error:
            place.conflict = place.conflict or self.closed(path, error)
        if place.descriptor is not None and path and self.original.has(place.descriptor, ".git"):
            place.nested = True
        return place

    def closed(self, path: bytes, error: OSError) -> str:
        """Note that a folder of the original cannot be looked at; return that as the reason of a conflict."""
        sentence = f"your folder {shown(path)} cannot be looked at ({reason(error)})".replace("  ", " ")
        self.bounds.say(sentence)
        return sentence

    def repository(self, place: Place, here: set[bytes]) -> None:
        """Note whether the folder is a repository by itself, with the names in the view's folder there (small)."""
        both = set(here)
        for name in ("HEAD", "objects", "refs", "commondir"):
            if self.original.has(place.descriptor, name):
                both.add(name.lower().encode())
        place.repository = place.repository or is_repository(both)

    def draft(self, place: Place, path: bytes, change: Change, found: Found | None, about: os.stat_result) -> Draft:
        """A new entry at a path of this place. Raises Exhausted."""
        self.bounds.enter(path)
        draft = Draft(
            path,
            change,
            kind_of(about),
            base=None if found is None else found.base,
            repository=place.repository,
            nested=place.nested,
            askable=place.askable,
        )
        if draft.kind == "file":
            draft.executable = bool(about.st_mode & stat.S_IXUSR)
            draft.size = about.st_size
        if found is not None and found.problem:
            draft.notes.append(found.problem)
        if found is not None and found.handle is not None:
            self.handles.add(found.handle)
        self.drafts.append(draft)
        return draft

    def find(self, place: Place, name: str, *, known: bool, content: bool = True) -> tuple[Found | None, str]:
        """(what the original holds there, why that must have changed meanwhile)."""
        path = place.below(name)
        try:
            found = self.original.find(place.descriptor, name, content=content)
        except OSError as error:
            return None, place.conflict or self.closed(place.path, error)
        conflict = place.conflict or self.meanwhile.file(path, None if found is None else found.about, known=known)
        if found is not None and found.moving:
            conflict = conflict or "it is being changed in your folder"
        if found is not None and self.original.elsewhere(found.about):
            conflict = conflict or "another file system is mounted there"
        return found, conflict

    def present(self, place: Place, folder: int, name: str, about: os.stat_result, *, known: bool) -> Found | None:
        """A file or link of the view. `known`: the original held something there. Returns what that is now.

        Raises Exhausted.
        """
        path = place.below(name)
        found, conflict = self.find(place, name, known=known)
        change: Change = "added" if found is None and not known else "changed"
        try:
            pinned = os.open(name, PIN, dir_fd=folder)
        except OSError as error:
            self.unread(place, path, about, reason(error))
            return found
        try:
            (self.link if stat.S_ISLNK(about.st_mode) else self.file)(place, path, change, found, pinned, conflict)
        finally:
            os.close(pinned)
        return found

    def link(self, place: Place, path: bytes, change: Change, found: Found | None, pinned: int, conflict: str) -> None:
        """The same of a link."""
        target = os.fsencode(os.readlink("", dir_fd=pinned))
        base = None if found is None else found.base
        if base is not None and (base.kind, base.target) == ("link", target):
            return
        draft = self.draft(place, path, change, found, os.fstat(pinned))
        draft.conflict, draft.target = conflict, target

    def file(self, place: Place, path: bytes, change: Change, found: Found | None, pinned: int, conflict: str) -> None:
        """A regular file of the view, by an O_PATH descriptor; no entry where it is as the original.

        Raises Exhausted.
        """
        about = os.fstat(pinned)
        base = found.base if found is not None and found.base.kind == "file" else None
        read, why = self._content(pinned, about, base)
        if read is None:
            draft = self.draft(place, path, "unread", found, about)
            draft.conflict, draft.never = conflict, why
            return
        if base is not None and base.sha256 == read.sha256:
            if _same_mode(about, base):
                return
            change = "mode"
        draft = self.draft(place, path, change, found, about)
        draft.conflict, draft.sha256, draft.size = conflict, read.sha256, read.size
        draft.plain = read.plain and (found is None or (base is not None and found.plain))

    def _content(self, pinned: int, about: os.stat_result, base: Base | None) -> tuple[Digest | None, str]:
        """Hash what the run left, and keep it unless it is as the original; (None, why) where it cannot be kept."""
        if about.st_size > MAX_FILE:
            return None, f"it is larger than {MAX_FILE // 1_000_000} MB, which is not kept"
        if about.st_size > self.bounds.kept:
            return None, "all the changes together are larger than what is kept of one run"
        try:
            file = reopened(pinned, ours=True)
            try:
                read = digest(file, min(MAX_FILE, self.bounds.kept), self.bounds.tick)
                if base is None or base.sha256 != read.sha256 or not _same_mode(about, base):
                    self._blobs.keep(file, read.sha256)
                    self.bounds.kept -= read.size
            finally:
                os.close(file)
        except OSError as error:
            return None, f"it could not be read ({reason(error)})"
        except TooLarge:
            return None, "it grew while it was read"
        return read, ""

    def deleted(self, place: Place, name: str, found: Found, conflict: str) -> Draft:
        """What the original holds there, and the view no longer does. Raises Exhausted."""
        draft = self.draft(place, place.below(name), "deleted", found, found.about)
        draft.executable, draft.size = False, 0
        draft.conflict = conflict
        draft.plain = found.base.kind == "file" and found.plain
        if found.base.kind == "other":
            draft.change, draft.never = "dropped", _SPECIAL_FILE
        return draft

    def other(self, place: Place, name: str, about: os.stat_result) -> None:
        """A pipe, socket or device that the run left. Raises Exhausted."""
        self.draft(place, place.below(name), "dropped", None, about).never = _SPECIAL_FILE

    def find_in(self, place: Place, name: str, *, known: bool, content: bool = True) -> tuple[Found | None, str]:
        """As `find`, for a place whose folder is no longer open."""
        try:
            place.descriptor = self.original.folder(place.path) if place.askable else None
        except OSError as error:
            return None, place.conflict or self.closed(place.path, error)
        try:
            return self.find(place, name, known=known, content=content)
        finally:
            place.close()

    def new_folder(self, above: Place, place: Place, name: str, about: os.stat_result, *, known: bool) -> None:
        """A folder of the view where the original has none. Raises Exhausted."""
        found, conflict = self.find_in(above, name, known=known)
        if found is not None and found.base.kind == "folder":
            return  # it cannot be opened, which was noted
        draft = self.draft(above, place.path, "added" if found is None else "changed", found, about)
        draft.conflict = conflict
        place.askable = found is None
        place.conflict = place.conflict or conflict

    def folder_below_none(self, above: Place, place: Place, about: os.stat_result) -> None:
        """A folder of the view below one in place of a file: the original has nothing there. Raises Exhausted."""
        self.draft(above, place.path, "added", None, about).conflict = place.conflict

    def deleted_folder(self, place: Place, found: Found) -> None:
        """A folder that only the original has. Raises Exhausted."""
        draft = self.draft(place, place.path, "deleted", found, found.about)
        draft.conflict = place.conflict

    def fills(self, place: Place, folder: int, name: str) -> bool:
        """Whether tools fill the inner folder of this name, in an open folder of the view or the original."""
        raw = os.fsencode(name)
        small = raw.lower()
        if special(raw) == "filled":
            return True
        if small not in BUILT:
            return False
        if small == b"target" and any(
            self.original.has(where, tag)
            for where in (folder, place.descriptor)
            for tag in ("Cargo.toml", f"{name}/CACHEDIR.TAG")
        ):
            return True
        return self._ignored(place.below(name))

    def unread_folder(self, place: Place, path: bytes, why: str) -> None:
        """A folder whose content could not be looked at. Raises Exhausted."""
        self.bounds.enter(path)
        self.drafts.append(
            Draft(path, "unread", "folder", never=f"it could not be looked at ({why})", conflict=place.conflict)
        )

    def unread(self, place: Place, path: bytes, about: os.stat_result, why: str) -> None:
        """What lies there could not be read. Raises Exhausted."""
        self.draft(place, path, "unread", None, about).never = f"it could not be read ({why})"

    def whole(self, place: Place, path: bytes, kind: Special, about: os.stat_result) -> Draft:
        """One entry for a folder (or file) that is version control's own, or that tools fill. Raises Exhausted."""
        metadata = kind == "metadata"
        draft = self.draft(place, path, "dropped" if metadata else "folded", None, about)
        draft.count, draft.size, draft.executable = 0, 0, False
        if metadata:
            draft.never = METADATA_NEVER
        else:
            draft.notes.append(FILLED_MARK)
        return draft

    def tally(self, draft: Draft, folder: int, name: str, about: os.stat_result) -> None:
        """Count the files of what the run left there. Raises Exhausted, with what was counted in the draft."""
        if not stat.S_ISDIR(about.st_mode):
            draft.count, draft.size = 1, about.st_size if stat.S_ISREG(about.st_mode) else 0
            return
        try:
            let_in(folder, name)
            top = os.open(name, FOLDER, dir_fd=folder)
        except OSError as error:
            self.bounds.say(f"{shown(draft.path)} was not counted ({reason(error)})")
            return
        for inner in walk(top, lambda _, __: self.bounds.say(f"{shown(draft.path)} was not counted whole")):
            self.bounds.tick()
            try:
                for one in self.names(inner.descriptor):
                    self._count(draft, inner.descriptor, one, inner.inner)
            except OSError:
                self.bounds.say(f"{shown(draft.path)} was not counted whole")

    @staticmethod
    def _count(draft: Draft, folder: int, name: str, inner: list[str]) -> None:
        about = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISDIR(about.st_mode):
            with suppress(OSError):
                let_in(folder, name)
            inner.append(name)
            return
        draft.count += 1
        if stat.S_ISREG(about.st_mode):
            draft.size += about.st_size


def _same_mode(about: os.stat_result, base: Base) -> bool:
    return bool(about.st_mode & stat.S_IXUSR) == bool(base.mode & stat.S_IXUSR)
