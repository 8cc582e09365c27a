"""The packages that a project's lock files name: what a run may have fetched for it. Reads files, and runs nothing.

Anybody may have written them: each is bounded, and one that cannot be read names nothing. What they say of where a
package is kept is believed of its host's name alone, and of that only that it may be asked for by a registry's leave.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

from peer.machine import looking
from sandbox.network.packages.wanted import Kind, normal_name

MAX_BYTES: Final = 16 * 1024 * 1024
"""Of one file."""
MAX_BYTES_IN_ALL: Final = 32 * 1024 * 1024
MAX_PACKAGES: Final = 20_000
"""Versions of packages, of one project."""
MAX_HOSTS: Final = 50
_LONGEST: Final = 2_000
"""Characters of a line that an expression is tried on; some take the square of it."""
_MOST_DOTS: Final = 300
"""In a line of TOML: Python's reader takes the square of the parts of a key. One with a file's address has twenty."""
_NAME: Final = re.compile(r"(?!.*\.\.)[A-Za-z0-9@._~/!+-]{1,200}")
_VERSION: Final = re.compile(r"[A-Za-z0-9._!+~-]{1,100}")
"""What a registry's grammar has no more than."""
_HASH: Final = re.compile(r"--hash[ =](sha256:[0-9a-f]{64})\b")


class Package(NamedTuple):
    """One version of a package, its name in its normal form. `address`: of a file, "" where none is named.

    `integrity`: the digest of a file, as npm ("sha512-…"), Python ("sha256:…") or go ("h1:…") writes it. `file`: of
    go's two, "go.mod" where the digest is of that one. `source`: the registry, where cargo, uv or PEP 751 name it.
    """

    kind: Kind
    name: str
    version: str
    address: str = ""
    integrity: str = ""
    source: str = ""
    file: str = ""


_Named = Iterator[Package]


class Locked(NamedTuple):
    """`entries`: every package. `packages`: kind → name → versions. `hosts`: of the files' addresses. `files`: which
    were read, by their names. `unread`: those that could not be, or that name more than is taken.
    """

    entries: list[Package]
    packages: dict[str, dict[str, list[str]]]
    hosts: list[str]
    files: list[str]
    unread: list[str]

    @property
    def number(self) -> int:
        """How many packages there are."""
        return sum(map(len, self.packages.values()))


def read(folders: Sequence[Path]) -> Locked:
    """Return what the lock files in `folders`, and in the folders in them, name. Blocking."""
    packages: dict[Kind, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    hosts: dict[str, None] = {}
    files, unread = [], []
    entries: dict[Package, None] = {}
    left, number = MAX_BYTES_IN_ALL, 0
    for folder, path, reader in (found for each in folders for found in _found(each)):
        try:
            most = min(MAX_BYTES, left)
            content = looking.text(path, most + 1)
            left = max(left - len(content), 0)
            if len(content) > most:
                raise _TooMuch
            for found in reader(content):
                kind = found.kind
                name, version = normal_name(kind, found.name), _version(kind, found.version)
                if not _NAME.fullmatch(name) or not _VERSION.fullmatch(version):
                    continue
                if version not in packages[kind][name]:
                    if number == MAX_PACKAGES:
                        raise _TooMuch
                    number += 1
                    packages[kind][name].add(version)
                entries[found._replace(name=name, version=version)] = None
                if (host := urlsplit(found.address).netloc) and len(hosts) < MAX_HOSTS:
                    hosts[host.lower()] = None
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError, _TooMuch):
            unread.append(str(path.relative_to(folder)))
        else:
            files.append(str(path.relative_to(folder)))
    listed: dict[str, dict[str, list[str]]] = {
        kind: {name: sorted(versions) for name, versions in sorted(names.items()) if versions}
        for kind, names in packages.items()
    }
    return Locked(list(entries), listed, list(hosts), files, unread)


class _TooMuch(Exception):
    pass


def _found(folder: Path) -> Iterator[tuple[Path, Path, Callable[[str], _Named]]]:
    for place in (folder, *(folder / name for name in looking.names(folder) if not name.startswith("."))):
        for name in looking.names(place):
            reader = _READERS.get(name) or (_requirements if _REQUIREMENTS.fullmatch(name) else None)
            if reader is not None:
                yield folder, place / name, reader


def _version(kind: Kind, version: str) -> str:
    try:
        return str(Version(version)) if kind == "pip" else version
    except InvalidVersion as problem:
        raise ValueError(version) from problem


def _python_toml(text: str) -> _Named:
    """uv.lock, poetry.lock, pdm.lock, and pylock.toml (PEP 751)."""
    document = _toml(text)
    for package in [*document.get("package", []), *document.get("packages", [])]:
        if "version" not in package or set(package.get("source", {})) & {"editable", "virtual", "directory", "git"}:
            continue
        files = [package.get("sdist") or {}, *(package.get("wheels") or [])]
        named = Package("pip", str(package["name"]), str(package["version"]), source=_registry(package))
        for file in [file for file in files if "url" in file] or [{}]:
            yield named._replace(address=str(file.get("url", "")), integrity=_digest(file))


def _registry(package: Mapping[str, Any]) -> str:
    return str(package.get("index") or package.get("source", {}).get("registry") or "")


def _digest(file: Mapping[str, Any]) -> str:
    hashes = file.get("hashes", {})
    return f"sha256:{hashes['sha256']}" if "sha256" in hashes else str(file.get("hash", ""))


def _requirements(text: str) -> _Named:
    for line in text.replace("\\\n", " ").splitlines():
        words = re.split(r"\s(?:--hash|#)", line.strip(), maxsplit=1)[0].strip()
        if not words or len(words) > _LONGEST or words.startswith(("-", "#")):
            continue
        try:
            asked = Requirement(words)
        except InvalidRequirement:
            continue
        pins = [one.version for one in asked.specifier if one.operator in ("==", "===") and "*" not in one.version]
        if pins:
            for digest in _HASH.findall(line) or [""]:
                yield Package("pip", asked.name, pins[0], integrity=digest)


def _pipfile(text: str) -> _Named:
    document = json.loads(text)
    for section in ("default", "develop"):
        for name, about in document.get(section, {}).items():
            if str(about.get("version", "")).startswith("=="):
                yield Package("pip", name, about["version"][2:])


def _npm(text: str) -> _Named:
    document = json.loads(text)
    for place, about in document.get("packages", {}).items():
        name = str(about.get("name") or place.rpartition("node_modules/")[2])
        if place and "version" in about and not about.get("link"):
            yield _npm_package(name, about)
    yield from _npm_tree(document.get("dependencies", {}) if "packages" not in document else {})


def _npm_tree(dependencies: dict[str, dict[str, object]]) -> _Named:
    for name, about in dependencies.items():
        yield _npm_package(name, about)
        inner = about.get("dependencies")
        if isinstance(inner, dict):
            yield from _npm_tree(inner)


def _npm_package(name: str, about: Mapping[str, object]) -> Package:
    address, integrity = (str(about.get(member) or "") for member in ("resolved", "integrity"))
    return Package("npm", name, str(about["version"]), address, integrity)


def _yarn(text: str) -> _Named:
    name = ""
    for line in _lines(text):
        if header := re.match(r"\"?((?:@[^@/\s\"]+/)?[^@\s\"]+)@", line):
            name = header[1]
        elif name and (version := re.match(r"  version:? \"?([0-9][^\s\"]*)\"?$", line)):
            yield Package("npm", name, version[1])
            name = ""


def _pnpm(text: str) -> _Named:
    for line in _lines(text):
        if found := re.match(r"  '?/?((?:@[^@/\s']+/)?[^@/\s':]+)[@/]([0-9][^\s'(:_]*)[^\s]*:", line):
            yield Package("npm", found[1], found[2])


def _cargo(text: str) -> _Named:
    for package in _toml(text).get("package", []):
        source = str(package.get("source", ""))
        if source.startswith(("registry+", "sparse+")):
            yield Package("cargo", str(package["name"]), str(package["version"]), source=source)


def _go(text: str) -> _Named:
    for line in _lines(text):
        words = line.split()
        if len(words) == 3:
            version, slash, file = words[1].partition("/")
            if not slash or file == "go.mod":
                yield Package("go", words[0], version, integrity=words[2], file=file)


def _toml(text: str) -> dict[str, Any]:
    if any(line.count(".") > _MOST_DOTS for line in text.split("\n")):
        raise _TooMuch
    return tomllib.loads(text)


def _lines(text: str) -> Iterator[str]:
    return (line for line in text.splitlines() if len(line) <= _LONGEST)


_REQUIREMENTS: Final = re.compile(r"(?:[a-z0-9_-]{0,40}requirements[a-z0-9_.-]{0,40}|constraints)\.txt")
_READERS: Final[dict[str, Callable[[str], _Named]]] = {
    **dict.fromkeys(("uv.lock", "poetry.lock", "pdm.lock", "pylock.toml"), _python_toml),
    "Pipfile.lock": _pipfile,
    **dict.fromkeys(("package-lock.json", "npm-shrinkwrap.json"), _npm),
    "yarn.lock": _yarn,
    "pnpm-lock.yaml": _pnpm,
    "Cargo.lock": _cargo,
    "go.sum": _go,
}
