"""What a run's caches get of the person's own: what lock files name, from the public registries alone."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from peer.projects import cached_packages
from peer.projects.cached_packages import seeds
from peer.projects.lock_files import Package
from tests.projects.caches import NPM, PUBLIC, cargo_cache, npm_cache, uv_cache


def crate(name: str, version: str = "1.0.0", source: str = PUBLIC) -> Package:
    return Package("cargo", name, version, source=source)


def test_crates_of_the_public_registry(tmp_path: Path) -> None:
    cargo_cache(tmp_path, "Adder-1.0.0", "adder-2.0.0", "other-1.0.0")
    cargo_cache(tmp_path, "adder-1.0.0", registry="private.example-0123")
    found = {seed.place: seed.path for seed in seeds([crate("adder"), crate("gone")], {"HOME": str(tmp_path)})}
    index = "registry/index/index.crates.io-0123"
    assert sorted(found) == [
        "cargo/registry/cache/index.crates.io-0123/Adder-1.0.0.crate",
        f"cargo/{index}/.cache/ad/de/adder",
        f"cargo/{index}/config.json",
    ]
    assert found[f"cargo/{index}/config.json"] == str(tmp_path / ".cargo" / index / "config.json")
    assert seeds([crate("adder", source="registry+https://private.example/index")], {"HOME": str(tmp_path)}) == []
    assert seeds([Package("pip", "adder", "1.0.0")], {"HOME": str(tmp_path)}) == []
    (tmp_path / ".cargo").rename(tmp_path / "moved")
    assert len(seeds([crate("adder")], {"HOME": "/nowhere", "CARGO_HOME": str(tmp_path / "moved")})) == 3


def test_packages_of_npm_by_its_own_record(tmp_path: Path) -> None:
    left = npm_cache(tmp_path, "left", b"left")
    (record, file) = seeds([left], {"HOME": str(tmp_path)})
    assert record.place.startswith("npm/_cacache/index-v5/") and file.place.startswith(
        "npm/_cacache/content-v2/sha512/"
    )
    assert Path(file.path).read_bytes() == b"left"
    private = npm_cache(tmp_path, "secret", b"secret", registry="https://npm.private.example/")
    # The digest of what came from a private registry, under a public address: the cache does not say that it did.
    claimed = private._replace(address=f"{NPM}secret/-/secret-1.0.0.tgz")
    assert seeds([private, claimed], {"HOME": str(tmp_path)}) == []
    for integrity in ("", "sha512-", "sha512-!", "md5-AAAA", "../-AAAA", left.integrity.replace("sha512", "sha1")):
        assert seeds([left._replace(integrity=integrity)], {"HOME": str(tmp_path)}) == []


def test_no_link_and_no_pipe_is_followed(tmp_path: Path) -> None:
    cargo_cache(tmp_path, "adder-1.0.0")
    archive = tmp_path / ".cargo/registry/cache/index.crates.io-0123/adder-1.0.0.crate"
    archive.unlink()
    archive.symlink_to("/etc/passwd")
    index = tmp_path / ".cargo/registry/index/index.crates.io-0123/config.json"
    index.unlink()
    os.mkfifo(index)
    (only,) = seeds([crate("adder")], {"HOME": str(tmp_path)})
    assert only.place.endswith(".cache/ad/de/adder")


def test_seeds_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cargo_cache(tmp_path, *(f"crate{number}-1.0.0" for number in range(30)))
    packages = [crate(f"crate{number}") for number in range(30)]
    monkeypatch.setattr(cached_packages, "MAX_FILES", 20)
    assert len(seeds(packages, {"HOME": str(tmp_path)})) == 20
    # A wheel comes as a whole or not at all, and what is smaller has its place still.
    wheel = uv_cache(tmp_path, "large")
    assert not any("uv" in seed.place for seed in seeds([*packages[:8], wheel], {"HOME": str(tmp_path)}))
    monkeypatch.setattr(cached_packages, "MAX_FILES", 4)
    small = npm_cache(tmp_path, "left", b"left")
    assert len(seeds([wheel, small], {"HOME": str(tmp_path)})) == 2
    monkeypatch.setattr(cached_packages, "MAX_FILES", 5)
    assert len(seeds([wheel], {"HOME": str(tmp_path)})) == 5
    monkeypatch.setattr(cached_packages, "MAX_FILES", 20)
    monkeypatch.setattr(cached_packages, "MAX_BYTES", 40)
    assert 0 < sum(Path(seed.path).stat().st_size for seed in seeds(packages, {"HOME": str(tmp_path)})) <= 40
    monkeypatch.setattr(cached_packages, "MAX_NAMING", 1_000)
    assert 0 < len(msgspec.json.encode(seeds(packages, {"HOME": str(tmp_path)}))) <= 1_000
