"""Which version its person uses where a project asks for none: by PATH, then by what each manager was told.

A shim is no program here: it stands for what its manager was told. The managers' own settings are read for that one
word, and a run sees none of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from peer.machine import looking
from peer.machine.toolchains import versions
from peer.machine.toolchains.installed import Installed, Known, Machine, Manager, is_system
from peer.machine.toolchains.values import Kind

MOST: Final = 64 * 1024
_ALIASES: Final = 8
_ALIAS: Final = re.compile(r"[A-Za-z0-9._*-]{1,40}(?:/[A-Za-z0-9._*-]{1,40})?")

PROGRAMS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "python": ("python3", "python"),
    "node": ("node",),
    "rust": ("cargo",),
    "go": ("go",),
    "java": ("java",),
}
"""The program of a language, as it is looked for on PATH."""
_PATH_ENTRIES: Final = 64


def on_path(kind: Kind, machine: Machine) -> list[tuple[Path, ...]]:
    """Where PATH leads for a language: the trail of each program of it, in order."""
    entries = [Path(entry) for entry in machine.env.get("PATH", "").split(":")[:_PATH_ENTRIES] if entry.startswith("/")]
    found = (looking.trail(entry / name) for entry in entries for name in PROGRAMS[kind])
    return [trail for trail in found if trail]


def system(kind: Kind) -> Path | None:
    """The system's own program of a language, by its real path, where there is one."""
    for folder in (Path("/usr/local/bin"), Path("/usr/bin")):
        for name in PROGRAMS[kind]:
            real = Path(os.path.realpath(folder / name))
            if real.is_file() and is_system(real):
                return real
    return None


def told(kind: Kind, known: Known, machine: Machine) -> Installed | None:
    """What the first manager that has this language was told to use. None also where that is the system's."""
    for each in known.of(kind):
        spec = _TOLD[each.manager.name](each.manager, machine)
        mine = {one.version: one for one in known.of(kind) if one.manager == each.manager}
        if name := choose(kind, spec, mine, each.manager, machine):
            return mine[name]
    return None


def choose(kind: Kind, spec: str, installed: Mapping[str, object], manager: Manager, machine: Machine) -> str | None:
    """The installed version that a word means to a manager; None where that is none of them."""
    if not spec or spec == "system":
        return None
    if kind == "rust":
        return versions.rust(spec, installed)
    if kind == "node":
        spec = _node(spec, machine, manager)
        if spec in ("node", "stable", "latest", "current"):
            return versions.best("", installed)
        spec = spec.removeprefix("v") if spec not in installed else spec
        return versions.best(spec, installed, families=False)
    return versions.best(spec, installed, families=kind == "python")


def _node(spec: str, machine: Machine, manager: Manager) -> str:
    """`spec` with nvm's aliases followed ("lts/iron", "default"): each is a file with the next word."""
    if manager.name != "nvm":
        return spec
    for _ in range(_ALIASES):
        if versions.numbers(spec) or not _ALIAS.fullmatch(spec):
            return spec
        following = versions.lines(looking.text(machine.root(manager) / "alias" / spec, MOST))
        if not following:
            return spec
        spec = following[0]
    return spec


def _first_line(name: str) -> Callable[[Manager, Machine], str]:
    def read(manager: Manager, machine: Machine) -> str:
        return next(iter(versions.lines(looking.text(machine.root(manager) / name, MOST))), "")

    return read


def _link(name: str) -> Callable[[Manager, Machine], str]:
    """The version that a link beside the others stands for."""

    def read(manager: Manager, machine: Machine) -> str:
        real = Path(os.path.realpath(machine.root(manager) / name))
        return real.parent.name if manager.inside and real.name == manager.inside else real.name

    return read


def _rustup(manager: Manager, machine: Machine) -> str:
    return versions.toml_member(looking.text(machine.root(manager) / "settings.toml", MOST), "default_toolchain")


def _volta(manager: Manager, machine: Machine) -> str:
    platform = looking.text(machine.root(manager) / "tools/user/platform.json", MOST)
    return versions.member(platform, "node", "runtime")


def _asdf(manager: Manager, machine: Machine) -> str:
    tools = versions.tool_versions(looking.text(machine.home / ".tool-versions", MOST))
    return next(iter(tools.get(Path(manager.versions).name, [])), "")


def _mise(manager: Manager, machine: Machine) -> str:
    settings = Path(machine.env.get("XDG_CONFIG_HOME", "") or machine.home / ".config") / "mise/config.toml"
    tools = versions.mise(looking.text(settings, MOST))
    return next(iter(tools.get(manager.kind, [])), "")


def _nothing(manager: Manager, machine: Machine) -> str:
    return ""


_TOLD: Final[Mapping[str, Callable[[Manager, Machine], str]]] = {
    "uv": _nothing,
    "pyenv": _first_line("version"),
    "nvm": _first_line("alias/default"),
    "fnm": _link("aliases/default"),
    "volta": _volta,
    "rustup": _rustup,
    "go": _nothing,
    "sdkman": _link("candidates/java/current"),
    "mise": _mise,
    "asdf": _asdf,
}
