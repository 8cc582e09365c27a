"""Wheels of uv and pip: what lock files name and what came from PyPI, by the caches' own records."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.projects import lock_files
from peer.projects.cached_packages import seeds
from peer.projects.cached_wheels import Pointer, read_pointer
from peer.projects.lock_files import Package
from tests.projects.caches import pip_cache, uv_cache, uv_pointer

FILES = "https://files.pythonhosted.org/"


def given_of(home: Path, *packages: Package) -> list[str]:
    return [seed.place for seed in seeds(packages, {"HOME": str(home)})]


@pytest.mark.parametrize("bucket", [5, 6, 8, 12])
def test_wheels_of_pypi(tmp_path: Path, bucket: int) -> None:
    here = uv_cache(tmp_path, "here", bucket=bucket)
    archive = f"uv/archive-v0/here_id-{bucket}"
    found = given_of(tmp_path, here)
    assert found[-1] == f"uv/wheels-v{bucket}/pypi/here/1.0-py3-none-any.http"
    assert sorted(found[:-1]) == [
        f"{archive}/here-1.0.dist-info/METADATA",
        f"{archive}/here-1.0.dist-info/RECORD",
        f"{archive}/here/__init__.py",
        f"{archive}/here/bin/tool",
    ]
    (tmp_path / ".cache").rename(tmp_path / "moved")
    assert len(seeds([here], {"HOME": "/nowhere", "XDG_CACHE_HOME": str(tmp_path / "moved")})) == 5
    assert len(seeds([here], {"HOME": "/nowhere", "UV_CACHE_DIR": str(tmp_path / "moved/uv")})) == 5


def test_of_two_buckets_the_newer_one(tmp_path: Path) -> None:
    uv_cache(tmp_path, "here", bucket=6)
    found = given_of(tmp_path, uv_cache(tmp_path, "here", bucket=10))
    assert found[-1].startswith("uv/wheels-v10/") and len(found) == 5


def test_nothing_but_pypis(tmp_path: Path) -> None:
    here = uv_cache(tmp_path, "here")
    others: list[Package] = [
        here._replace(source="https://pypi.example.org/simple"),
        here._replace(source=""),
        here._replace(integrity="sha256:00"),
        here._replace(version="2.0"),
        here._replace(name="../pypi/here"),
        here._replace(address=here.address.replace("/packages/", "/other/")),
        uv_cache(tmp_path, "old", bucket=4),
        uv_cache(tmp_path, "private", index="index/0123456789abcdef"),
    ]
    # A lock file once had uv fetch this as PyPI's, and this one says that it is.
    elsewhere = uv_cache(tmp_path, "secret", files="https://private.example/")
    others += [elsewhere, elsewhere._replace(address=elsewhere.address.replace("https://private.example/", FILES))]
    assert [given_of(tmp_path, other) for other in others] == [[] for _ in others]
    assert len(given_of(tmp_path, *others, here)) == 5


@pytest.mark.parametrize("odd", ["edited", "added", "link", "pipe", "record", "linked", "name"])
def test_an_archive_that_is_not_as_the_wheels_own_list_has_it(tmp_path: Path, odd: str) -> None:
    here = uv_cache(tmp_path, "here")
    archive = tmp_path / ".cache/uv/archive-v0/here_id-8"
    file = archive / "here/__init__.py"
    match odd:
        case "edited":
            file.write_text("print('secret')\n")
        case "added":
            (archive / "here/notes").write_text("secret")
        case "link":
            file.rename(tmp_path / "elsewhere")
            file.symlink_to(tmp_path / "elsewhere")
        case "pipe":
            os.mkfifo(archive / "pipe")
        case "record":
            (archive / "here-1.0.dist-info/RECORD").write_text('"')
        case "linked":
            archive.rename(tmp_path / "elsewhere")
            archive.symlink_to(tmp_path / "elsewhere")
        case "name":
            Path(os.fsdecode(bytes(archive / "here") + b"/\xff")).write_text("x")
    assert given_of(tmp_path, here) == []


def test_builds_of_pip(tmp_path: Path) -> None:
    built = pip_cache(tmp_path, "built")
    wheel, origin = given_of(tmp_path, built)
    assert wheel.startswith("pip/wheels/1a/b0/8c/") and wheel.endswith("/built-1.0-py3-none-any.whl")
    assert origin == f"{wheel.rpartition('/')[0]}/origin.json"
    assert (
        given_of(tmp_path, built._replace(version="2.0"), built._replace(integrity=""), built._replace(name="x")) == []
    )
    assert given_of(tmp_path, pip_cache(tmp_path, "private", files="https://private.example/")) == []
    record = tmp_path / ".cache" / origin
    for text in ("[" * 100_000, '{"url": 3}', "3", '{"archive_info": {"hashes": []}}'):
        record.write_text(text)
        assert given_of(tmp_path, built) == []


def test_what_lock_files_say_of_wheels(tmp_path: Path) -> None:
    url = f"{FILES}packages/a-1.0-py3-none-any.whl"
    (tmp_path / "uv.lock").write_text(
        '[[package]]\nname = "a"\nversion = "1.0"\nsource = { registry = "https://pypi.org/simple" }\n'
        f'wheels = [{{ url = "{url}", hash = "sha256:00" }}]\n'
    )
    (tmp_path / "pylock.toml").write_text(
        '[[packages]]\nname = "b"\nversion = "1.0"\nindex = "https://pypi.org/simple"\n'
        f'wheels = [{{ url = "{url}", hashes = {{ sha256 = "00" }} }}]\n'
    )
    (tmp_path / "requirements.txt").write_text(f"c==1.0 \\\n  --hash=sha256:{'0' * 64} --hash=md5:00\nd==1.0\n")
    entries = lock_files.read([tmp_path]).entries
    assert {(each.name, each.address, each.integrity, each.source) for each in entries} == {
        ("a", url, "sha256:00", "https://pypi.org/simple"),
        ("b", url, "sha256:00", "https://pypi.org/simple"),
        ("c", "", f"sha256:{'0' * 64}", ""),
        ("d", "", "", ""),
    }


@pytest.mark.parametrize("archive", ["../x", "..", "a/b", "", "a" * 65, "\0"])
def test_a_record_of_uv_names_an_archive_and_no_path(archive: str) -> None:
    assert read_pointer(uv_pointer(archive, "00", "a-1.0-py3-none-any.whl", FILES, 8)) is None


POINTER = uv_pointer("id", "00", "a-1.0-py3-none-any.whl", f"{FILES}a-1.0-py3-none-any.whl", 8)
JSON = st.recursive(
    st.none() | st.integers(-1, 300) | st.text(max_size=5) | st.sampled_from(["Sha256", "../..", "id"]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8) | st.just("id"), inner, max_size=4),
    max_leaves=8,
)


@given(st.one_of(st.binary(max_size=80), JSON, st.tuples(st.integers(0, len(POINTER) - 1), st.integers(0, 255))))
def test_any_record_of_uv_is_read_or_left_alone(content: Any) -> None:
    """Bytes, a value of any form, and one that is right but for a byte."""
    if isinstance(content, tuple):
        at, byte = content
        content = POINTER[:at] + bytes([byte]) + POINTER[at + 1 :]
    elif not isinstance(content, bytes):
        content = msgspec.msgpack.encode(content) + bytes(8)
    found = read_pointer(content)
    assert found is None or (isinstance(found, Pointer) and "/" not in found.archive and "." not in found.archive)


HOSTILE = st.sampled_from(["..", "../here", "/etc/passwd", "here", "HERE", "a\0b", "", "x" * 300, "[[", '"', "é"])


@given(st.lists(st.tuples(HOSTILE, HOSTILE, HOSTILE), max_size=4), st.booleans())
def test_a_lock_file_leads_nowhere_else(
    tmp_path_factory: pytest.TempPathFactory, packages: list[tuple[str, str, str]], hashed: bool
) -> None:
    folder = tmp_path_factory.mktemp("x")
    here = uv_cache(folder, "here")
    (folder / "own").mkdir()
    (folder / "own/uv.lock").write_text(
        "".join(
            f'[[package]]\nname = {json.dumps(name)}\nversion = "1.0"\n'
            'source = { registry = "https://pypi.org/simple" }\n'
            f"wheels = [{{ url = {json.dumps(FILES + address)}, hash = {json.dumps(digest)} }}]\n"
            for name, address, digest in (
                (name, address, here.integrity if hashed else digest) for name, address, digest in packages
            )
        )
    )
    assert given_of(folder, *lock_files.read([folder / "own"]).entries) == []
