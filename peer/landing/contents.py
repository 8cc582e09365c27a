"""Contents on their way into a person's folder: copied while they are checked, and given an owner and permissions."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from typing import Final

from peer.landing import tree as places
from peer.landing.journal import State
from peer.landing.tree import PIECE, Obstacle

DAMAGED: Final = "its content was altered after it was kept"
_ACCESS_LIST: Final = "system.posix_acl_access"


def copy(source: int, target: int, expected: State, *, altered: str = DAMAGED) -> None:
    """Copy a content and check on the way that it is the expected one. Raises OSError, Obstacle(altered)."""
    hasher, left = hashlib.sha256(), expected.size
    while piece := os.read(source, min(left, PIECE) or 1):
        left -= len(piece)
        if left < 0:
            raise Obstacle(altered)
        hasher.update(piece)
        view = memoryview(piece)
        while view:
            view = view[os.write(target, view) :]
    if left or hasher.hexdigest() != expected.sha256:
        raise Obstacle(altered)


def dress(new: int, folder: int, name: bytes, mode: int) -> None:
    """Give a new file the owner, access list and attributes of the person's file that it is to replace, and `mode`."""
    old = os.open(name, places.FILE, dir_fd=folder)
    try:
        _own(new, os.fstat(old))
        os.fchmod(new, mode)
        for attribute in _listed(old):
            if attribute.startswith("user.") or attribute == _ACCESS_LIST:
                with suppress(OSError):
                    os.setxattr(new, attribute, os.getxattr(old, attribute))
    finally:
        os.close(old)


def give_to_owner(folder: int, name: bytes) -> None:
    """Give something new to the owner of its folder, where root does what that person chose."""
    about = os.fstat(folder)
    if about.st_uid != os.geteuid():
        with suppress(PermissionError):
            os.chown(name, about.st_uid, about.st_gid, dir_fd=folder, follow_symlinks=False)


def _listed(descriptor: int) -> list[str]:
    try:
        return os.listxattr(descriptor)
    except OSError:  # the file system has none
        return []


def _own(new: int, like: os.stat_result) -> None:
    about = os.fstat(new)
    if (about.st_uid, about.st_gid) != (like.st_uid, like.st_gid):
        with suppress(PermissionError):
            os.fchown(new, like.st_uid, like.st_gid)
