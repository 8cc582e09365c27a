"""The manifest of a copied view: what is written is read again, and nothing that is not whole passes."""

import os
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.views import manifest
from sandbox.views.manifest import Copied, ManifestError, ManifestWriter

_Number = st.integers(0, 2**63 - 1)
_Kind: st.SearchStrategy[Literal["file", "link", "folder", "other"]] = st.sampled_from(
    ["file", "link", "folder", "other"]
)
_records = st.builds(
    Copied,
    path=st.binary(max_size=300),
    kind=_Kind,
    mode=st.integers(0, 0o7777),
    size=_Number,
    target=st.binary(max_size=100),
    device=_Number,
    inode=_Number,
    changed_ns=_Number,
    copy_inode=_Number,
    copy_changed_ns=_Number,
    skipped=st.text(max_size=40),
)


def written(folder: Path, records: list[Copied]) -> Path:
    path = folder / "manifest"
    path.unlink(missing_ok=True)
    with ManifestWriter(path) as writer:
        for record in records:
            writer.add(record)
        writer.finish()
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("manifest")


@given(records=st.lists(_records, max_size=5))
def test_what_is_written_is_read(folder: Path, records: list[Copied]) -> None:
    assert list(manifest.read(written(folder, records))) == records


@given(records=st.lists(_records, max_size=5), data=st.data())
def test_no_part_of_one_passes_for_a_whole_one(folder: Path, records: list[Copied], data: st.DataObject) -> None:
    path = written(folder, records)
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(ManifestError):
        list(manifest.read(path))


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "m").symlink_to(written(tmp_path, []))
    with pytest.raises(OSError, match="Too many levels"):
        list(manifest.read(tmp_path / "m"))


def test_its_bounds(tmp_path: Path) -> None:
    with ManifestWriter(tmp_path / "manifest") as writer, pytest.raises(ManifestError):
        writer.add(Copied(path=bytes(manifest.MAX_RECORD), kind="file", mode=0, device=0, inode=0, changed_ns=0))


def test_a_touched_copy_and_a_touched_original_are_told(tmp_path: Path) -> None:
    original, copy = tmp_path / "original", tmp_path / "copy"
    original.write_bytes(b"one")
    copy.write_bytes(b"one")
    was, made = original.lstat(), copy.lstat()
    record = Copied(
        path=b"",
        kind="file",
        mode=0o644,
        size=3,
        device=was.st_dev,
        inode=was.st_ino,
        changed_ns=was.st_ctime_ns,
        copy_inode=made.st_ino,
        copy_changed_ns=made.st_ctime_ns,
    )
    assert record.same_original(original.lstat())
    assert record.same_copy(copy.lstat())
    for path in (original, copy):
        path.unlink()
        path.write_bytes(b"two")
        os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert not record.same_original(original.lstat())
    assert not record.same_copy(copy.lstat())
