"""Programs of the person's own in `~/.local/bin` and its like, one by one, and the environments that some lead into.

A folder of programs holds scripts, too, and a script may hold a password. So a run sees compiled programs, and those
that `uv tool` and pipx put there; any other one only if its person names it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from peer.machine import looking
from peer.machine.toolchains.installed import Known, Machine, is_system, parts_of, unsafe
from peer.machine.toolchains.values import Part, Toolchain
from peer.trust import own_names

MAX_PROGRAMS: Final = 32
_ELF: Final = b"\x7fELF"
_ENVIRONMENT: Final = ("bin", "lib", "lib64", "include", "share", "pyvenv.cfg")
_FOLDERS: Final = ((".local/bin", "UV_TOOL_BIN_DIR"), (".cargo/bin", ""), ("go/bin", "GOBIN"))
_TOOLS: Final = (("UV_TOOL_DIR", ".local/share/uv/tools", ""), ("PIPX_HOME", ".local/share/pipx", "venvs"))


def own_programs(known: Known, machine: Machine) -> Iterator[Toolchain]:
    """Yield what is seen of each folder of programs, with what those need."""
    for default, variable in _FOLDERS:
        folder = machine.place(variable, default)
        real = Path(os.path.realpath(folder))
        if is_system(real) or unsafe(real, machine):
            continue
        found: dict[str, tuple[Part, ...]] = {}
        for name in looking.names(real):
            if len(found) < MAX_PROGRAMS and (parts := _program(real / name, folder / name, known, machine)):
                found[name] = parts
        if found:
            number = "1 program" if len(found) == 1 else f"{len(found)} programs"
            short = f"~/{default}" if folder == machine.home / default else str(folder)
            parts = tuple(dict.fromkeys(part for each in found.values() for part in each))
            yield Toolchain(f"{number} in {short}", parts, (folder,))


def _program(path: Path, at: Path, known: Known, machine: Machine) -> tuple[Part, ...]:
    """What a program is seen with, itself first; nothing for one that is not seen."""
    trail = looking.trail(path)
    if not trail or not os.access(trail[-1], os.X_OK) or unsafe(trail[-1], machine):
        return ()
    real = trail[-1]
    # A run must not dispatch onward; and rustup's proxies would hide the toolchain that they stand for.
    if real.name == "rustup" or any(own_names.in_words(str(each)) for each in (path, real)):
        return ()
    if real == path and looking.start(real, len(_ELF)) == _ELF:
        return (Part(real, at),)
    if (place := _environment(real, machine)) is None:
        return ()
    environment = real.parent.parent
    python = known.leads_to(looking.trail(environment / "bin/python"))
    seen = [Part(real, at)]
    for name in dict.fromkeys((environment, place)):
        seen += parts_of(environment, name, _ENVIRONMENT)
    return (*seen, *(python[0].toolchain(python[1]).parts if python else ()))


def _environment(real: Path, machine: Machine) -> Path | None:
    """The environment of `uv tool` or pipx that holds a program, as it is named there."""
    for variable, default, inside in _TOOLS:
        named = machine.place(variable, default) / inside
        folder = Path(os.path.realpath(named))
        if real.is_relative_to(folder) and len(real.relative_to(folder).parts) == 3 and real.parent.name == "bin":
            found = real.parent.parent
            return None if unsafe(found, machine) else named / found.name
    return None
