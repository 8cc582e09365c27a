"""The person's folders as a landing sees them: opened beneath their root, locked, and compared with what is expected.

What is put where is placing.py's.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import time
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from peer.landing.journal import Identity, Parts, Root, State
from peer.landing.syscalls import is_open_to_write
from sandbox.confinement.openat2 import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2

PIECE: Final = 1 << 20
LOCK_SECONDS: Final = 10.0
"""How long another landing in the same folder is waited for."""
_POLL_SECONDS: Final = 0.05
_MOST_OPEN: Final = 200
"""Folders kept open at once."""
_MOST_BYTES: Final = 2_000
"""Of a path that is opened in one call."""
_MOST_LISTED: Final = 1_000_000
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_BENEATH: Final = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS

NO_WAY: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""Errors of a path that leads to no folder."""

CHANGED: Final = "it has changed in the meantime, and that change stays"
GONE: Final = "it is no longer there"
OCCUPIED: Final = "something else is there now"
LINK: Final = "a symbolic link is in the way, and links are not followed"

_SENTENCES: Final = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "your disk quota is used up",
    errno.EROFS: "its file system is read-only",
    errno.EACCES: "you have no permission to change its folder",
    errno.EPERM: "you have no permission to change its folder",
    errno.ENAMETOOLONG: "its name is too long for this file system",
    errno.EILSEQ: "its name is not allowed on this file system",
    errno.ENOTDIR: "a file is where it needs a folder",
    errno.ELOOP: LINK,
    errno.EEXIST: OCCUPIED,
    errno.ENOENT: GONE,
    errno.EXDEV: "another file system is mounted inside its folder",
    errno.EBUSY: "it is in use",
    errno.ETXTBSY: "it is in use",
    errno.EINVAL: "its file system cannot put a file in place in one step, and anything else would be unsafe",
    errno.ENOTSUP: "its file system cannot put a file in place in one step, and anything else would be unsafe",
    errno.ENOSYS: "its file system cannot put a file in place in one step, and anything else would be unsafe",
    errno.EMFILE: "too many files are open",
}


class Unreachable(NamedTuple):
    """Why a root cannot be had. `gone`: for good, since what it was on is there and it is not."""

    reason: str
    gone: bool = False


class Obstacle(Exception):
    """What stands in the way of a step, as a sentence for people."""


def sentence(error: OSError) -> str:
    """Return what an error means for the file that it is about."""
    known = _SENTENCES.get(error.errno or 0)
    return known or f"it cannot be reached: {error.strerror or 'unknown error'}"


class Tree:
    """The roots of a landing, held open and locked, and the folders below them. A context manager."""

    def __init__(self, roots: Mapping[int, int]) -> None:
        self._roots = roots
        """Descriptors by the view's number."""
        self._open: dict[tuple[int, Parts], int] = {}

    def root(self, view: int) -> int:
        """Return the descriptor of a root. Raises OSError where it cannot be had."""
        if view not in self._roots:
            raise OSError(errno.ENODEV, "the folder that was granted cannot be reached")
        return self._roots[view]

    def folder(self, view: int, parts: Parts) -> int:
        """Return a descriptor of the folder that is at this path now; it belongs to the tree.

        Raises OSError, Obstacle where it is not the folder that was found there before.
        """
        fresh = open_beneath(self.root(view), parts)
        known = self._open.pop((view, parts), None)
        if known is None:
            self._close_oldest()
            self._open[view, parts] = fresh
            return fresh
        self._open[view, parts] = known  # the last now, and so the last to be closed
        same = identity(os.fstat(fresh)) == identity(os.fstat(known))
        os.close(fresh)
        if not same:
            raise Obstacle("its folder was replaced in the meantime")
        return known

    def _close_oldest(self) -> None:
        if len(self._open) >= _MOST_OPEN:
            oldest = self._open.pop(next(iter(self._open)))
            try:
                os.fsync(oldest)
            finally:
                os.close(oldest)

    def known_folder(self, view: int, parts: Parts) -> int:
        """Return the folder of a step that was made, even if it was moved since. Raises OSError."""
        try:
            return self.folder(view, parts)
        except (OSError, Obstacle):
            if (view, parts) in self._open:
                return self._open[view, parts]
            raise

    def sync(self) -> None:
        """Make durable what was renamed in every folder that is open. Raises OSError."""
        for descriptor in {identity(os.fstat(each)): each for each in self._open.values()}.values():
            os.fsync(descriptor)

    def close(self) -> None:
        for descriptor in (*self._open.values(), *set(self._roots.values())):
            os.close(descriptor)
        self._open.clear()


@contextmanager
def opened(roots: Mapping[int, Root], *, locked: bool = True) -> Iterator[tuple[Tree, dict[int, Unreachable]]]:
    """Give the tree of these roots, locked until the end, and for views whose root cannot be had why not."""
    descriptors: dict[int, int] = {}
    failed: dict[int, Unreachable] = {}
    had: dict[Identity, int | Unreachable] = {}
    end = time.monotonic() + LOCK_SECONDS
    # In one order for every landing, so that no two wait for each other.
    for number, root in sorted(roots.items(), key=lambda item: (item[1].device, item[1].inode)):
        key = (root.device, root.inode)
        if key not in had:
            had[key] = _open_root(root, end if locked else None)
        found = had[key]
        if isinstance(found, Unreachable):
            failed[number] = found
        else:
            descriptors[number] = found
    tree = Tree(descriptors)
    try:
        yield tree, failed
    finally:
        tree.close()


def _open_root(root: Root, end: float | None) -> int | Unreachable:
    """Return a descriptor of a root, or why there is none. Until `end` it is tried to lock it against every other
    landing, of other daemons too; None: without a lock.
    """
    try:
        descriptor = openat2(root.path, _FOLDER, resolve=RESOLVE_NO_MAGICLINKS)
    except (FileNotFoundError, NotADirectoryError):
        return Unreachable("the folder that was granted is no longer there", _is_on_its_disk(root))
    except OSError as error:
        return Unreachable(f"the folder that was granted cannot be opened: {error.strerror}")
    failed = None
    if identity(os.fstat(descriptor)) != (root.device, root.inode):
        failed = Unreachable("another folder is now where the granted one was", _is_on_its_disk(root))
    while failed is None and end is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() >= end:
                failed = Unreachable("other changes are being applied there: try again in a moment")
            else:
                time.sleep(_POLL_SECONDS)
        except OSError:
            failed = Unreachable("its file system has no locks, so changes of two runs could mix")
    if failed is None:
        return descriptor
    os.close(descriptor)
    return failed


def _is_on_its_disk(root: Root) -> bool:
    """Return whether the file system that a root was on is still where the root was."""
    try:
        return Path(root.path).parent.stat().st_dev == root.device
    except OSError:
        return False


def open_beneath(root: int, parts: Parts) -> int:
    """Open a folder below a root, following no link. Raises OSError, ELOOP for a link on the way."""
    here = root
    rest = list(parts) or [b"."]
    while rest:
        piece = [rest.pop(0)]
        while rest and sum(map(len, piece)) + len(rest[0]) < _MOST_BYTES:
            piece.append(rest.pop(0))
        try:
            there = openat2(os.fsdecode(b"/".join(piece)), _FOLDER, directory=here, resolve=_BENEATH)
        finally:
            if here != root:
                os.close(here)
        here = there
    return here


def identity(about: os.stat_result) -> Identity:
    return about.st_dev, about.st_ino


def status(folder: int, name: bytes) -> os.stat_result | None:
    """Return what is at a name, a link itself; None for nothing. Raises OSError."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def difference(folder: int, name: bytes, expected: State) -> str:
    """Return in what way `name` is not `expected`, as a sentence; "" if it is exactly that, and nobody writes to it.

    A file is its kind, content, and permission to execute: who restored the same content has changed nothing. A folder
    must be empty. Raises OSError.
    """
    about = status(folder, name)
    if about is None:
        return GONE
    if expected.kind == "link":
        same = stat.S_ISLNK(about.st_mode) and os.readlink(name, dir_fd=folder) == expected.target
        return "" if same else CHANGED
    if expected.kind == "folder":
        return ("" if is_empty(folder, name) else "it is not empty") if stat.S_ISDIR(about.st_mode) else CHANGED
    if not stat.S_ISREG(about.st_mode):
        return CHANGED
    try:
        descriptor = os.open(name, FILE, dir_fd=folder)
    except PermissionError:
        return "it cannot be read"
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            return CHANGED
        if is_open_to_write(descriptor):
            return "another program is writing to it"
        same = bool(about.st_mode & stat.S_IXUSR) == expected.executable and about.st_size == expected.size
        return "" if same and digest(descriptor, expected.size) == expected.sha256 else CHANGED
    finally:
        os.close(descriptor)


def digest(descriptor: int, size: int) -> str:
    """Return the SHA-256 in hex of at most one byte more than `size`. Raises OSError."""
    hasher, left = hashlib.sha256(), size + 1
    while left and (piece := os.read(descriptor, min(left, PIECE))):
        hasher.update(piece)
        left -= len(piece)
    return hasher.hexdigest()


def is_empty(folder: int, name: bytes) -> bool:
    """Return whether a folder holds nothing. Raises OSError."""
    return not names_in(folder, (name,), 1)


def names_in(folder: int, parts: Parts, most: int) -> list[bytes]:
    """Return up to `most` names in a folder. Raises OSError."""
    descriptor = open_beneath(folder, parts)
    try:
        with os.scandir(descriptor) as entries:
            return [os.fsencode(entry.name) for entry in islice(entries, most)]
    finally:
        os.close(descriptor)


def is_spelled_otherwise(folder: int, name: bytes) -> bool:
    """Return whether what is found under a name is called differently there: other letter case, another Unicode form.

    Raises OSError.
    """
    if not any(_is_one(folder, name, variant) for variant in _variants(name)):
        return False
    return name not in names_in(folder, (), _MOST_LISTED)


def _is_one(folder: int, name: bytes, other: bytes) -> bool:
    """Return whether two names lead to the same."""
    try:
        one, two = status(folder, name), status(folder, other)
    except OSError:  # too long, or not allowed here
        return False
    return one is not None and two is not None and identity(one) == identity(two)


def _variants(name: bytes) -> set[bytes]:
    text = os.fsdecode(name)
    others = {text.swapcase(), text.upper(), text.lower()}
    with suppress(ValueError):
        others |= {unicodedata.normalize(form, text) for form in ("NFC", "NFD")}
    return {os.fsencode(other) for other in others if "\0" not in other} - {name}


def folded(name: bytes) -> str:
    """Return a key under which names are equal that a case-insensitive file system takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", os.fsdecode(name)).casefold())


def folds_case(folder: int) -> bool:
    """Return whether a folder finds a name under other letters, as its present names show. Raises OSError."""
    names = names_in(folder, (), 100)
    return any(_is_one(folder, name, other) for name in names for other in _variants(name) - set(names))
