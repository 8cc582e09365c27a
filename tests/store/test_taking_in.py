"""Taking files into the blobs where the file system shares blocks; the kernel's part is played by a copy.

Each docstring says what was changed in peer/store/blobs.py for its test to fail.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from peer.protocol.errors import TooLarge
from peer.store import blobs
from peer.store.blobs import Blobs
from sandbox.reflink import reflink

CONTENT = os.urandom(700_000)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that another program changes as soon as it was cloned."""
    path = tmp_path / "report.csv"
    path.write_bytes(CONTENT)

    def clone(_source: int, descriptor: int) -> bool:
        os.pwrite(descriptor, path.read_bytes(), 0)
        path.write_bytes(b"changed since")
        return True

    monkeypatch.setattr(blobs, "reflink", clone)
    return path


def test_a_clone_is_hashed_itself(tmp_path: Path, source: Path) -> None:
    """Seen to fail with the source hashed: the blob had the name of other bytes."""
    taken = Blobs(tmp_path / "blobs").take_in(source, "report.csv", limit=len(CONTENT))
    assert (taken.size, taken.digest) == (len(CONTENT), hashlib.sha256(CONTENT).digest())
    blobs.keep([taken])
    assert taken.place.read_bytes() == CONTENT


def test_a_clone_has_the_same_limit(tmp_path: Path, source: Path) -> None:
    """Seen to fail without a look at the size, and with the clone left behind."""
    with pytest.raises(TooLarge):
        Blobs(tmp_path / "blobs").take_in(source, "report.csv", limit=len(CONTENT) - 1)
    assert not list((tmp_path / "blobs").iterdir())


def test_what_cannot_be_cloned_is_copied(tmp_path: Path) -> None:
    """From a file system to another one, and where none of the two can. Seen to fail with the error let through."""
    path = tmp_path / "report.csv"
    path.write_bytes(CONTENT)
    out = os.memfd_create("elsewhere")
    try:
        with path.open("rb") as file:
            assert not reflink(file.fileno(), out)
    finally:
        os.close(out)
    taken = Blobs(tmp_path / "blobs").take_in(path, "report.csv", limit=len(CONTENT))
    assert taken.temporary.read_bytes() == CONTENT
