"""A view as a kernel overlay: the original below, never written, and everything that a run does in a folder of its own.

In the view's folder: `upper` (what the run changed), `work` (the kernel's), `merged` (where it is mounted; all that a
run sees). The options keep `upper` self-explaining: a deleted name is a character device 0/0, a folder that was made
anew has `user.overlay.opaque`; there are no redirects, no files without their content and no index.

Needs a mount namespace of this process's own (namespace.py).
"""

from __future__ import annotations

import ctypes
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from sandbox.confinement.openat2 import open_pinned
from sandbox.views.namespace import able_to_mount, checked

UPPER: Final = "upper"
WORK: Final = "work"
MERGED: Final = "merged"

_OPTIONS: Final = "userxattr,index=off,metacopy=off"
_MS_RDONLY: Final = 0x1
_MS_NOSUID: Final = 0x2
_MS_NODEV: Final = 0x4
_UMOUNT_NOFOLLOW: Final = 0x8
_MNT_DETACH: Final = 0x2
_OVERLAYFS: Final = 0x794C7630
# On others (network, FUSE, another overlay) what lies below may change by itself, or not be seen as it is.
_LOCAL: Final = {
    0xEF53: "ext4",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0xF2F52010: "f2fs",
    0x01021994: "tmpfs",
    0xCA451A4E: "bcachefs",
    0x2FC12FC1: "zfs",
}
_LOOKED_AT: Final = 200
"""Entries of the folder among which a file is looked for that the trial may delete through the view."""


class NoOverlayError(Exception):
    """An overlay cannot be used here; a copy can. Its text says why."""


def mount(lower: int, folder: Path) -> Path:
    """Mount a view of the folder that the descriptor `lower` names, in the new, empty `folder`; return `merged`.

    It was tried before: what is made and deleted through it leaves the original as it is. Raises NoOverlayError;
    nothing of it is left in `folder` then.
    """
    if why := hindrance(lower):
        raise NoOverlayError(why)
    names = (UPPER, WORK, MERGED)
    merged = folder / MERGED
    try:
        for name in names:
            (folder / name).mkdir(mode=0o700)
        _like(lower, folder / UPPER)
        with able_to_mount():
            with _mounted(lower, folder):
                _try(lower, folder)
            _clear(folder)
            _mount(lower, folder)
    except OSError as problem:
        with suppress(OSError):
            _clear(folder)
            for name in names:
                (folder / name).rmdir()
        raise NoOverlayError(problem.strerror or str(problem)) from problem
    return merged


def hindrance(lower: int) -> str:
    """Return why the folder that the descriptor `lower` names gets no overlay, as far as looking tells; else ""."""
    if _file_system(lower) not in _LOCAL:
        return "it is on a file system that is not this machine's own"
    if _holds_a_mount(Path(f"/proc/self/fd/{lower}").readlink()):
        return "another file system is mounted inside"
    return ""


@contextmanager
def mounted_to_read(lower: int, folder: Path) -> Iterator[Path]:
    """Mount a view once more that its run has left, for reading alone: nothing is written to its folders.

    Raises OSError.
    """
    merged = folder / MERGED
    opened: list[int] = []
    try:
        opened += [open_pinned(folder / UPPER), open_pinned(merged)]
        upper, target = (f"/proc/self/fd/{descriptor}" for descriptor in opened)
        options = f"lowerdir={upper}:/proc/self/fd/{lower},{_OPTIONS}"
        libc = ctypes.CDLL(None, use_errno=True)
        flags = ctypes.c_ulong(_MS_NOSUID | _MS_NODEV | _MS_RDONLY)
        with able_to_mount():
            checked(libc.mount(b"overlay", target.encode(), b"overlay", flags, options.encode()))
    finally:
        for descriptor in opened:
            os.close(descriptor)
    try:
        yield merged
    finally:
        unmount(folder)


def unmount(folder: Path) -> None:
    """Unmount the view in `folder`, once its last user has ended. Raises OSError where there is none."""
    libc = ctypes.CDLL(None, use_errno=True)
    at = os.fsencode(folder / MERGED)
    with able_to_mount():
        if libc.umount2(at, _UMOUNT_NOFOLLOW) != 0:
            # A namespace that is being torn down may still hold it.
            checked(libc.umount2(at, _UMOUNT_NOFOLLOW | _MNT_DETACH))


def _mount(lower: int, folder: Path) -> None:
    opened: list[int] = []
    try:
        for name in (UPPER, WORK, MERGED):
            opened.append(open_pinned(folder / name))
        # By descriptors: a colon or comma in a name would be read as an option's end.
        below, upper, work, merged = (f"/proc/self/fd/{descriptor}" for descriptor in (lower, *opened))
        options = f"lowerdir={below},upperdir={upper},workdir={work},{_OPTIONS}"
        libc = ctypes.CDLL(None, use_errno=True)
        flags = ctypes.c_ulong(_MS_NOSUID | _MS_NODEV)
        checked(libc.mount(b"overlay", merged.encode(), b"overlay", flags, options.encode()))
    finally:
        for descriptor in opened:
            os.close(descriptor)


@contextmanager
def _mounted(lower: int, folder: Path) -> Iterator[None]:
    _mount(lower, folder)
    try:
        yield
    finally:
        unmount(folder)


def _like(lower: int, upper: Path) -> None:
    """The top of an overlay has mode and owner of the upper folder: those of the original, as the run knows it."""
    about = os.fstat(lower)
    if os.geteuid() == 0:
        os.chown(upper, about.st_uid, about.st_gid)
    upper.chmod(about.st_mode & 0o1777)


def _try(lower: int, folder: Path) -> None:
    """Make and delete something through the view. Raises OSError unless all of it stays in `upper`."""
    merged = open_pinned(folder / MERGED)
    upper = open_pinned(folder / UPPER)
    try:
        if _file_system(merged) != _OVERLAYFS:
            raise OSError(0, "nothing was mounted")
        made = f".trial-{secrets.token_hex(8)}"
        os.close(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=merged))
        if not _there(made, upper) or _there(made, lower):
            raise OSError(0, "what is made in it does not stay in the view")
        os.unlink(made, dir_fd=merged)
        if _there(made, upper):
            raise OSError(0, "what is deleted in it stays")
        name = _some_file(lower)
        if name is None:
            return
        before = os.stat(name, dir_fd=lower, follow_symlinks=False)
        os.unlink(name, dir_fd=merged)
        after = os.stat(name, dir_fd=lower, follow_symlinks=False)
        mark = os.stat(name, dir_fd=upper, follow_symlinks=False)
        if (before.st_ino, before.st_ctime_ns) != (after.st_ino, after.st_ctime_ns) or _there(name, merged):
            raise OSError(0, "what is deleted in it does not stay in the view")
        if not stat.S_ISCHR(mark.st_mode) or mark.st_rdev != 0:
            raise OSError(0, "a deletion is not marked as it should be")
    finally:
        os.close(merged)
        os.close(upper)


def _there(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _some_file(folder: int) -> str | None:
    user = os.geteuid()
    reading = os.open(f"/proc/self/fd/{folder}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with os.scandir(reading) as entries:
            for number, entry in enumerate(entries):
                if number == _LOOKED_AT:
                    break
                # Another user's file in a sticky folder may be deleted by nobody else.
                if entry.is_file(follow_symlinks=False) and user in (0, entry.stat(follow_symlinks=False).st_uid):
                    return entry.name
    finally:
        os.close(reading)
    return None


def _clear(folder: Path) -> None:
    """Remove what a trial left: marks in `upper`, and the kernel's own folders in `work`."""
    for path in (folder / UPPER).iterdir():
        path.unlink()
    for path in (folder / WORK).iterdir():
        path.chmod(0o700)
        for inner in path.iterdir():
            inner.unlink()
        path.rmdir()


def _file_system(descriptor: int) -> int:
    """The number of the file system's kind (statfs(2))."""
    answer = ctypes.create_string_buffer(512)
    checked(ctypes.CDLL(None, use_errno=True).fstatfs(ctypes.c_int(descriptor), answer))
    return ctypes.c_long.from_buffer(answer).value & 0xFFFFFFFF


def _holds_a_mount(folder: Path) -> bool:
    """Whether something is mounted below `folder`: an overlay shows what lies under it instead."""
    inside = os.fsencode(folder) + b"/"
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        at = line.split(b" ")[4]
        for escape, meant in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
            at = at.replace(escape, meant)
        if at.startswith(inside):
            return True
    return False
