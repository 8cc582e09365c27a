"""Caches of cargo and npm as these tools lay them out, with made-up contents."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

from peer.projects.lock_files import Package
from sandbox.network.packages.grammar import crate_path

PUBLIC = "registry+https://github.com/rust-lang/crates.io-index"
NPM = "https://registry.npmjs.org/"


def cargo_cache(home: Path, *archives: str, registry: str = "index.crates.io-0123") -> None:
    """Crates, by the names of their archives, in ~/.cargo."""
    for archive in archives:
        places = {
            f"cache/{registry}/{archive}.crate": archive,
            f"index/{registry}/config.json": "{}",
            f"index/{registry}/.cache/{crate_path(archive.rpartition('-')[0])}": "index",
        }
        for place, content in places.items():
            file = home / ".cargo/registry" / place
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)


def npm_cache(home: Path, name: str, content: bytes, *, registry: str = NPM) -> Package:
    """A package in ~/.npm, and how package-lock.json names it."""
    address = f"{registry}{name}/-/{name}-1.0.0.tgz"
    digest = hashlib.sha512(content)
    integrity = f"sha512-{base64.b64encode(digest.digest()).decode()}"
    key = f"make-fetch-happen:request-cache:{address}"
    line = json.dumps({"key": key, "integrity": integrity})
    for part, of, text in (
        ("index-v5", hashlib.sha256(key.encode()).hexdigest(), f"\n{hashlib.sha1(line.encode()).hexdigest()}\t{line}"),
        ("content-v2/sha512", digest.hexdigest(), content.decode()),
    ):
        file = home / ".npm/_cacache" / part / of[:2] / of[2:4] / of[4:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return Package("npm", name, "1.0.0", address, integrity)
