"""A Landlock domain by ctypes: writes only below given folders, no abstract sockets to the outside.

Its source is also bound into the shell zone, where the server imports it; so it uses the standard library alone. Being
in a domain closes by itself (ABI 1) every access that asks for ptrace permission on a process outside it: its memory,
environment, descriptors, maps. Signals are not scoped: a later command may end what an earlier one left running. Kernel
documentation: https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
LEAST_ABI = 2
"""The first version under which files can be renamed from one folder to another, without which no build works."""

_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_SCOPE_ABSTRACT_UNIX_SOCKET = 1
_PR_SET_NO_NEW_PRIVS = 38

# WRITE_FILE, REMOVE_DIR, REMOVE_FILE, MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM, REFER
_WRITES = 1 << 1 | sum(1 << bit for bit in range(4, 14))
_WRITE_FILE, _TRUNCATE = 1 << 1, 1 << 14
_ABI_OF_TRUNCATE, _ABI_OF_SCOPES = 3, 6


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("access", ctypes.c_uint64), ("parent", ctypes.c_int32))


def _call(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result = int(libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        problem = ctypes.get_errno()
        raise OSError(problem, os.strerror(problem))
    return result


def abi() -> int:
    """The Landlock version of this kernel; 0 where there is none or it is switched off.

    Asks the kernel, not /sys, which may be unmounted.
    """
    try:
        return _call(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_CREATE_RULESET_VERSION))
    except OSError:
        return 0


def restrict(writable: Iterable[str | int]) -> None:
    """Put this process, and all it starts from now on, into a domain that may write only below `writable`.

    A number is a descriptor, of a file that stays writable by `/dev/stdout` and the like. Missing ones are skipped.
    What this kernel's version does not know is left out; `LEAST_ABI` is needed. Also sets no_new_privs. Not reversible.
    Raises OSError where the kernel refuses.
    """
    version = abi()
    truncate = _TRUNCATE if version >= _ABI_OF_TRUNCATE else 0
    scopes = _SCOPE_ABSTRACT_UNIX_SOCKET if version >= _ABI_OF_SCOPES else 0
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")
    rules = _Ruleset(_WRITES | truncate, 0, scopes)
    # An older kernel takes a longer structure as long as what it does not know is zero.
    ruleset = _call(CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(ctypes.sizeof(rules)), ctypes.c_uint32(0))
    try:
        for path in writable:
            try:
                parent = os.open(path, os.O_PATH | os.O_CLOEXEC) if isinstance(path, str) else os.dup(path)
            except FileNotFoundError:
                continue
            try:
                folder = os.path.isdir(path)  # noqa: PTH112 - pathlib costs a third of this program's start
                beneath = _PathBeneath(truncate | (_WRITES if folder else _WRITE_FILE), parent)
                _call(
                    ADD_RULE,
                    ctypes.c_int(ruleset),
                    ctypes.c_int(_RULE_PATH_BENEATH),
                    ctypes.byref(beneath),
                    ctypes.c_uint32(0),
                )
            finally:
                os.close(parent)
        _call(RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)
