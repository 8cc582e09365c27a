"""Modules of go: what go.sum names and the public checksum database has, by go's copy of its answers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.projects import lock_files
from peer.projects.cached_modules import _lookup, download_folder, modules
from peer.projects.cached_packages import seeds
from peer.projects.lock_files import Package
from tests.projects.caches import go_cache

FILES = {"go.mod": "module example.com/Ada/adder\n", "adder.go": "package adder\n"}
PLACE = "go-mod/cache/download/example.com/!ada/adder/@v/v1.0.0"


def given_of(home: Path, *packages: Package) -> list[str]:
    return [seed.place.removeprefix(PLACE) for seed in seeds(packages, {"HOME": str(home)})]


def test_modules_by_the_checksum_databases_answer(tmp_path: Path) -> None:
    module = go_cache(tmp_path, "example.com/Ada/adder", "v1.0.0", FILES)
    assert given_of(tmp_path, *module) == [".mod", ".info", ".zip"]  # no .ziphash: go is to make it
    assert given_of(tmp_path, module[1]) == [".mod", ".info"]
    assert given_of(tmp_path, module[0]) == []
    assert given_of(tmp_path, *(each._replace(integrity="h1:AAAA") for each in module)) == []
    assert given_of(tmp_path, *(each._replace(name="example.com/ada/adder") for each in module)) == []
    private = go_cache(tmp_path, "example.com/private", "v1.0.0", FILES, known=False)
    assert given_of(tmp_path, *private) == []


def test_what_the_cache_has_is_what_the_answer_is_of(tmp_path: Path) -> None:
    module = go_cache(tmp_path, "example.com/Ada/adder", "v1.0.0", FILES)
    folder = tmp_path / "go/pkg/mod/cache/download/example.com/!ada/adder/@v"
    for secret in ("https://me:secret@git.example/x", "https://git.example/x?token=secret"):
        (folder / "v1.0.0.info").write_text(f'{{"Version": "v1.0.0", "Origin": {{"URL": "{secret}"}}}}')
        assert given_of(tmp_path, *module) == [".mod", ".zip"]
    (folder / "v1.0.0.zip").unlink()
    os.mkfifo(folder / "v1.0.0.zip")
    assert given_of(tmp_path, *module) == []  # which would end the run
    (folder / "v1.0.0.ziphash").write_text("h1:AAAA")
    assert given_of(tmp_path, *module) == [".mod"]
    (folder / "v1.0.0.mod").write_text("module edited\n")
    assert given_of(tmp_path, *module) == []


@pytest.mark.parametrize("link", ["example.com", "example.com/!ada/adder/@v/v1.0.0.mod", "sumdb/sum.golang.org"])
def test_no_link_in_the_cache_is_followed(tmp_path: Path, link: str) -> None:
    module = go_cache(tmp_path, "example.com/Ada/adder", "v1.0.0", FILES)
    place = tmp_path / "go/pkg/mod/cache/download" / link
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    assert given_of(tmp_path, *module) == []


def test_where_go_keeps_them(tmp_path: Path) -> None:
    def found(**env: str) -> str:
        return str(download_folder(env, tmp_path).relative_to(tmp_path))

    assert found() == "go/pkg/mod/cache/download"
    (tmp_path / ".config/go").mkdir(parents=True)
    (tmp_path / ".config/go/env").write_text("GOPATH=one:two\nGOFLAGS=-x\n")
    assert found() == "one/pkg/mod/cache/download"
    assert found(GOMODCACHE=f"{tmp_path}/cache") == "cache/cache/download"
    assert found(GOENV="other", GOPATH="own") == "own/pkg/mod/cache/download"


WORDS = st.text(st.sampled_from("aA!./@~-_+v10\0\n ,=h:é…"), max_size=40)
HOSTILE = ["../../../../etc/passwd", "/etc/passwd", "a/../b", "example.com/..", "example.com/!ada/adder", "", "\0"]


@given(
    st.lists(st.tuples(WORDS | st.sampled_from(HOSTILE), WORDS | st.just("v1.0.0")), max_size=5),
    st.binary(max_size=200),
)
def test_a_go_sum_leads_nowhere_else(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[str, str]], more: bytes
) -> None:
    """Names that are none, which the database is said to know with the digests of a module that is there."""
    folder = tmp_path_factory.mktemp("x")
    own = folder / "own"
    module = go_cache(folder, "example.com/Ada/adder", "v1.0.0", FILES)
    own.mkdir()
    sums = "".join(
        f"{name} {version}{end} {one.integrity}\n"
        for name, version in lines
        for one, end in zip(module, ("", "/go.mod"), strict=True)
    )
    (own / "go.sum").write_bytes(sums.encode() + more)
    downloads = folder / "go/pkg/mod/cache/download"
    answer = b"7\n" + sums.encode() + b"\n" + more
    (downloads / "sumdb/sum.golang.org/lookup/example.com/!ada/adder@v1.0.0").write_bytes(answer)
    assert list(modules(downloads, lock_files.read([own]).entries)) == []
    assert all(digest.startswith("h1:") for digest in _lookup(answer.decode("utf-8", "replace")).values())
