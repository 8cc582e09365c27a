"""What a path of a registry asks for. Pure; a path that this does not know asks for nothing.

Sources: the Simple API of Python (PEP 503, 658, 691), npm's public registry API, the sparse protocol of cargo's
registries (The Cargo Book, "Registry Index"), the GOPROXY protocol (go.dev/ref/mod).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import unquote

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    parse_sdist_filename,
    parse_wheel_filename,
)

from sandbox.network.packages.wanted import Kind, normal_name

_PYTHON: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")
_NPM: Final = re.compile(r"(?:@[a-z0-9~-][a-z0-9._~-]{0,120}/)?[A-Za-z0-9~-][A-Za-z0-9._~-]{0,120}")
_NPM_VERSION: Final = re.compile(
    r"[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9}(?:-[0-9A-Za-z.-]{1,80})?(?:\+[0-9A-Za-z.-]{1,80})?"
)
_CRATE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_MODULE: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,120}(?:/[a-z0-9!._~-]{1,120}){0,12}")
_GO_VERSION: Final = re.compile(r"v[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9}(?:-[0-9a-z!.-]{1,120})?(?:\+incompatible)?")


@dataclass(frozen=True, slots=True)
class Asked:
    """`what`: the list of a package's versions, one of its files, or what a registry says of itself. `name`: in its
    normal form; of a crate's list in lower case. `version`: of a file.
    """

    what: Literal["list", "file", "registry"]
    kind: Kind
    name: str = ""
    version: str = ""


def asked_of(kind: Kind, path: str) -> Asked | None:
    """What is asked for at a registry; `path` is what follows its address, without the slash between. None: nothing."""
    return _OF_KIND[kind](path)


def spelt(asked: Asked, path: str) -> str:
    """The one path by which something is asked for at a registry, where `asked_of` took more than that one.

    Else a run could say something of its own by how it writes a name.
    """
    if (asked.kind, asked.what) == ("pip", "list"):
        return f"{asked.name}/"
    if (asked.kind, asked.what) == ("npm", "list"):
        return asked.name.replace("/", "%2f")
    if (asked.kind, asked.what) == ("npm", "file"):
        return f"{asked.name}/-/{asked.name.rpartition('/')[2]}-{asked.version}.tgz"
    return path.replace("%21", "!") if asked.kind == "go" else path


def python_file(path: str) -> Asked | None:
    """The file of a Python package that a path on any host ends in, its metadata (PEP 658) included."""
    name = unquote(path.rpartition("/")[2]).removesuffix(".metadata")
    try:
        if name.endswith(".whl"):
            project, version = parse_wheel_filename(name)[:2]
        else:
            project, version = parse_sdist_filename(name)
    except (InvalidWheelFilename, InvalidSdistFilename):
        return None
    return Asked("file", "pip", normal_name("pip", project), str(version))


def _pip(path: str) -> Asked | None:
    name = path.removesuffix("/")
    return Asked("list", "pip", normal_name("pip", name)) if _PYTHON.fullmatch(name) else python_file(path)


def _npm(path: str) -> Asked | None:
    name, separator, file = path.replace("%2f", "/").replace("%2F", "/").partition("/-/")
    if not _NPM.fullmatch(name):
        return None
    if not separator:
        return Asked("list", "npm", name)
    version = file.removeprefix(f"{name.rpartition('/')[2]}-").removesuffix(".tgz")
    if file != f"{name.rpartition('/')[2]}-{version}.tgz" or not _NPM_VERSION.fullmatch(version):
        return None
    return Asked("file", "npm", name, version)


def _cargo(path: str) -> Asked | None:
    if path == "config.json":
        return Asked("registry", "cargo")
    name = path.rpartition("/")[2]
    if _CRATE.fullmatch(name) and path == crate_path(name):
        return Asked("list", "cargo", name)
    return None


def crate_path(name: str) -> str:
    """Where a crate's versions are listed in an index."""
    return f"{_crate_prefix(name.lower())}/{name.lower()}"


def _crate_prefix(name: str) -> str:
    if len(name) < 3:
        return str(len(name))
    return f"3/{name[0]}" if len(name) == 3 else f"{name[:2]}/{name[2:4]}"


def crate_file(template: str, address: str) -> Asked | None:
    """The crate that an address names by the `dl` of its registry's config.json; None where that gives none.

    None as well for a template with {sha256-checksum}: what a run writes there would be its own.
    """
    if "{" not in template:
        template += "/{crate}/{version}/download"
    parts = re.split(r"(\{[a-z0-9-]{1,20}\})", template)
    if not {"{crate}", "{version}"} <= set(parts) or len(parts) > _MOST_PARTS:
        return None
    # Each marker stands for the same wherever it is, so that no template is long to look for.
    pattern = "".join(
        f"(?P={part[1:-1]})" if part in parts[:at] and part in _MARKERS else _MARKERS.get(part, re.escape(part))
        for at, part in enumerate(parts)
    )
    match = re.fullmatch(pattern, address)
    if match is None:
        return None
    prefix = _crate_prefix(match["crate"])
    meant = {"{prefix}": prefix, "{lowerprefix}": prefix.lower()}
    said = match.groupdict()
    if any(said.get(marker[1:-1], value) != value for marker, value in meant.items()):
        return None
    return Asked("file", "cargo", match["crate"], match["version"])


_MOST_PARTS: Final = 21
_MARKERS: Final = {  # without {sha256-checksum}
    "{crate}": rf"(?P<crate>{_CRATE.pattern})",
    "{version}": r"(?P<version>[0-9][0-9A-Za-z.+-]{0,100})",
    "{prefix}": r"(?P<prefix>[A-Za-z0-9_/-]{1,5})",
    "{lowerprefix}": r"(?P<lowerprefix>[a-z0-9_/-]{1,5})",
}


def _go(path: str) -> Asked | None:
    # go itself writes the `!` of a capital letter as %21.
    module, separator, file = path.replace("%21", "!").partition("/@")
    if not separator or not _MODULE.fullmatch(module) or ".." in module:
        return None
    name = _unescaped(module)
    if file in ("v/list", "latest"):
        return Asked("list", "go", name)
    version, dot, ending = file.removeprefix("v/").rpartition(".")
    known = file.startswith("v/") and dot and ending in ("info", "mod", "zip")
    if not known or not _GO_VERSION.fullmatch(version):
        return None
    return Asked("file", "go", name, _unescaped(version))


def _unescaped(text: str) -> str:
    # `!a` is A: module paths are told apart by case, and file systems do not do so.
    return re.sub(r"!([a-z])", lambda match: match[1].upper(), text)


_OF_KIND: Final[dict[Kind, Callable[[str], Asked | None]]] = {"pip": _pip, "npm": _npm, "cargo": _cargo, "go": _go}
