"""Reads what a run changed in a copy of the person's folder, or of one file, by the manifest of the copying.

What the copy left out is never a deletion. No mark of an overlay counts here: a device 0/0 is a device.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sandbox.changes.bounds import reason, shown
from sandbox.changes.comparing import Comparison, Place
from sandbox.changes.descriptors import let_in
from sandbox.changes.names import Special, special
from sandbox.confinement.walk import Folder, Parts, walk
from sandbox.views.manifest import Copied

_DELETED: Final = "the run deleted files in it, and that is not applied"


@dataclass(slots=True)
class _Whole:
    """A folder that is one entry: what changed in it."""

    kind: Special
    about: os.stat_result | None
    place: Place
    count: int = 0
    size: int = 0
    deleted: int = 0


class CopyReader:
    """Reads one copy. `copied`: its manifest, by path."""

    def __init__(self, comparison: Comparison, copied: Mapping[bytes, Copied]) -> None:
        self._comparison = comparison
        self._bounds = comparison.bounds
        self._copied = copied
        self._seen: set[bytes] = set()
        self._unlisted: set[bytes] = set()
        """Folders of the copy whose content is not known: nothing in them is a deletion."""
        self._staying: set[bytes] = set()
        """Folders that are not deleted, since what lies in them is not."""
        self._whole: dict[bytes, _Whole] = {}
        self._conflicts: dict[bytes, str] = {}
        """Why nothing in a folder of the original can be put in place, as far as that was asked."""

    def read_file(self, pinned: int) -> None:
        """Read the copy of a granted file, an O_PATH descriptor. Raises Exhausted."""
        about = os.fstat(pinned)
        if self._same(b"", about):
            return
        comparison = self._comparison
        original = comparison.original
        found = None if original.descriptor is None else original.about(original.descriptor)
        conflict = original.conflict or comparison.meanwhile.file(
            b"", None if found is None else found.about, known=True
        )
        place = Place(b"", None, conflict=conflict)
        if stat.S_ISREG(about.st_mode):
            comparison.file(place, b"", "changed", found, pinned, conflict)
        else:
            comparison.unread(place, b"", about, "it is no longer a file")

    def read(self, top: int) -> None:
        """Read the copy of a folder, a descriptor that is closed at the end. Raises Exhausted."""
        places: list[Place] = []
        inside: list[bytes] = []

        def failed(parts: Parts, error: OSError) -> None:
            path = b"/".join(map(os.fsencode, parts))
            self._unlisted.add(path)
            self._comparison.unread_folder(places[min(len(parts), len(places)) - 1], path, reason(error))

        try:
            for folder in walk(top, failed):
                del places[folder.depth :]
                path = b"/".join(map(os.fsencode, folder.path))
                while inside and not path.startswith(inside[-1] + b"/") and path != inside[-1]:
                    inside.pop()
                if path in self._whole:
                    inside.append(path)
                if inside:
                    places.append(Place(path, None))
                    self._count(folder, path, self._whole[inside[-1]])
                    continue
                places.append(self._entered(folder, path, places[-1] if places else None))
                try:
                    self._list(folder, places[-1])
                finally:
                    places[-1].close()
        finally:
            for place in places:
                place.close()
        self._deletions()
        self._finish()

    def _entered(self, folder: Folder, path: bytes, above: Place | None) -> Place:
        place = self._comparison.place(folder.descriptor, path, above)
        self._seen.add(path)
        if above is None:
            return place
        was = self._copied.get(path)
        if place.descriptor is None:
            if was is not None and was.kind == "folder" and not was.skipped:
                place.conflict = place.conflict or f"your folder no longer holds {shown(path)}"
                place.askable = False
            elif place.askable:
                about = os.fstat(folder.descriptor)
                known = was is not None and not was.skipped
                self._comparison.new_folder(above, place, folder.path[-1], about, known=known)
            else:
                self._comparison.folder_below_none(above, place, os.fstat(folder.descriptor))
        elif not place.conflict:
            place.conflict = self._comparison.meanwhile.folder(path, os.fstat(place.descriptor))
        return place

    def _list(self, folder: Folder, place: Place) -> None:
        try:
            names = list(self._comparison.names(folder.descriptor))
        except OSError as error:
            self._unlisted.add(place.path)
            self._comparison.unread_folder(place, place.path, reason(error))
            return
        self._comparison.repository(place, {os.fsencode(name).lower() for name in names})
        for name in names:
            path = place.below(name)
            if self._comparison.too_long(path):
                self._unlisted.add(path)
                continue
            self._bounds.carry(path)
            self._seen.add(path)
            self._one(folder, place, name)

    def _one(self, folder: Folder, place: Place, name: str) -> None:
        about = os.stat(name, dir_fd=folder.descriptor, follow_symlinks=False)
        path = place.below(name)
        is_folder = stat.S_ISDIR(about.st_mode)
        kind = special(os.fsencode(name))
        if is_folder:
            if kind == "metadata" or self._comparison.fills(place, folder.descriptor, name):
                self._whole[path] = _Whole(kind or "filled", about, Place(place.path, None, conflict=place.conflict))
            if about.st_mode & 0o700 != 0o700:
                try:
                    let_in(folder.descriptor, name)
                except OSError as error:
                    self._unlisted.add(path)
                    self._comparison.unread(place, path, about, reason(error))
                    return
            folder.inner.append(name)
        elif self._same(path, about):
            return
        elif kind == "metadata":
            draft = self._comparison.whole(place, path, kind, about)
            self._comparison.tally(draft, folder.descriptor, name, about)
        elif stat.S_ISREG(about.st_mode) or stat.S_ISLNK(about.st_mode):
            was = self._copied.get(path)
            known = was is not None and not was.skipped
            self._comparison.present(place, folder.descriptor, name, about, known=known)
        else:
            self._comparison.other(place, name, about)

    def _same(self, path: bytes, about: os.stat_result) -> bool:
        was = self._copied.get(path)
        return was is not None and not was.skipped and was.same_copy(about)

    def _count(self, folder: Folder, path: bytes, whole: _Whole) -> None:
        """Count what changed in a folder that is one entry."""
        self._seen.add(path)
        try:
            for name in self._comparison.names(folder.descriptor):
                inner = path + b"/" + os.fsencode(name)
                self._bounds.carry(inner)
                self._seen.add(inner)
                about = os.stat(name, dir_fd=folder.descriptor, follow_symlinks=False)
                if stat.S_ISDIR(about.st_mode):
                    let_in(folder.descriptor, name)
                    folder.inner.append(name)
                elif not self._same(inner, about):
                    whole.count += 1
                    whole.size += about.st_size if stat.S_ISREG(about.st_mode) else 0
        except OSError:
            self._unlisted.add(path)

    def _deletions(self) -> None:
        """What the manifest has, and the copy no longer does."""
        gone: set[bytes] = set()
        for path, was in self._copied.items():
            if was.skipped or path in self._unlisted:
                self._stay(path)
        place = Place(b"", None)
        try:
            for path, was in self._copied.items():
                self._bounds.tick()
                if path in self._seen or was.skipped or self._hidden(path):
                    continue
                parent, _, raw = path.rpartition(b"/")
                if (whole := self._whole_above(path, was, parent in gone)) is not None:
                    whole.deleted += 1
                    continue
                gone.add(path)
                if place.path != parent or place.descriptor is None:
                    place.close()
                    place = self._place(parent)
                self._deleted(place, os.fsdecode(raw), was)
        finally:
            place.close()

    def _stay(self, path: bytes) -> None:
        """Note the folders above what is left as it is: they stay, too."""
        at = path.rfind(b"/")
        while at >= 0 and path[:at] not in self._staying:
            self._staying.add(path[:at])
            at = path.rfind(b"/", 0, at)

    def _deleted(self, place: Place, name: str, was: Copied) -> None:
        found, conflict = self._comparison.find(place, name, known=True)
        if found is None:
            return  # it is gone in both
        path = place.below(name)
        if was.kind == found.base.kind == "folder":
            if path in self._staying:
                return
            conflict = conflict or self._more(path)
        draft = self._comparison.deleted(place, name, found, conflict)
        if was.kind != found.base.kind:
            draft.conflict = draft.conflict or "it changed in your folder meanwhile"

    def _more(self, path: bytes) -> str:
        """Why a folder that the run deleted cannot go: it holds what the run did not see."""
        try:
            folder = self._comparison.original.folder(path)
            if folder is None:
                return ""
            try:
                names = self._comparison.names(folder)
                known = all(path + b"/" + os.fsencode(name) in self._copied for name in names)
            finally:
                os.close(folder)
        except OSError as error:
            return self._comparison.closed(path, error)
        return "" if known else "your folder holds something in it that the run did not see"

    def _hidden(self, path: bytes) -> bool:
        """Whether it lies below what was not copied, or not looked at."""
        at = path.rfind(b"/")
        while at >= 0:
            above = path[:at]
            was = self._copied.get(above)
            if above in self._unlisted or (was is not None and was.skipped):
                return True
            at = path.rfind(b"/", 0, at)
        return path in self._unlisted

    def _whole_above(self, path: bytes, was: Copied, parent_gone: bool) -> _Whole | None:
        """The folder that is one entry, and that this path lies in or is."""
        at = len(path)
        while at > 0:
            if (whole := self._whole.get(path[:at])) is not None:
                return whole
            at = path.rfind(b"/", 0, at)
        parent, _, raw = path.rpartition(b"/")
        kind = special(raw)
        if kind == "metadata" or (was.kind == "folder" and self._fills(parent, os.fsdecode(raw))):
            self._whole[path] = whole = _Whole(kind or "filled", None, Place(parent, None))
            return whole
        return None

    def _fills(self, parent: bytes, name: str) -> bool:
        return self._comparison.fills(Place(parent, None), -1, name)

    def _place(self, path: bytes) -> Place:
        """A folder of the original, open, with the conflicts of all folders above it."""
        comparison = self._comparison
        place = Place(path, None, conflict=comparison.original.conflict)
        at = 0
        while path and not place.conflict and at >= 0:
            at = path.find(b"/", at + 1)
            above = path if at < 0 else path[:at]
            if above not in self._conflicts:
                self._conflicts[above] = self._conflict(above)
            place.conflict = self._conflicts[above]
        try:
            place.descriptor = comparison.original.folder(path)
        except OSError as error:
            place.conflict = place.conflict or comparison.closed(path, error)
        place.nested = bool(path) and comparison.original.has(place.descriptor, ".git")
        return place

    def _conflict(self, path: bytes) -> str:
        try:
            folder = self._comparison.original.folder(path)
        except OSError as error:
            return self._comparison.closed(path, error)
        if folder is None:
            return ""  # nothing is left there that could be deleted
        try:
            return self._comparison.meanwhile.folder(path, os.fstat(folder))
        finally:
            os.close(folder)

    def _finish(self) -> None:
        """The entries of folders that are one each."""
        for path, whole in self._whole.items():
            if not whole.count and not whole.deleted and path in self._copied:
                continue
            about = whole.about
            if about is None:
                about = os.stat_result((stat.S_IFDIR | 0o700, *[0] * 9))
            draft = self._comparison.whole(whole.place, path, whole.kind, about)
            draft.count, draft.size = whole.count, whole.size
            if whole.deleted:
                draft.notes.append(_DELETED)
