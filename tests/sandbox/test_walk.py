"""Every walk over what a run may have made: folders nested beyond any path, closed, moved meanwhile."""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from peer.runs.removal import Pass
from sandbox.confinement.bubblewrap.resource_usage import DiskUse, count_files
from sandbox.confinement.walk import OPEN, walk
from sandbox.run.collect import collect_files

FOLDER = os.O_RDONLY | os.O_DIRECTORY


@pytest.fixture
def top() -> Iterator[Path]:
    """In memory, and not pytest's: its clean-up is recursive."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    yield folder
    while (one := Pass(folder)).advance(1_000_000) or one.removed:
        pass
    folder.rmdir()


def deep(folder: Path, levels: int, name: str = "d", bottom: str = "file") -> None:
    """Nest folders in `folder`/top, with a file at the bottom, or a folder of a name that begins with a dot."""
    at = os.open(folder, FOLDER)
    for number in range(levels):
        step = name if number else "top"
        os.mkdir(step, dir_fd=at)
        below = os.open(step, FOLDER, dir_fd=at)
        os.close(at)
        at = below
    if bottom.startswith("."):
        os.mkdir(bottom, dir_fd=at)
    else:
        os.close(os.open(bottom, os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=at))
    os.close(at)


def depths(folder: Path) -> Iterator[int]:
    for here in walk(os.open(folder, FOLDER)):
        with os.scandir(here.descriptor) as entries:
            here.inner += [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        yield here.depth


def test_any_depth_with_few_descriptors(top: Path) -> None:
    deep(top, 3_000)
    open_now = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + OPEN + 6, hard))
    try:
        assert list(depths(top)) == list(range(3_001))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_every_folder_is_met_once(top: Path) -> None:
    for name in ("a", "b", "c"):
        (top / name).mkdir()
        deep(top / name, 2 * OPEN)
    (top / "link").symlink_to("a")
    assert sorted(depths(top)) == sorted([0, 1, 1, 1, *(3 * list(range(2, 2 * OPEN + 2)))])


def test_a_folder_that_is_moved_meanwhile_ends_the_walk_and_is_named(top: Path) -> None:
    """Its `..` leads elsewhere by then: up there nothing is to be looked at."""
    inner = "/".join("d" * (OPEN + 5))
    for place in (f"a/{inner}", "b/other"):
        (top / place).mkdir(parents=True)
    missed: list[tuple[str, ...]] = []
    met = []
    for here in walk(os.open(top / "a", FOLDER), lambda parts, _: missed.append(parts)):
        met.append(here.depth)
        here.inner += [entry.name for entry in os.scandir(here.descriptor)]
        if here.depth == OPEN + 5:
            (top / "a/d/d").rename(top / "b/d")
    assert met == list(range(OPEN + 6))
    assert missed == [("d", "d")]


def test_a_link_in_the_place_of_a_folder_is_not_entered(top: Path) -> None:
    (top / "a/inner").mkdir(parents=True)
    (top / "b/secret").mkdir(parents=True)
    missed: list[tuple[str, ...]] = []
    met = []
    for here in walk(os.open(top / "a", FOLDER), lambda parts, _: missed.append(parts)):
        met.append(here.parts)
        here.inner += [entry.name for entry in os.scandir(here.descriptor)]
        if not here.depth:
            (top / "a/inner").rmdir()
            (top / "a/inner").symlink_to(top / "b")
    assert met == [()] and missed == [("inner",)]


def test_files_are_counted_at_any_depth(top: Path) -> None:
    """Seen to fail when it counted to a depth of 64: what lay deeper was free."""
    deep(top, 1_500)
    use = DiskUse()
    for _ in count_files((top,), use):
        pass
    assert use.files == 1_501


@pytest.mark.parametrize("closed", ["workspace", "workspace/out", "workspace/out/sub"])
def test_what_a_run_closed_is_not_returned_and_said(top: Path, closed: str) -> None:
    """Seen to fail when it was passed over, and when a closed workspace failed the run."""
    if os.geteuid() == 0:
        return  # as above
    (top / "workspace/out/sub").mkdir(parents=True)
    (top / "workspace/out/sub/file").touch()
    (top / closed).chmod(0)
    done = collect_files(top / "workspace", top / "collected")
    (top / closed).chmod(0o700)
    assert done.files == ()
    left_out = {"workspace": ("out", "workspace"), "workspace/out": ("out",), "workspace/out/sub": ("sub",)}[closed]
    assert done.left_out == tuple((name, "Permission denied") for name in left_out)
