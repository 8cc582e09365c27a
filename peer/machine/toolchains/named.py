"""Paths that a person adds to what runs see of toolchains: `--toolchains auto,/opt/tool`. No project names one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from peer.machine import looking
from peer.machine.toolchains.installed import Machine, is_system, unsafe
from peer.machine.toolchains.values import Part, Toolchain, shown
from peer.protocol.errors import DispatchError, Invalid
from peer.trust import paths
from peer.trust.filesystem import LocalFacts

_PROGRAM_FOLDERS: Final = (".local/bin", ".cargo/bin", "bin", "go/bin")
"""Of these, whose other files may hold secrets, a single program can be named."""


def check_named(named: str, machine: Machine) -> str:
    """Return the real path of what a run may see. Raises Invalid with the reason and a fix. Blocking.

    A folder is one that could be granted to a run as well, a file is a program.
    """
    trail = looking.trail(Path(os.path.normpath(named))) if named.startswith("/") else ()
    if not trail:
        raise _refusal(named, "it does not exist", "give its full path, starting with /")
    real = trail[-1]
    if is_system(real):
        raise _refusal(named, "every run sees the system's programs already", "leave it out")
    if why := unsafe(real, machine):
        raise _refusal(named, why, "name a narrower folder")
    if real.is_dir():
        _check_folder(named, real, machine, fix="name a folder that contains only programs and libraries")
    elif not real.is_file() or not os.access(real, os.X_OK):
        raise _refusal(named, "it is neither a folder nor a program", "name a folder or a program")
    elif real.parent not in {Path(os.path.realpath(machine.home)) / folder for folder in _PROGRAM_FOLDERS}:
        _check_folder(named, real.parent, machine, fix="move the program to ~/.local/bin")
    return str(real)


def named_toolchain(path: str, machine: Machine) -> Toolchain | str:
    """What a run sees of a path that was checked when it was named; or why it is not seen any more."""
    try:
        if check_named(path, machine) != path:
            return f"{shown(path)} is not visible to a run: it leads elsewhere now than when you named it"
    except DispatchError as error:
        return f"{shown(path)} is not visible to a run: {error.message}"
    place = Path(path)
    programs = next(folder for folder in (place / "bin", place, place.parent) if folder.is_dir())
    return Toolchain(shown(place), (Part(place, place),), (programs,))


def _check_folder(named: str, folder: Path, machine: Machine, *, fix: str) -> None:
    try:
        paths.check_root(str(folder), LocalFacts(home=machine.home, states=machine.hidden, env=machine.env))
    except DispatchError as error:
        raise _refusal(named, error.message, fix) from error


def _refusal(named: str, why: str, fix: str) -> Invalid:
    return Invalid(f"a run cannot be shown {shown(named)}: {why}", fix=fix)
