"""Finds projects below the configured roots and reads their descriptions. Storing them: index.py.

A project is a folder with a marker (a repository or a manifest). The walk does not descend into a project, except into
a root: a root may be a repository that contains others. It follows no links, skips hidden folders and those that tools
generate, and is bounded in depth, folders, projects and time.
"""

import json
import os
import re
import stat
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from peer.protocol.documents import Document

MARKERS: Final = (
    ".git", ".hg", ".jj", ".svn", "pyproject.toml", "setup.py", "package.json", "Cargo.toml", "go.mod", "pom.xml",
    "build.gradle", "build.gradle.kts", "Gemfile", "composer.json", "mix.exs", "CMakeLists.txt", "Makefile",
    "meson.build", "Package.swift", "pubspec.yaml", "deno.json", "stack.yaml", "dune-project", "flake.nix",
    "Project.toml", "DESCRIPTION",
)  # fmt: skip
READMES: Final = ("README.md", "README.rst", "README.txt", "README", "readme.md", "Readme.md")
SKIPPED: Final = frozenset(
    {"node_modules", "__pycache__", "venv", "env", "target", "build", "dist", "vendor", "site-packages", "Library",
     "bower_components", "lost+found", "proc", "sys", "dev", "snap"}
)  # fmt: skip

MAX_DEPTH: Final = 5
MAX_FOLDERS: Final = 50_000
MAX_PROJECTS: Final = 5_000
MAX_SECONDS: Final = 10.0
_MAX_MANIFEST: Final = 262_144
_MAX_README: Final = 4_096
_MAX_WORDS: Final = 1_000


class FoundProject(msgspec.Struct, frozen=True):
    """A project's folder (absolute), and a stamp that changes when its descriptive files change."""

    path: str
    stamp: str


class Description(msgspec.Struct, frozen=True):
    """The names in a project's manifests, and its description with the beginning of its README."""

    names: str = ""
    about: str = ""


class Walk:
    """One walk below some roots. Iterating yields each project once; `cut` is then the bound it reached, if any.

    `roots`: the real folders that are walked.
    """

    def __init__(
        self,
        roots: Sequence[str],
        *,
        clock: Callable[[], float],
        excluded: Sequence[str] = (),
        seconds: float = MAX_SECONDS,
    ) -> None:
        # A root may be named through links; the projects are those of the real folder. Below it no link is followed.
        real = [os.path.realpath(root) for root in roots if root.startswith("/")]
        self.roots = [root for root in real if root.isprintable()]
        self._clock = clock
        self._excluded = frozenset(excluded)
        self._seconds = seconds
        self.cut: str | None = None

    def __iter__(self) -> Iterator[FoundProject]:
        deadline = self._clock() + self._seconds
        folders = projects = 0
        seen: set[str] = set()
        # Breadth first: if a bound is reached, the projects near the roots have been found.
        level: list[tuple[str, bool]] = [(os.path.normpath(root), True) for root in self.roots]
        for _ in range(MAX_DEPTH + 1):
            below: list[tuple[str, bool]] = []
            for path, is_root in level:
                if path in seen or path in self._excluded:
                    continue
                seen.add(path)
                folders += 1
                if folders > MAX_FOLDERS:
                    self.cut = f"more than {MAX_FOLDERS:,} folders"
                    return
                if self._clock() > deadline:
                    self.cut = f"it took more than {self._seconds:.0f} seconds"
                    return
                inside = _entries(path)
                if inside is None:
                    continue
                marked, subfolders = inside
                if marked:
                    projects += 1
                    if projects > MAX_PROJECTS:
                        self.cut = f"more than {MAX_PROJECTS:,} projects"
                        return
                    yield FoundProject(path, _stamp(path))
                if not marked or is_root:
                    below += [(f"{path.rstrip('/')}/{name}", False) for name in subfolders]
            level = below


def describe(path: str) -> Description:
    """Read the manifests and the README of a project. Unreadable and malformed files are ignored."""
    names: list[str] = []
    about: list[str] = []
    for manifest, read in _MANIFESTS.items():
        raw = _read(f"{path}/{manifest}", _MAX_MANIFEST)
        if raw is None:
            continue
        try:
            name, description = read(raw)
        # A manifest is untrusted: whatever is wrong with it, the project is still found by its folder's name.
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            continue
        names.append(name)
        about.append(description)
    for readme in READMES:
        raw = _read(f"{path}/{readme}", _MAX_README, partly=True)
        if raw is not None:
            about.append(raw)
            break
    return Description(" ".join(names)[:_MAX_WORDS], " ".join(about)[: _MAX_README + _MAX_WORDS])


def _entries(path: str) -> tuple[bool, list[str]] | None:
    """Whether a folder has a marker, and its subfolders in order; None if it is a link or cannot be listed."""
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            return None
        marked, subfolders = False, []
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name in MARKERS and not entry.is_symlink():
                    marked = True
                if entry.name.startswith(".") or entry.name in SKIPPED or not entry.name.isprintable():
                    continue
                if entry.is_dir(follow_symlinks=False):
                    subfolders.append(entry.name)
    except OSError:
        return None
    return marked, sorted(subfolders)


def _stamp(path: str) -> str:
    # The folder's mtime changes when a file is added or removed, a file's when it is written in place.
    parts = []
    for name in ("", *_MANIFESTS, *READMES):
        try:
            status = os.lstat(f"{path}/{name}" if name else path)
        except OSError:
            continue
        parts.append(f"{name}:{status.st_mtime_ns}:{status.st_size if name else 0}:{status.st_ino}")
    return "|".join(parts)


def _read(path: str, limit: int, *, partly: bool = False) -> str | None:
    """The text of a regular file of at most `limit` bytes (or its beginning, if `partly`); None for anything else."""
    try:
        # O_NONBLOCK: opening a pipe named README would otherwise block for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or (status.st_size > limit and not partly):
            return None
        return os.read(descriptor, limit).decode(errors="replace")
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _pyproject(raw: str) -> tuple[str, str]:
    project = _table(tomllib.loads(raw), "project")
    return _text(project, "name"), _text(project, "description")


def _cargo(raw: str) -> tuple[str, str]:
    package = _table(tomllib.loads(raw), "package")
    return _text(package, "name"), _text(package, "description")


def _json(raw: str) -> tuple[str, str]:
    manifest = json.loads(raw)
    # "@scope/name": the scope is the publisher, not the project.
    return _text(manifest, "name").rsplit("/", 1)[-1], _text(manifest, "description")


def _go(raw: str) -> tuple[str, str]:
    module = re.search(r"^module\s+(\S+)", raw, re.MULTILINE)
    last = [part for part in module[1].split("/") if not re.fullmatch(r"v[0-9]+", part)][-1:] if module else []
    return "".join(last), ""


_MANIFESTS: Final[dict[str, Callable[[str], tuple[str, str]]]] = {
    "pyproject.toml": _pyproject,
    "package.json": _json,
    "Cargo.toml": _cargo,
    "composer.json": _json,
    "go.mod": _go,
}


def _table(document: Document, key: str) -> Document:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _text(document: Document, key: str) -> str:
    value = document.get(key)
    return value[:_MAX_WORDS] if isinstance(value, str) else ""


def folder_name(path: str) -> str:
    """The last component of a path, used as the project's name."""
    return Path(path).name
