"""Mounting other file systems for a test, where root runs it and the machine has them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SIZE = 4 << 30
"""Of a disk that is a file without content: a run is ended where less than 1 GiB is free."""
PACKAGES = {
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.xfs": "xfsprogs",
    "bindfs": "bindfs",
    "filefrag": "e2fsprogs",
}
"""Of Debian."""


def program(name: str) -> str:
    """Where the program is; skips the test if it is nowhere."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"this machine has no {name} (Debian: {PACKAGES[name]})")
    return found


@contextmanager
def mounted(words: list[str], at: Path) -> Iterator[None]:
    """Mount something by this command, whose last word is `at`; skips the test where that is not possible."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    done = subprocess.run([*words, str(at)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this machine cannot mount it: {' '.join(done.stderr.split())}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


@contextmanager
def disk(kind: str) -> Iterator[Path]:
    """A new, empty disk of this file system, outside /tmp, which every run has as its own."""
    make = program(f"mkfs.{kind}")
    with tempfile.TemporaryDirectory(prefix="dispatch-test-", dir="/var/tmp") as folder:
        image, at = Path(folder, "image"), Path(folder, "disk")
        at.mkdir()
        image.touch()
        os.truncate(image, SIZE)
        subprocess.run([make, "-q", str(image)], check=True, capture_output=True)
        with mounted(["mount", "-t", kind, "-o", "loop", str(image)], at):
            yield at


@contextmanager
def fuse(source: Path, at: Path) -> Iterator[None]:
    """Show the folder `source` at `at`, through a program."""
    with mounted([program("bindfs"), str(source)], at):
        yield
