"""Packages that this machine's caches have already, for a run's own caches. Looks, and runs nothing. Blocking.

A run gets, as a copy, what its project's lock files name and what came from the public registry, by the cache's own
record of where it came from: what a private one gave this machine is nobody else's. cargo and npm can use such a part
of a cache; pip and uv cannot, since theirs are kept by the answers of a registry, and of go's it cannot be told where
a module came from.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from peer.machine import looking
from peer.projects.lock_files import Package
from sandbox import frames
from sandbox.network.packages.grammar import crate_path

MAX_FILES: Final = 4_000
MAX_BYTES: Final = 1024 * 1024 * 1024
"""Of all that one run gets."""

_CRATES_IO: Final = frozenset(
    {"registry+https://github.com/rust-lang/crates.io-index", "sparse+https://index.crates.io/"}
)
"""How Cargo.lock names the public registry."""
_NPM: Final = "https://registry.npmjs.org/"
_SMALL: Final = 256 * 1024


def seeds(packages: Iterable[Package], env: Mapping[str, str] | None = None) -> list[frames.Seed]:
    """Return the files, and where they belong below a run's caches."""
    variables = os.environ if env is None else env
    home = Path(variables.get("HOME") or Path.home())
    cargo = Path(variables.get("CARGO_HOME") or home / ".cargo")
    npm = Path(variables.get("npm_config_cache") or home / ".npm")
    named = list(dict.fromkeys(packages))
    crates = [each for each in named if each.kind == "cargo" and each.source in _CRATES_IO]
    modules = [each for each in named if each.kind == "npm" and each.address.startswith(_NPM)]
    found: dict[str, frames.Seed] = {}
    size = 0
    for path, place in (*_crates(cargo, crates), *_modules(npm, modules)):
        size += _size(path)
        if len(found) == MAX_FILES or size > MAX_BYTES:
            break
        found[place] = frames.Seed(path=str(path), place=place)
    return list(found.values())


def _crates(home: Path, packages: list[Package]) -> Iterator[tuple[Path, str]]:
    """Files of crates, and what cargo remembers of the index about them."""
    if not packages:
        return
    for name in looking.names(home / "registry/index"):
        if not name.startswith("index.crates.io-"):
            continue
        places = ["config.json", *(f".cache/{crate_path(each.name)}" for each in packages)]
        wanted = [f"registry/index/{name}/{place}" for place in places]
        # An archive has the crate's own name, in which letters may be capital.
        archives = {each.lower(): each for each in _names(home / "registry/cache" / name)}
        for each in packages:
            if archive := archives.get(f"{each.name}-{each.version}.crate".lower()):
                wanted.append(f"registry/cache/{name}/{archive}")
        yield from ((home / place, f"cargo/{place}") for place in wanted if _size(home / place))


def _modules(home: Path, packages: list[Package]) -> Iterator[tuple[Path, str]]:
    """Files of npm's packages, and its record of where they came from (cacache, index-v5 and content-v2)."""
    for each in packages:
        key = f"make-fetch-happen:request-cache:{each.address}"
        bucket = hashlib.sha256(key.encode()).hexdigest()
        record = Path("_cacache/index-v5", bucket[:2], bucket[2:4], bucket[4:])
        algorithm, _, digest = each.integrity.partition("-")
        try:
            content = base64.b64decode(digest, validate=True).hex()
        except (binascii.Error, ValueError):
            continue
        file = Path("_cacache/content-v2", algorithm, content[:2], content[2:4], content[4:])
        if algorithm not in ("sha512", "sha1") or not content or not _size(home / file):
            continue
        if (key, each.integrity) in _records(looking.text(home / record, _SMALL)):
            yield home / record, f"npm/{record}"
            yield home / file, f"npm/{file}"


def _records(text: str) -> Iterator[tuple[object, object]]:
    """(key, integrity) of each line of a bucket: a digest of the rest, and JSON."""
    for line in text.splitlines():
        try:
            document = json.loads(line.partition("\t")[2])
        except (ValueError, RecursionError):
            continue
        if isinstance(document, dict):
            yield document.get("key"), document.get("integrity")


def _names(folder: Path) -> list[str]:
    """All names in a folder of cargo's own, which has thousands."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries]
    except OSError:
        return []


def _size(path: Path) -> int:
    """Bytes of a plain file, reached through no link of its own; 0 for anything else."""
    try:
        about = path.lstat()
    except (OSError, ValueError):
        return 0
    return about.st_size if stat.S_ISREG(about.st_mode) else 0
