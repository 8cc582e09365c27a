"""What version managers have installed below their own folders, and what of it a run would see.

A toolchain is its layout: bin, lib, libexec, include, share. Configuration (`etc/npmrc`, `pip.conf`) is not part of it,
and neither is anything else of a manager: a run sees no shim and starts no manager.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, Self

from peer.machine import looking
from peer.machine.toolchains.values import TITLES, Kind, Part, Toolchain, shown
from peer.machine.toolchains.versions import numbers

_LAYOUT: Final = ("bin", "lib", "lib64", "libexec", "include", "share")
_MORE: Final[Mapping[Kind, tuple[str, ...]]] = {
    # Parts of the distribution that no program of it starts without.
    "python": ("pyvenv.cfg",),  # of an environment that pyenv keeps among its versions
    "go": ("pkg", "src", "VERSION"),
    "java": ("jmods", "release", "conf/security", "jre/bin", "jre/lib"),
}
_CONFIGURATION: Final = ("lib/node_modules/npm/npmrc",)
"""Settings that lie inside a layout, where a token may be: a toolchain that has them is not seen."""

SYSTEM: Final = tuple(Path("/", name) for name in ("usr", "bin", "sbin", "lib", "lib64"))
"""What a run sees in any case."""


class Manager(NamedTuple):
    """Where a manager keeps versions: `folder`/`versions`/VERSION/`inside` is a toolchain.

    `folder` is relative to the home folder, unless the person's environment names another by `variable`.
    """

    name: str
    kind: Kind
    variable: str
    folder: str
    versions: str = ""
    inside: str = ""
    begins: str = ""


MANAGERS: Final = (
    Manager("uv", "python", "UV_PYTHON_INSTALL_DIR", ".local/share/uv/python"),
    Manager("pyenv", "python", "PYENV_ROOT", ".pyenv", "versions"),
    Manager("nvm", "node", "NVM_DIR", ".nvm", "versions/node"),
    Manager("fnm", "node", "FNM_DIR", ".local/share/fnm", "node-versions", "installation"),
    Manager("volta", "node", "VOLTA_HOME", ".volta", "tools/image/node"),
    Manager("rustup", "rust", "RUSTUP_HOME", ".rustup", "toolchains"),
    Manager("go", "go", "", "sdk", begins="go"),
    Manager("sdkman", "java", "SDKMAN_DIR", ".sdkman", "candidates/java"),
    Manager("mise", "python", "MISE_DATA_DIR", ".local/share/mise", "installs/python"),
    Manager("mise", "node", "MISE_DATA_DIR", ".local/share/mise", "installs/node"),
    Manager("mise", "go", "MISE_DATA_DIR", ".local/share/mise", "installs/go"),
    Manager("mise", "java", "MISE_DATA_DIR", ".local/share/mise", "installs/java"),
    Manager("asdf", "python", "ASDF_DATA_DIR", ".asdf", "installs/python"),
    Manager("asdf", "node", "ASDF_DATA_DIR", ".asdf", "installs/nodejs"),
    Manager("asdf", "rust", "ASDF_DATA_DIR", ".asdf", "installs/rust"),
    Manager("asdf", "go", "ASDF_DATA_DIR", ".asdf", "installs/golang", "go"),
    Manager("asdf", "java", "ASDF_DATA_DIR", ".asdf", "installs/java"),
)


@dataclass(frozen=True, slots=True)
class Machine:
    """This machine as its person has it. `home` as it is named; `env`: of this process; `hidden`: state folders."""

    home: Path
    env: Mapping[str, str]
    hidden: tuple[Path, ...] = ()

    @classmethod
    def here(cls, hidden: tuple[Path, ...]) -> Self:
        """The machine that this process runs on."""
        return cls(Path.home(), os.environ, hidden)

    def folder(self, manager: Manager) -> Path:
        """The folder below which a manager keeps versions, as it is named."""
        return self.root(manager) / manager.versions

    def root(self, manager: Manager) -> Path:
        """The manager's own folder."""
        return self.place(manager.variable, manager.folder)

    def place(self, variable: str, default: str) -> Path:
        """A folder of the person's that a variable of their environment may name."""
        named = Path(self.env.get(variable, ""))
        if variable and named.is_absolute():
            return Path(os.path.normpath(named))
        data = Path(self.env.get("XDG_DATA_HOME", ""))
        if default.startswith(".local/share/") and data.is_absolute():
            return data / default.removeprefix(".local/share/")
        return self.home / default


@dataclass(slots=True)
class Installed:
    """One installed toolchain. `root` is real; `named`: the places in the manager's folder that lead to it."""

    manager: Manager
    version: str
    root: Path
    named: list[Path] = field(default_factory=list)

    @property
    def label(self) -> str:
        version = self.version.split("-")[0] if self.manager.kind == "rust" else _version(self.version)
        return f"{TITLES[self.manager.kind]} {version} ({self.manager.name})"

    def toolchain(self, names: tuple[Path, ...] = ()) -> Toolchain:
        """What a run sees of it. `names`: those of `named` by which a project leads to it."""
        parts = tuple(
            part
            for place in dict.fromkeys((*names, self.root))
            for part in parts_of(self.root, place, (*_LAYOUT, *_MORE.get(self.manager.kind, ())))
        )
        place = names[0] if names else self.root
        return Toolchain(self.label, parts, (place / "bin",), self._variables(place))

    def _variables(self, place: Path) -> tuple[tuple[str, str], ...]:
        if self.manager.name == "uv":
            return (("UV_PYTHON_INSTALL_DIR", str(place.parent)),)
        if self.manager.kind == "go":
            return (("GOROOT", str(place)),)
        if self.manager.kind == "java":
            return (("JAVA_HOME", str(place)),)
        return ()


@dataclass(slots=True)
class Known:
    """All that the managers have installed. `refused`: named place → why it is not seen."""

    toolchains: list[Installed] = field(default_factory=list)
    refused: dict[Path, str] = field(default_factory=dict)

    def of(self, kind: Kind) -> list[Installed]:
        return [each for each in self.toolchains if each.manager.kind == kind]

    def leads_to(self, trail: tuple[Path, ...]) -> tuple[Installed, tuple[Path, ...]] | None:
        """The toolchain in which a path ends, and the names of it that the path passes."""
        if not trail:
            return None
        for each in sorted(self.toolchains, key=lambda one: -len(one.root.parts)):
            if trail[-1].is_relative_to(each.root):
                passed = (name for name in each.named for hop in trail if hop.is_relative_to(name))
                return each, tuple(name for name in dict.fromkeys(passed) if name != each.root)
        return None


def known(machine: Machine) -> Known:
    """Look into every manager's folder. Blocking, some milliseconds."""
    found = Known()
    by_root: dict[Path, Installed] = {}
    for manager in MANAGERS:
        folder = machine.folder(manager)
        real = Path(os.path.realpath(folder))
        if not real.is_dir():
            continue
        if why := unsafe(real, machine):
            found.refused[folder] = why
            continue
        for name in looking.names(real):
            if not name.startswith(manager.begins):
                continue
            named, root = folder / name / manager.inside, Path(os.path.realpath(real / name / manager.inside))
            if not root.is_dir() or is_system(root):
                continue
            if why := _outside(root, real) or unsafe(root, machine):
                found.refused[named] = why
                continue
            if root not in by_root:
                by_root[root] = Installed(manager, name, root)
                found.toolchains.append(by_root[root])
            entry = by_root[root]
            entry.named.append(named)
            if not (real / name).is_symlink():
                entry.version = name
    for root, each in by_root.items():
        if any((root / name).exists() for name in _CONFIGURATION):
            found.toolchains.remove(each)
            found.refused |= dict.fromkeys(each.named, "it contains settings (npmrc) that may hold a token")
    return found


def parts_of(root: Path, place: Path, layout: tuple[str, ...]) -> Iterator[Part]:
    """The parts of the layout that are there, to be seen below `place`; no link leads one out of `root`."""
    for name in layout:
        real = Path(os.path.realpath(root / name))
        if real != root and real.is_relative_to(root) and real.exists() and (real.is_dir() or real.is_file()):
            yield Part(real, place / name)


def is_system(path: Path) -> bool:
    """Whether a run sees this path in any case."""
    return any(path.is_relative_to(folder) for folder in SYSTEM)


def unsafe(path: Path, machine: Machine) -> str:
    """Why a real path may not be shown, "" if it may."""
    try:
        about = path.stat()
    except (OSError, ValueError):
        return "it cannot be read"
    if about.st_uid not in (0, os.geteuid()):
        return "it belongs to another user"
    if about.st_mode & stat.S_IWOTH:
        return "every user of this machine can write to it"
    home = Path(os.path.realpath(machine.home))
    if home.is_relative_to(path):
        return "it contains your home folder"
    for hidden in (Path(os.path.realpath(folder)) for folder in machine.hidden):
        if hidden.is_relative_to(path) or path.is_relative_to(hidden):
            return "dispatch keeps its own state there"
    return ""


def _outside(root: Path, folder: Path) -> str:
    inside = root != folder and root.is_relative_to(folder)
    return "" if inside else f"it leads out of its manager's folder, to {shown(root)}"


def _version(name: str) -> str:
    return ".".join(map(str, numbers(name))) or name
