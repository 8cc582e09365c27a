"""The registries of packages that a project's own files name: for its person to see. Reads files, and asks nobody.

Anybody may have written these files, so none of them opens anything: each host that they name is granted by its person,
or not at all. They are read up to a bound and through no link, and nothing in them is resolved, run or obeyed. In the
settings of a tool every address counts; in a file that has others too, those at the places of registries.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from peer.machine import looking
from peer.projects.lock_files import Locked
from peer.protocol.errors import Invalid
from peer.trust.hosts import TLS_PORT, parse_host

MAX_BYTES: Final = 256 * 1024
"""Of one file."""
MAX_NAMED: Final = 50
"""Registries of one project; others are not looked at."""
LOCK_FILES: Final = "lock files"
_LONGEST: Final = 2_000
"""Characters of a line."""
_MOST_DOTS: Final = 300
"""As in lock_files.py."""
_ADDRESS: Final = re.compile(r"https?://[^\s\"'<>,;()\[\]{}\\]{1,500}")
_OPTION: Final = re.compile(r"\s*(?:-i|-f|--(?:extra-)?index-url|--find-links)[\s=]")
_REQUIREMENTS: Final = re.compile(r"(?:[a-z0-9_-]{0,40}requirements[a-z0-9_.-]{0,40}|constraints)\.(?:txt|in)")
_CRATES_IO: Final = "https://github.com/rust-lang/crates.io-index"
"""A Cargo.lock's name for the public registry, from before it had an address of its own; nothing is fetched there."""


class Named(NamedTuple):
    """`hosts`: as an edge's network takes them → the files that name them. `others`: hosts that cannot be granted, of
    the project's own words.
    """

    hosts: dict[str, list[str]]
    others: list[str]


def read(folder: Path, locked: Locked) -> Named:
    """Return the registries that files in a folder (real) and in the folders in it name. Blocking.

    `locked`: what its lock files name.
    """
    named = Named({}, [])
    for path, reader in _found(folder):
        lines = [line for line in looking.text(path, MAX_BYTES).splitlines() if len(line) <= _LONGEST]
        for address in reader(lines):
            _add(named, address, str(path.relative_to(folder)))
    for source in dict.fromkeys(entry.source for entry in locked.entries):
        for address in _ADDRESS.findall(source):
            if address != _CRATES_IO:
                _add(named, address, LOCK_FILES)
    return named


def _add(named: Named, address: str, file: str) -> None:
    host = address.partition("://")[2].partition("/")[0].rpartition("@")[2]
    try:
        parts = urlsplit(address)
        granted = str(parse_host(f"{parts.hostname}:{parts.port or TLS_PORT}")) if parts.scheme == "https" else ""
    except (ValueError, Invalid):
        granted = ""
    if granted in named.hosts:
        if file not in named.hosts[granted]:
            named.hosts[granted].append(file)
    elif granted and len(named.hosts) < MAX_NAMED:
        named.hosts[granted] = [file]
    elif not granted and host not in named.others and len(named.others) < MAX_NAMED:
        named.others.append(host)


_Reader = Callable[[Sequence[str]], Iterator[str]]


def _found(folder: Path) -> Iterator[tuple[Path, _Reader]]:
    for place in (folder, *(folder / name for name in looking.names(folder) if not name.startswith("."))):
        if place.is_symlink():
            continue
        # By their names, so that none hides among many others.
        for name, reader in _READERS.items():
            path = place / name
            if path.parent == place or not path.parent.is_symlink():
                yield path, reader
        for name in looking.names(place):
            if _REQUIREMENTS.fullmatch(name):
                yield place / name, _requirements


def _settings(lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        if not line.lstrip().startswith(("#", ";")):
            yield from _ADDRESS.findall(line)


def _requirements(lines: Sequence[str]) -> Iterator[str]:
    return _settings([line for line in lines if _OPTION.match(line)])


def _python_project(lines: Sequence[str]) -> Iterator[str]:
    """pyproject.toml and Pipfile: the indexes of uv, poetry, pdm and pipenv."""
    if any(line.count(".") > _MOST_DOTS for line in lines):
        return
    try:
        document = tomllib.loads("\n".join(lines))
    except (ValueError, RecursionError):
        return
    tool = _table(document, "tool")
    uv = _table(tool, "uv")
    places = [
        *(uv.get(name) for name in ("index", "index-url", "extra-index-url", "find-links")),
        *(_table(uv, "pip").get(name) for name in ("index", "index-url", "extra-index-url", "find-links")),
        *(_table(tool, name).get("source") for name in ("poetry", "pdm")),
        document.get("source"),
    ]
    for place in places:
        for each in place if isinstance(place, list) else [place]:
            address = each.get("url") if isinstance(each, dict) else each
            yield from _ADDRESS.findall(address) if isinstance(address, str) else []


def _table(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = document.get(name)
    return found if isinstance(found, dict) else {}


_READERS: Final[dict[str, _Reader]] = {
    **dict.fromkeys((".npmrc", ".yarnrc", ".yarnrc.yml", "bunfig.toml"), _settings),
    **dict.fromkeys(("pip.conf", "pip.ini", ".venv/pip.conf", "uv.toml"), _settings),
    **dict.fromkeys((".cargo/config.toml", ".cargo/config"), _settings),
    **dict.fromkeys(("pyproject.toml", "Pipfile"), _python_project),
}
