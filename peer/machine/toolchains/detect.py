"""The toolchains that a run in given folders sees: what the project leads to, asks for, or its person uses.

For each language of the project, in this order: the interpreters that its environments and tools lead to, the version
that its files ask for, what PATH leads to, what a manager was told, the system's own, the newest installed. All of them
only choose among what was found below the managers' own folders (installed.py). Nothing is run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from peer.machine import looking
from peer.machine.toolchains import defaults, versions
from peer.machine.toolchains.installed import Installed, Known, Machine, is_system, known
from peer.machine.toolchains.java import debian_java
from peer.machine.toolchains.named import named_toolchain
from peer.machine.toolchains.prefixes import Prefix, prefixes
from peer.machine.toolchains.programs import own_programs
from peer.machine.toolchains.values import TITLES, Found, Kind, Toolchain, bounded, shown
from peer.machine.toolchains.wishes import ENVIRONMENTS, Wish, Wishes, named_by_project, wishes

AUTO: Final = "auto"
NONE: Final = "none"

_KINDS: Final[tuple[Kind, ...]] = ("python", "node", "rust", "go", "java")
_TOOL_FOLDERS: Final = ("bin", *(f"{name}/bin" for name in ENVIRONMENTS))
_PROGRAMS: Final = 400
"""Programs of a project that are looked at."""
_SHEBANG: Final = 256
"""Bytes of a first line that the kernel reads (execve(2))."""
_CONFIG: Final = 4096


def detect(
    folders: Sequence[Path],
    wanted: Sequence[str],
    machine: Machine,
    *,
    found_prefixes: Callable[[Machine], Iterator[Prefix]] = prefixes,
) -> Found:
    """What a run that starts in the first of `folders` (real) sees. Blocking, some tens of milliseconds.

    `wanted`: an edge's words: `auto`, `none`, or paths that its person named.
    """
    found: list[Toolchain] = []
    not_seen: list[str] = []
    if AUTO in wanted:
        search = _Search(known(machine), list(found_prefixes(machine)), machine)
        for folder in folders:
            search.project(folder)
        found += [*search.found, *own_programs(search.known, machine)] if folders else []
        not_seen += search.not_seen
    for path in wanted:
        if path not in (AUTO, NONE):
            named = named_toolchain(path, machine)
            if isinstance(named, Toolchain):
                found.append(named)
            else:
                not_seen.append(named)
    return bounded(found, not_seen)


class _Search:
    """Collects the toolchains of some projects."""

    def __init__(self, installed: Known, places: Sequence[Prefix], machine: Machine) -> None:
        self.known = installed
        self.found: list[Toolchain] = []
        self.not_seen: list[str] = []
        self._places = places
        self._machine = machine
        self._settled: set[Kind] = set()
        self._programs_left = _PROGRAMS

    def project(self, folder: Path) -> None:
        """Add what one folder is run with."""
        asked = wishes(folder)
        self._settled = set()
        self.not_seen += asked.refused
        for place in (folder, *(folder / name for name in looking.names(folder))):
            self._environments(place, folder)
            self._tools(place)
        for kind in _KINDS:
            if kind in asked.kinds and kind not in self._settled:
                self._choose(kind, asked)

    # --- what the project leads to

    def _environments(self, place: Path, folder: Path) -> None:
        for name in ENVIRONMENTS:
            environment = place / name
            at = environment.relative_to(folder)
            if environment.is_symlink() and not self._inside(environment, folder):
                self.not_seen.append(f"{shown(at)} is not visible to a run: it links to a folder outside the project")
            elif looking.names(environment):
                self._environment(environment, at)

    def _environment(self, environment: Path, at: Path) -> None:
        base = versions.environment_home(looking.text(environment / "pyvenv.cfg", _CONFIG))
        python = environment / "bin/python"
        if not base and not python.is_symlink():
            return
        self._settled.add("python")
        trails = [looking.trail(python)] if python.is_symlink() else []
        if base:
            trails.append(looking.trail(Path(os.path.normpath(base))))
        for trail in trails:
            if not trail:
                self.not_seen.append(f"the Python that {shown(at)} uses is not on this machine")
            elif not self._take(trail, "python"):
                why = self._why(trail)
                self.not_seen.append(
                    f"the Python that {shown(at)} uses, {shown(trail[-1])}, is not visible to a run: {why}"
                )

    def _tools(self, place: Path) -> None:
        """Take the toolchains that programs of the project lead to, by links and by their first lines."""
        for folder in _TOOL_FOLDERS:
            for name in looking.names(place / folder):
                program = place / folder / name
                self._programs_left -= 1
                if self._programs_left < 0:
                    return
                if program.is_symlink():
                    trail = looking.trail(program)
                else:
                    words = looking.text(program, _SHEBANG).partition("\n")[0].removeprefix("#!").split()
                    trail = looking.trail(Path(os.path.normpath(words[0]))) if words and words[0][0] == "/" else ()
                if trail and not is_system(trail[-1]):
                    self._take(trail, None)

    # --- what it asks for, and what its person uses

    def _choose(self, kind: Kind, asked: Wishes) -> None:
        missing: list[Wish] = []
        system = defaults.system(kind)
        for wish in (each for each in asked.versions if each.kind == kind):
            if wish.spec == "system":
                break
            if (meant := self._meant(wish)) is not None:
                self._add(meant)
                return
            missing.append(wish)
        else:
            if self._take_from_path(kind):
                system = None
            elif (told := defaults.told(kind, self.known, self._machine)) is not None:
                self._add(told)
                system = None
        self._missed(kind, missing, system)
        if kind in self._settled:
            return
        if system is not None:
            self.found.append(_system_toolchain(kind, system))
        elif newest := max(self.known.of(kind), key=_age, default=None):
            self._add(newest)
        else:
            self.not_seen.append(f"{TITLES[kind]}, which the project needs, was not found")

    def _take_from_path(self, kind: Kind) -> bool:
        """Take what PATH leads to. What it leads to without being a toolchain, as a shim, is passed over."""
        for trail in defaults.on_path(kind, self._machine):
            if is_system(trail[-1]):
                return False
            if self._take(trail, kind):
                self._settled.add(kind)
                return True
        return False

    def _missed(self, kind: Kind, missing: Sequence[Wish], system: Path | None) -> None:
        """Tell of a version that is not here, unless the system's own is it."""
        own = versions.numbers(system.name) if system is not None else ()
        for wish in missing[:1]:
            if not own or versions.numbers(wish.spec)[: len(own)] != own:
                asked = f"{TITLES[kind]} {shown(wish.spec)}, which {wish.source} asks for"
                self.not_seen.append(f"{asked}, is not installed by any version manager here")

    def _meant(self, wish: Wish) -> Installed | None:
        """The installed toolchain that a wish chooses: the newest that fits, of all managers."""
        if wish.spec.startswith(("path:", "ref:", "/", ".")):
            self.not_seen.append(named_by_project(wish.source))
            return None
        fitting: list[Installed] = []
        for manager in dict.fromkeys(each.manager for each in self.known.of(wish.kind)):
            mine = {each.version: each for each in self.known.of(wish.kind) if each.manager == manager}
            mine |= {name.name: each for each in mine.values() for name in each.named if not manager.inside}
            chosen = defaults.choose(wish.kind, wish.spec, mine, manager, self._machine)
            if chosen is None and wish.kind == "go":  # the version in a go.mod is the least that will do
                newest = versions.best("", mine)
                enough = newest is not None and versions.numbers(newest) >= versions.numbers(wish.spec)
                chosen = newest if enough else None
            if chosen is not None:
                fitting.append(mine[chosen])
        return max(fitting, key=_age, default=None)

    # --- adding

    def _take(self, trail: tuple[Path, ...], kind: Kind | None) -> bool:
        """Take the toolchain that a path leads into; False where that is none. `kind` None: whatever it is."""
        if is_system(trail[-1]):
            if kind is not None and trail[-1].is_file():
                self.found.append(_system_toolchain(kind, trail[-1]))
            return True
        if (found := self.known.leads_to(trail)) is not None:
            self._add(*found)
            return True
        for place in self._places:
            if any(hop.is_relative_to(name) for hop in trail for name in (place.root, place.named)):
                self.found.append(_with_programs(place, trail[-1]))
                return True
        return False

    def _add(self, installed: Installed, names: tuple[Path, ...] = ()) -> None:
        """Add a toolchain, seen where a project looks for it: its manager's place, and `names` that led here."""
        manager = installed.manager
        self._settled.add(manager.kind)
        place = self._machine.folder(manager) / installed.version / manager.inside
        self.found.append(installed.toolchain(tuple(dict.fromkeys((*names, place)))))
        if manager.kind == "python" and (installed.root / "pyvenv.cfg").is_file():  # an environment that pyenv keeps
            base = self.known.leads_to(looking.trail(installed.root / "bin/python"))
            if base is not None and base[0] is not installed:
                self._add(*base)

    def _why(self, trail: tuple[Path, ...]) -> str:
        for name, why in self.known.refused.items():
            if any(hop.is_relative_to(name) for hop in trail):
                return why
        return "no version manager that dispatch knows installed it"

    @staticmethod
    def _inside(path: Path, folder: Path) -> bool:
        trail = looking.trail(path)
        return bool(trail) and trail[-1].is_relative_to(folder)


def _with_programs(place: Prefix, program: Path) -> Toolchain:
    """A prefix, with the folder of the program that led there on PATH."""
    folders = dict.fromkeys((*place.toolchain.programs, *((program.parent,) if program.parent.name == "bin" else ())))
    return Toolchain(place.toolchain.label, place.toolchain.parts, tuple(folders))


def _system_toolchain(kind: Kind, program: Path) -> Toolchain:
    """The system's own program of a language, which every run sees; of Java also what it reads below /etc."""
    number = ".".join(map(str, versions.numbers(program.name)))
    label = f"{TITLES[kind]}{f' {number}' if number else ''} (the system's)"
    return debian_java(label, program) if kind == "java" else Toolchain(label)


def _age(installed: Installed) -> tuple[tuple[int, ...], str]:
    """Sorts the newest last; of channels, which have no numbers, `stable`."""
    return versions.numbers(installed.version), installed.version
