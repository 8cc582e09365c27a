"""Modules in go's cache that the public checksum database knows. Looks, and runs nothing. Blocking.

Layout (go.dev/ref/mod, "Module cache" and "Checksum database"): MODULE/@v/VERSION.{info,mod,zip,ziphash} below
cache/download, capital letters written as `!` and a small one; beside them what go was told by sum.golang.org, in
sumdb/sum.golang.org/lookup/MODULE@VERSION. go asks there for each version that is new to a go.sum, but for those that
GOPRIVATE names, and a private module is not known there: with such an answer for the digests of the project's go.sum,
what has these digests is public.

A module's .mod is compared with its digest here. Of a .zip go's own note of the digest is (.ziphash), and that note is
not given: without it go computes the digest anew and compares it with go.sum.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from peer.machine import looking
from peer.projects.cache_files import File, left_out, without_links
from peer.projects.lock_files import Package
from sandbox.network.packages.grammar import asked_of

_LOOKUPS: Final = "sumdb/sum.golang.org/lookup"
_SMALL: Final = 64 * 1024
_MOD: Final = 16 * 1024 * 1024
"""Bytes; go takes no larger go.mod (go.dev/ref/mod, "File path and size constraints")."""
_RECORD: Final = re.compile(r"[0-9]{1,20}\n(.*?)\n\n", re.DOTALL)
_SECRET: Final = re.compile(r"//[^/]*@|[?]")
"""In an address: a name and password, or words for a server."""


def download_folder(env: Mapping[str, str], home: Path) -> Path:
    """Where go keeps what it downloads."""
    file = env.get("GOENV") or Path(env.get("XDG_CONFIG_HOME") or ".config") / "go/env"
    settings = {**_settings(home / file), **env}
    first = settings.get("GOPATH", "").partition(":")[0] or "go"
    return home / (settings.get("GOMODCACHE") or f"{first}/pkg/mod") / "cache/download"


def modules(downloads: Path, packages: Iterable[Package]) -> Iterator[list[File]]:
    """The files of each module, its go.mod alone where go.sum names no more than that."""
    versions: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for package in packages:
        versions[package.name, package.version][package.file] = package.integrity
    for (name, version), sums in versions.items():
        place = f"{_escaped(name)}/@v/{_escaped(version)}"
        asked = asked_of("go", f"{place}.zip")
        if asked is None or (asked.name, asked.version) != (name, version):
            continue
        record = without_links(downloads, *f"{_LOOKUPS}/{place.replace('/@v/', '@')}".split("/"))
        known = _lookup(looking.text(record, _SMALL)) if record else {}
        public = {file for file, digest in sums.items() if digest == known.get((name, f"{version}/{file}".rstrip("/")))}
        found = {
            ending: path
            for ending in ("mod", "info", "ziphash", "zip")
            if (path := without_links(downloads, *f"{place}.{ending}".split("/")))
        }
        mod = found.get("mod")
        if "go.mod" not in public or mod is None or _mod_digest(mod) != sums["go.mod"]:
            if mod is not None:
                left_out(mod, "is not known to be public")
            continue
        given = ["mod"]
        if "info" in found and _is_plain_info(looking.text(found["info"], _SMALL), version):
            given.append("info")
        if "" in public and "zip" in found and _is_noted(found.get("ziphash"), sums[""]):
            given.append("zip")
        yield [File(found[ending], f"go-mod/cache/download/{place}.{ending}") for ending in given]


def _settings(file: Path) -> dict[str, str]:
    """What `go env -w` wrote."""
    lines = (line.partition("=") for line in looking.text(file, _SMALL).splitlines())
    return {name: value for name, _, value in lines if name in ("GOMODCACHE", "GOPATH") and value}


def _escaped(text: str) -> str:
    return re.sub("[A-Z]", lambda match: f"!{match[0].lower()}", text)


def _lookup(text: str) -> dict[tuple[str, str], str]:
    """(module, version) → digest of an answer of the checksum database; `/go.mod` stands behind a version there."""
    found = _RECORD.match(text)
    lines = [line.split(" ") for line in found[1].split("\n")] if found else []
    return {(words[0], words[1]): words[2] for words in lines if len(words) == 3 and words[2].startswith("h1:")}


def _mod_digest(path: Path) -> str:
    """The `h1:` of a go.mod: of a list of one line, its digest and its name (golang.org/x/mod/sumdb/dirhash)."""
    line = f"{hashlib.sha256(looking.start(path, _MOD)).hexdigest()}  go.mod\n"
    return f"h1:{base64.b64encode(hashlib.sha256(line.encode()).digest()).decode()}"


def _is_noted(note: Path | None, digest: str) -> bool:
    return note is not None and looking.text(note, _SMALL).strip() == digest


def _is_plain_info(text: str, version: str) -> bool:
    """Whether a .info is of that version, and names no address with a secret."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.get("Version") == version and not _SECRET.search(text)
