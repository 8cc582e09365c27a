"""Reads what a run changed out of the upper folder of an overlay, which the kernel wrote (mounted with `userxattr`,
without redirects and metadata-only copies).

- A character device 0/0 is a deletion; so is, in a folder marked for it, an empty file with an attribute.
- An opaque folder hides the original's; so does whatever lies in one.
- Any other folder was copied up since something in it changed; its origin is the file handle of the original's folder.

Programs in the view cannot make these marks: the kernel refuses such a device there, and stores such an attribute under
another name.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from sandbox.changes.bounds import reason
from sandbox.changes.comparing import Comparison, Place
from sandbox.changes.descriptors import FOLDER, Handle, handle, let_in
from sandbox.changes.draft import Draft
from sandbox.changes.names import special
from sandbox.changes.original import Found
from sandbox.confinement.walk import Folder, Parts, walk

_OPAQUE: Final = "user.overlay.opaque"
_ORIGIN: Final = "user.overlay.origin"
_WHITEOUT: Final = "user.overlay.whiteout"
_REDIRECT: Final = "user.overlay.redirect"
_METACOPY: Final = "user.overlay.metacopy"
# struct ovl_fb: version, magic, length, flags, type, a UUID of 16 bytes, then the handle.
_VERSION, _MAGIC, _HEADER = 0, 0xFB, 21
_BIG_ENDIAN: Final = 1


class OverlayReader:
    """Reads one upper folder."""

    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison
        self._bounds = comparison.bounds
        self._lost: list[tuple[Draft, Handle | None, str]] = []
        """Files that were copied up, where the original holds nothing now: the entry, the origin, and the conflict of
        the folder."""

    def read(self, upper: int) -> None:
        """Read the upper folder, a descriptor that is closed at the end. Raises Exhausted."""
        places: list[Place] = []

        def failed(parts: Parts, error: OSError) -> None:
            del places[max(len(parts), 1) :]
            place = places[-1]
            path = place.below(parts[-1]) if parts else b""
            self._comparison.unread_folder(place, path, reason(error))

        try:
            for folder in walk(upper, failed):
                for place in places[folder.depth :]:
                    place.close()
                del places[folder.depth :]
                places.append(self._entered(folder, places))
                self._list(folder, places[-1])
                places[-1].close()
        finally:
            for place in places:
                place.close()
            self._moved()

    def _entered(self, folder: Folder, places: list[Place]) -> Place:
        """The place of a folder of upper; an entry for itself where it is new."""
        above = places[-1] if places else None
        path = b"/".join(map(os.fsencode, folder.path))
        place = self._comparison.place(folder.descriptor, path, above)
        place.hides = _attribute(folder.descriptor, _OPAQUE) == b"y" or (above is not None and above.hides)
        if above is None:
            return place
        if place.descriptor is None:
            if place.askable:
                self._new(folder, place, above)
            else:
                self._comparison.folder_below_none(above, place, os.fstat(folder.descriptor))
            return place
        about = os.fstat(place.descriptor)
        same = not place.hides and _is_origin(folder.descriptor, place.descriptor)
        if not same and not place.conflict:
            place.conflict = self._comparison.meanwhile.folder(path, about)
        return place

    def _new(self, folder: Folder, place: Place, above: Place) -> None:
        """The original has no folder there: it is made, in place of a file or link where one is there."""
        known = _attribute(folder.descriptor, _ORIGIN) is not None
        about = os.fstat(folder.descriptor)
        self._comparison.new_folder(above, place, folder.path[-1], about, known=known)

    def _list(self, folder: Folder, place: Place) -> None:
        if _attribute(folder.descriptor, _REDIRECT) is not None:
            self._bounds.say("a folder was renamed in a way that cannot be read here, and is missing")
            return
        names = []
        try:
            names = list(self._comparison.names(folder.descriptor))
        except OSError as error:
            self._comparison.unread_folder(place, place.path, reason(error))
            return
        self._comparison.repository(place, {os.fsencode(name).lower() for name in names})
        marked = _attribute(folder.descriptor, _OPAQUE) == b"x"
        for name in names:
            if not self._comparison.too_long(place.below(name)):
                self._one(folder, place, name, marked)
        if place.hides and place.descriptor is not None:
            self._hidden(place, place.descriptor, set(names))

    def _hidden(self, place: Place, original: int, names: set[str]) -> None:
        """What the original holds in a folder that hides it, and the view does not: it was deleted."""
        try:
            for name in self._comparison.names(original):
                if name not in names and not self._comparison.too_long(place.below(name)):
                    self._gone(place, name)
        except OSError as error:
            self._comparison.unread_folder(place, place.path, reason(error))

    def _one(self, folder: Folder, place: Place, name: str, marked: bool) -> None:
        about = os.stat(name, dir_fd=folder.descriptor, follow_symlinks=False)
        path = place.below(name)
        mode = about.st_mode
        entry = f"/proc/self/fd/{folder.descriptor}/{name}"
        if _is_whiteout(entry, about, marked):
            self._gone(place, name)
        elif (kind := special(os.fsencode(name))) == "metadata" or (
            stat.S_ISDIR(mode) and self._comparison.fills(place, folder.descriptor, name)
        ):
            draft = self._comparison.whole(place, path, kind or "filled", about)
            self._comparison.tally(draft, folder.descriptor, name, about)
            if not draft.count:
                self._comparison.drafts.pop()  # only times or modes of folders
        elif stat.S_ISDIR(mode):
            if mode & 0o700 != 0o700:
                try:
                    let_in(folder.descriptor, name)
                except OSError as error:
                    self._comparison.unread(place, path, about, reason(error))
                    return
            folder.inner.append(name)
        elif stat.S_ISREG(mode) and _attribute(entry, _METACOPY) is not None:
            self._comparison.unread(place, path, about, "only its attributes were copied")
        elif stat.S_ISREG(mode) or stat.S_ISLNK(mode):
            known = stat.S_ISREG(mode) and _attribute(entry, _ORIGIN) is not None and self._may_have_lost(place)
            before = len(self._comparison.drafts)
            found = self._comparison.present(place, folder.descriptor, name, about, known=known)
            if known and found is None and len(self._comparison.drafts) > before:
                self._lost.append((self._comparison.drafts[-1], _handle(_attribute(entry, _ORIGIN)), place.conflict))
            if found is not None and found.base.kind == "folder":
                self._expand(place, name, found, itself=False)
        else:
            self._comparison.other(place, name, about)

    def _may_have_lost(self, place: Place) -> bool:
        """Whether the original's folder may have lost a name since the view was made."""
        if place.descriptor is None:
            return False
        return bool(self._comparison.meanwhile.folder(place.path, os.fstat(place.descriptor)))

    def _moved(self) -> None:
        """A file that was copied up keeps its origin when the run renames it: then the original lost nothing there."""
        for draft, origin, conflict in self._lost:
            if origin in self._comparison.handles:
                draft.change, draft.conflict = "added", conflict

    def _gone(self, place: Place, name: str) -> None:
        """The view lacks what the original holds by this name."""
        kind = special(os.fsencode(name))
        found, conflict = self._comparison.find(place, name, known=False, content=not kind)
        if found is None:
            return  # it is gone in both
        folder = found.base.kind == "folder"
        path = place.below(name)
        if kind == "metadata" or (folder and self._comparison.fills(place, -1, name)):
            draft = self._comparison.whole(place, path, kind or "filled", found.about)
            draft.base, draft.conflict, draft.count = found.base, conflict, 0
            draft.notes.append("the run deleted it, and that is not applied")
        elif folder:
            self._expand(place, name, found, itself=True)
        else:
            self._comparison.deleted(place, name, found, conflict)

    def _expand(self, above: Place, name: str, found: Found, *, itself: bool) -> None:
        """Deletions for all that the original's folder of this name holds, and for the folder where `itself`."""
        assert above.descriptor is not None
        places: list[Place] = []

        def failed(parts: Parts, error: OSError) -> None:
            place = places[len(parts) - 1] if parts else places[0]
            self._comparison.unread_folder(place, place.below(parts[-1]) if parts else place.path, reason(error))

        try:
            top = os.open(name, FOLDER, dir_fd=above.descriptor)
        except OSError as error:
            self._comparison.unread_folder(above, above.below(name), reason(error))
            return
        path = above.below(name)
        for folder in walk(top, failed):
            del places[folder.depth :]
            here = path + b"".join(b"/" + os.fsencode(part) for part in folder.path)
            over = places[-1] if places else above
            self._bounds.carry(here)
            place = Place(here, folder.descriptor, True, over.conflict, over.repository, over.nested, over.askable)
            about = os.fstat(folder.descriptor)
            place.conflict = place.conflict or self._comparison.meanwhile.folder(here, about)
            place.nested = place.nested or self._comparison.original.has(folder.descriptor, ".git")
            places.append(place)
            if places[1:] or itself:
                self._comparison.deleted_folder(place, self._comparison.original.about(folder.descriptor))
            self._inner(folder, place)

    def _inner(self, folder: Folder, place: Place) -> None:
        try:
            for name in self._comparison.names(folder.descriptor):
                if self._comparison.too_long(place.below(name)):
                    continue
                about = os.stat(name, dir_fd=folder.descriptor, follow_symlinks=False)
                named = special(os.fsencode(name)) or self._comparison.fills(place, folder.descriptor, name)
                if stat.S_ISDIR(about.st_mode) and not named:
                    folder.inner.append(name)
                else:
                    self._gone(place, name)
        except OSError as error:
            if error.errno != errno.ENOENT:
                self._comparison.unread_folder(place, place.path, reason(error))


def _attribute(where: int | str, name: str) -> bytes | None:
    try:
        return os.getxattr(where, name, follow_symlinks=isinstance(where, int))
    except OSError:
        return None


def _is_whiteout(entry: str, about: os.stat_result, marked: bool) -> bool:
    if stat.S_ISCHR(about.st_mode):
        return about.st_rdev == 0
    # The kernel's second form: only in a folder marked for it.
    empty = marked and stat.S_ISREG(about.st_mode) and about.st_size == 0
    return empty and _attribute(entry, _WHITEOUT) is not None


def _is_origin(folder: int, original: int) -> bool:
    """Whether the original's folder is the one that this folder of upper was copied from."""
    origin = _handle(_attribute(folder, _ORIGIN))
    return origin is not None and handle(original) == origin


def _handle(origin: bytes | None) -> Handle | None:
    """The file handle in an origin; None where it cannot be compared."""
    if origin is None or len(origin) <= _HEADER:
        return None  # the kernel stores an empty one where it cannot make handles, as in a user's namespace
    version, magic, length, flags, kind = origin[:5]
    if (version, magic, length) != (_VERSION, _MAGIC, len(origin)) or flags & _BIG_ENDIAN:
        return None
    return kind, origin[_HEADER:]
