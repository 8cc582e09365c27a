"""Homebrew and Nix: one place for all programs, of which a run sees the layout, whatever it needs of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from peer.machine.toolchains.installed import Machine, parts_of, unsafe
from peer.machine.toolchains.values import Part, Toolchain


class Prefix(NamedTuple):
    """A place that is seen where a project, or PATH for a language of it, leads into it."""

    root: Path
    named: Path
    toolchain: Toolchain


_BREW: Final = ("bin", "sbin", "lib", "libexec", "include", "share", "opt", "Cellar")
NIX: Final = Path("/nix/store")
"""Every user of the machine reads it: Nix keeps no secrets there."""
BREWS: Final = (Path("/home/linuxbrew/.linuxbrew"),)


def prefixes(machine: Machine, *, brews: tuple[Path, ...] = BREWS, nix: Path = NIX) -> Iterator[Prefix]:
    """Yield those of this machine."""
    for named in (*brews, machine.home / ".linuxbrew"):
        root = Path(os.path.realpath(named))
        if root.is_dir() and not unsafe(root, machine):
            parts = [part for place in dict.fromkeys((root, named)) for part in parts_of(root, place, _BREW)]
            yield Prefix(root, named, Toolchain("Homebrew", tuple(parts), (named / "bin",)))
    if nix.is_dir() and not nix.is_symlink() and not unsafe(nix, machine):
        yield Prefix(nix, nix, Toolchain("the Nix store", (Part(nix, nix),)))
