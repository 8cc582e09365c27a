"""dp-agent's own mount namespace, in which a run's views are mounted: nobody else on this machine sees them, and they
go with the process, however it ends. What is mounted there is overlay.py's. `python -m sandbox.views.namespace` prints
what `enter` returns, for a program that must not enter one itself.

An ordinary user's process has every capability in its own user namespace. They are set aside here, so that it may open
no more than before, and taken up only to mount (`able_to_mount`).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWUSER: Final = 0x10000000
_MS_REC: Final = 0x4000
_MS_SLAVE: Final = 1 << 19
_CAPABILITY_VERSION: Final = 0x20080522


def enter() -> str:
    """Put this process into a mount namespace of its own; return "", or why that cannot be, as a sentence's part.

    Call it before there is a second thread: the kernel makes no user namespace for a process with several. An ordinary
    user gets a user namespace too, in which they are who they were. What is mounted on this machine meanwhile still
    appears, and nothing that is mounted here leaves. Where it is refused, this process is as it was before.
    """
    try:
        if os.geteuid() == 0:
            _enter()
        elif problem := _refusal():
            return f"no namespace of its own: {os.strerror(problem)}"
        else:
            _enter()
    except OSError as error:
        return f"no namespace of its own: {error.strerror}"
    return ""


@contextmanager
def able_to_mount() -> Iterator[None]:
    """Let this thread use what it may in the namespace that `enter` made. Raises OSError where it is in none."""
    if os.geteuid() == 0:
        yield
        return
    before = _use_capabilities(all_permitted=True)
    try:
        yield
    finally:
        if not before:
            _use_capabilities(all_permitted=False)


def _refusal() -> int:
    """The error number with which a child of this process fails to enter, or 0.

    A process that got its user namespace and may then do nothing in it, as AppArmor has it on some systems, cannot go
    back; so a child tries first.
    """
    child = os.fork()
    if child == 0:
        status = 255
        try:
            _enter()
            status = 0
        except OSError as error:
            status = error.errno or 255
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _enter() -> None:
    user, group = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if user == 0:
        checked(libc.unshare(ctypes.c_int(_CLONE_NEWNS)))
    else:
        checked(libc.unshare(ctypes.c_int(_CLONE_NEWNS | _CLONE_NEWUSER)))
        own = Path("/proc/self")
        (own / "setgroups").write_text("deny")
        (own / "uid_map").write_text(f"{user} {user} 1")
        (own / "gid_map").write_text(f"{group} {group} 1")
    flags = ctypes.c_ulong(_MS_REC | _MS_SLAVE)
    checked(libc.mount(ctypes.c_char_p(b"none"), ctypes.c_char_p(b"/"), None, flags, None))
    if user != 0:
        _use_capabilities(all_permitted=False)


def _use_capabilities(*, all_permitted: bool) -> bool:
    """Make effective all of this thread's permitted capabilities (capset(2)), or none; whether any were before."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, for the first 32 and for the others
    checked(libc.capget(header, sets))
    before = bool(sets[0] or sets[3])
    for half in (0, 3):
        sets[half] = sets[half + 1] if all_permitted else 0
    checked(libc.capset(header, sets))
    return before


def checked(result: int) -> None:
    """Raise OSError for the result of a C function that says that it failed."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    print(enter())  # noqa: T201
