"""Packages that this machine's caches have already, for a run's own caches. Looks, and runs nothing. Blocking.

A run gets, as a copy, what its project's lock files name and what came from the public registry, by the cache's own
record of where it came from: what a private one gave this machine is nobody else's. Here are those of cargo and npm;
go's are in cached_modules, uv's in cached_wheels, pip's in cached_builds.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Final

from peer.machine import looking
from peer.projects import cached_builds, cached_modules, cached_wheels
from peer.projects.cache_files import File, Room, names, size_of
from peer.projects.lock_files import Package
from sandbox import frames
from sandbox.network.packages.grammar import crate_path

MAX_FILES: Final = 4_000
MAX_BYTES: Final = 1024 * 1024 * 1024
"""Of all that one run gets."""
MAX_NAMING: Final = 2 * 1024 * 1024
"""Bytes that their names take in the frame that starts a run."""

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
    of_go = [each for each in named if each.kind == "go"]
    of_python = [each for each in named if each.kind == "pip"]
    room = Room(MAX_FILES, MAX_BYTES, MAX_NAMING)
    for files in chain(
        _crates(cargo, crates),
        _modules(npm, modules),
        cached_modules.modules(cached_modules.download_folder(variables, home), of_go),
        cached_builds.builds(cached_builds.cache_folder(variables, home), of_python),
        cached_wheels.wheels(cached_wheels.cache_folder(variables, home), of_python, room),
    ):
        room.take(files)
    return list(room.taken.values())


def _crates(home: Path, packages: list[Package]) -> Iterator[list[File]]:
    """Files of crates, and what cargo remembers of the index about them."""
    if not packages:
        return
    for name in looking.names(home / "registry/index"):
        if not name.startswith("index.crates.io-"):
            continue
        places = ["config.json", *(f".cache/{crate_path(each.name)}" for each in packages)]
        wanted = [f"registry/index/{name}/{place}" for place in places]
        # An archive has the crate's own name, in which letters may be capital.
        archives = {each.lower(): each for each in names(home / "registry/cache" / name)}
        for each in packages:
            if archive := archives.get(f"{each.name}-{each.version}.crate".lower()):
                wanted.append(f"registry/cache/{name}/{archive}")
        yield from ([File(home / place, f"cargo/{place}")] for place in wanted if size_of(home / place))


def _modules(home: Path, packages: list[Package]) -> Iterator[list[File]]:
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
        if algorithm not in ("sha512", "sha1") or not content or not size_of(home / file):
            continue
        if (key, each.integrity) in _records(looking.text(home / record, _SMALL)):
            yield [File(home / record, f"npm/{record}"), File(home / file, f"npm/{file}")]


def _records(text: str) -> Iterator[tuple[object, object]]:
    """(key, integrity) of each line of a bucket: a digest of the rest, and JSON."""
    for line in text.splitlines():
        try:
            document = json.loads(line.partition("\t")[2])
        except (ValueError, RecursionError):
            continue
        if isinstance(document, dict):
            yield document.get("key"), document.get("integrity")
