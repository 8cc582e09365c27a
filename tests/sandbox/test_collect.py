"""Taking returned files out of what a hostile run left behind."""

from __future__ import annotations

import hashlib
import os
import socket
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.run import collect
from sandbox.run.collect import MAX_NAME_BYTES, Collection, collect_files, harmless_name


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace/out"
    folder.mkdir(parents=True)
    return folder


def taken(out: Path, **bounds: Any) -> Collection:
    return collect_files(out.parent, out.parents[1] / "collected", **bounds)


def test_files_arrive_with_their_hash(out: Path) -> None:
    (out / "report.md").write_text("done\n")
    (out / "sub/deep").mkdir(parents=True)
    (out / "sub/deep/data.bin").write_bytes(bytes(range(256)) * 9000)
    (out / "empty").touch()
    found = {file.name: file for file in taken(out).files}
    assert set(found) == {"report.md", "sub__deep__data.bin", "empty"}
    for file in found.values():
        content = file.path.read_bytes()
        assert file.size == len(content) and file.sha256 == hashlib.sha256(content).hexdigest()
        assert file.path.stat().st_mode & 0o777 == 0o600 and file.path.parent.name == "collected"
    assert found["sub__deep__data.bin"].path.read_bytes() == (out / "sub/deep/data.bin").read_bytes()


def test_nothing_there_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "workspace").mkdir()
    assert collect_files(tmp_path / "workspace", tmp_path / "collected").files == ()
    (tmp_path / "workspace/out").write_text("a file, not a folder")
    assert collect_files(tmp_path / "workspace", tmp_path / "collected2").files == ()


def test_an_existing_destination_is_refused(out: Path) -> None:
    (out.parents[1] / "collected").mkdir()
    with pytest.raises(FileExistsError):
        taken(out)


def test_ways_out_are_not_followed(out: Path) -> None:
    secret = out.parents[1] / "secret"
    secret.write_text("secret")
    (out / "link").symlink_to(secret)
    (out / "relative").symlink_to("../../secret")
    (out / "inner").symlink_to("plain")
    (out / "folder").symlink_to(secret.parent)
    (out / "proc").symlink_to("/proc/self/environ")
    os.mkfifo(out / "pipe")
    (out / "plain").write_text("plain")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(out / "socket"))
        done = taken(out)
    assert [file.name for file in done.files] == ["plain"]
    assert dict(done.left_out).keys() == {"link", "relative", "inner", "folder", "proc", "pipe", "socket"}


def test_the_out_folder_itself_may_be_a_link(out: Path) -> None:
    (out.parents[1] / "secret").mkdir()
    (out.parents[1] / "secret/file").write_text("secret")
    out.rmdir()
    out.symlink_to("../secret")
    assert taken(out).files == ()


def test_bounds(out: Path) -> None:
    for number in range(5):
        (out / f"{number}").write_bytes(b"x" * 100)
    done = taken(out, max_files=3)
    assert len(done.files) == 3 and len(done.left_out) == 2
    done = collect_files(out.parent, out.parents[1] / "c2", max_bytes=250)
    assert sum(file.size for file in done.files) == 200 and len(done.left_out) == 3
    with (out / "0").open("wb") as sparse:
        sparse.truncate(10**12)
    done = collect_files(out.parent, out.parents[1] / "c3", max_file_bytes=99)
    assert done.files == () and ("0", "too large") in done.left_out


def test_a_file_that_grows_while_it_is_read(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (out / "small").write_bytes(b"x")
    monkeypatch.setattr(os, "read", lambda descriptor, size: b"x" * size)  # /dev/zero, in effect
    done = taken(out, max_bytes=10**7)
    assert done.files == () and done.left_out == (("small", "too large"),)
    assert not list((out.parents[1] / "collected").iterdir())


def test_deep_and_wide_trees_end(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = out
    for _ in range(40):
        deep /= "d"
        deep.mkdir()
    (deep / "file").touch()
    assert any(reason == "too deep" for _, reason in taken(out).left_out)
    monkeypatch.setattr(collect, "_MAX_ENTRIES", 50)
    for number in range(200):
        (out / f"f{number}").touch()
    done = collect_files(out.parent, out.parents[1] / "c2", max_files=1000)
    assert len(done.files) <= 50 and any(reason == "too many entries" for _, reason in done.left_out)


HOSTILE = [
    "a\nb.txt",
    "\x1b[2J.txt",
    "\u202egpj.exe",
    "-rf",
    "~",
    ".bashrc",
    "CON.txt",
    " ",
    "x" * 250 + ".txt",
    "a\x7f",
    "\u2028",
]


def test_hostile_names(out: Path) -> None:
    for name in HOSTILE:
        (out / name).write_text(name)
    (Path(os.fsdecode(os.fsencode(out) + b"/bad\xff\xfe"))).write_text("bytes")
    (out / "a").mkdir()
    (out / "a/b").write_text("1")
    (out / "a__b").write_text("2")
    (out / "A__B").write_text("3")
    done = taken(out)
    assert len(done.files) == len(HOSTILE) + 4 and not done.left_out
    names = [file.name for file in done.files]
    assert len({name.casefold() for name in names}) == len(names)
    assert {"a__b", "a__b-2", "a__b-3"} <= {name.casefold() for name in names}
    for name in names:
        check(name)


def check(name: str) -> None:
    assert name and name not in (".", "..") and not name.startswith((".", "-", "~"))
    assert len(name.encode()) <= MAX_NAME_BYTES
    assert not any(unicodedata.category(ch)[0] == "C" for ch in name) and not set(name) & set('/\\\n"')


@given(st.lists(st.one_of(st.text(min_size=1, max_size=40), st.just("ж" * 120)), min_size=1, max_size=3))
def test_any_name_becomes_harmless(parts: list[str]) -> None:
    check(harmless_name(tuple(parts)))


def test_plain_names_stay() -> None:
    for name in ("report.md", "Übersicht 2026.pdf", "日本語.txt", "a-b_c.tar.gz"):
        assert harmless_name((name,)) == name
