"""What a project asks for, by its files: which languages, which versions. Words only; what they choose from: detect.py.

Project files are written by whoever wrote the project, a run's applied changes among them. So each is read in a bounded
way, through no link, and of what it says only a version counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from peer.machine import looking
from peer.machine.toolchains import versions
from peer.machine.toolchains.values import Kind

MOST: Final = 64 * 1024
"""Bytes of a file that are read. A file of versions has a few; a package.json some thousand."""

MARKERS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "python": ("pyproject.toml", "setup.py", "setup.cfg", "requirements.txt", "Pipfile", "tox.ini", ".venv", "venv"),
    "node": ("package.json",),
    "rust": ("Cargo.toml",),
    "go": ("go.mod", "go.work"),
    "java": ("pom.xml", "build.gradle", "build.gradle.kts", "build.xml"),
}
"""A project with one of them is run with that language, whether it asks for a version or not."""

ENVIRONMENTS: Final = (".venv", "venv")
"""Folders of a Python environment inside a project."""


class Wish(NamedTuple):
    """A version that a project asks for, and where it says so. `spec` "" is any."""

    kind: Kind
    spec: str
    source: str


class Wishes(NamedTuple):
    """`kinds`: the languages of a project. `versions`: what it asks for, the strongest first. `refused`: sentences."""

    kinds: frozenset[Kind]
    versions: tuple[Wish, ...]
    refused: tuple[str, ...]


def wishes(folder: Path) -> Wishes:
    """What the project in `folder`, and those in its folders, ask for. Blocking, some milliseconds."""
    kinds: set[Kind] = set()
    found: list[Wish] = []
    refused: list[str] = []
    for place in (folder, *(folder / name for name in looking.names(folder))):
        here = set(looking.names(place))
        kinds |= {kind for kind, markers in MARKERS.items() if here.intersection(markers)}
        if here:
            found += _versions(place, here)
            refused += _refused(place, here)
    kinds |= {wish.kind for wish in found}
    return Wishes(frozenset(kinds), tuple(found), tuple(refused))


def named_by_project(source: str) -> str:
    """What is said of a path in a project's file."""
    return f"the path in {source} is ignored: a project cannot choose what a run sees of this machine"


def _versions(place: Path, here: set[str]) -> Iterator[Wish]:
    """Yield what one folder asks for. What a manager of one language reads comes before what one of many reads."""

    def lines(name: str) -> list[str]:
        return versions.lines(looking.text(place / name, MOST)) if name in here else []

    for spec in lines(".python-version")[:1]:
        yield Wish("python", spec, ".python-version")
    for name in (".nvmrc", ".node-version"):
        for spec in lines(name)[:1]:
            yield Wish("node", spec, name)
    for spec in lines(".java-version")[:1]:
        yield Wish("java", spec, ".java-version")
    if spec := versions.key_value(_text(place, ".sdkmanrc", here), "java"):
        yield Wish("java", spec, ".sdkmanrc")
    if spec := versions.member(_text(place, "package.json", here), "volta", "node"):
        yield Wish("node", spec, "package.json")
    for name in ("rust-toolchain.toml", "rust-toolchain"):
        channel, _ = versions.rust_toolchain(_text(place, name, here))
        if channel:
            yield Wish("rust", channel, name)
    if spec := versions.go_toolchain(_text(place, "go.mod", here)):
        yield Wish("go", spec, "go.mod")
    yield from _of_all(versions.tool_versions(_text(place, ".tool-versions", here)), ".tool-versions")
    for name in ("mise.toml", ".mise.toml"):
        yield from _of_all(versions.mise(_text(place, name, here)), name)


_TOOLS: Final[Mapping[str, Kind]] = {
    **{"python": "python", "node": "node", "nodejs": "node", "rust": "rust", "go": "go", "golang": "go"},
    "java": "java",
}


def _of_all(tools: Mapping[str, list[str]], source: str) -> Iterator[Wish]:
    for tool, specs in tools.items():
        kind = _TOOLS.get(tool)
        if kind is not None and specs:
            yield Wish(kind, specs[0], source)


def _refused(place: Path, here: set[str]) -> Iterator[str]:
    for name in ("rust-toolchain.toml", "rust-toolchain"):
        if versions.rust_toolchain(_text(place, name, here))[1]:
            yield named_by_project(name)


def _text(place: Path, name: str, here: set[str]) -> str:
    return looking.text(place / name, MOST) if name in here else ""
