"""Wheels in pip's cache that were built here of sources from PyPI. Looks, and runs nothing. Blocking.

Layout (pip's _internal/cache.py): wheels/aa/bb/cc/REST/NAME.whl beside origin.json, which says of which address and
digest the sources were (PEP 610). pip takes such a wheel once a list of PyPI, or a requirement, names that address; it
asks for the list each time, so without a network it takes one by a requirement alone. What it fetched as it is
(http-v2) has no record but a digest of its address for a name, and is of no use before that list either.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Final

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from peer.machine import looking
from peer.projects.cache_files import File, names, without_links
from peer.projects.lock_files import Package
from sandbox.network.packages.wanted import normal_name

_FILES: Final = "https://files.pythonhosted.org/"
_FOLDERS: Final = 5_000
"""The most folders of wheels that are looked at."""
_SMALL: Final = 64 * 1024
_DEPTH: Final = 4


def cache_folder(env: Mapping[str, str], home: Path) -> Path:
    """Where pip keeps its cache."""
    return home / (env.get("PIP_CACHE_DIR") or Path(env.get("XDG_CACHE_HOME") or ".cache") / "pip")


def builds(cache: Path, packages: Iterable[Package]) -> Iterator[list[File]]:
    """Each wheel, with pip's record of it."""
    wanted = {(each.name, each.version, each.integrity) for each in packages if each.integrity.startswith("sha256:")}
    if not wanted:
        return
    for parts in islice(_folders(cache / "wheels", ()), _FOLDERS):
        origin = without_links(cache, "wheels", *parts, "origin.json")
        if origin is None or not (digest := _source(looking.text(origin, _SMALL))):
            continue
        for name in names(origin.parent):
            wheel = without_links(cache, "wheels", *parts, name)
            if wheel is None or (*_named(name), digest) not in wanted:
                continue
            place = "/".join(("pip/wheels", *parts))
            yield [File(wheel, f"{place}/{name}"), File(origin, f"{place}/origin.json")]


def _folders(at: Path, parts: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if len(parts) == _DEPTH:
        yield parts
        return
    for name in sorted(names(at)):
        if name.isalnum() and name.isascii():
            yield from _folders(at / name, (*parts, name))


def _source(text: str) -> str:
    """The digest of sources that came from PyPI, "" for any others."""
    try:
        document = json.loads(text)
        digest = document["archive_info"]["hashes"]["sha256"]
        return f"sha256:{digest}" if str(document["url"]).startswith(_FILES) else ""
    except (ValueError, TypeError, LookupError, RecursionError):
        return ""


def _named(wheel: str) -> tuple[str, str]:
    try:
        name, version, _, _ = parse_wheel_filename(wheel)
    except InvalidWheelFilename:
        return "", ""
    return normal_name("pip", name), str(version)
