"""What runs leave on disk is removed whatever it is, and never in the way of anything."""

from __future__ import annotations

import os
import resource
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from peer.runs import removal
from peer.runs.removal import TRASH, Pass, Remover
from tests.conftest import HANG


def deep(folder: Path, levels: int, name: str = "d") -> None:
    """Nest folders, whose whole path may be longer than the kernel takes; a file lies at the bottom."""
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=at)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=at)
        os.close(at)
        at = below
    os.close(os.open("file", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=at))
    os.close(at)


def closed(folder: Path) -> None:
    for mode in (0o000, 0o100, 0o200, 0o400, 0o500):
        inner = folder / f"{mode:o}/inner/most"
        inner.mkdir(parents=True)
        (inner / "file").touch()
        for path in (inner, inner.parent, inner.parents[1]):
            path.chmod(mode)


def named(folder: Path) -> None:
    for name in (b"\xff\xfe", b"new\nline", b"-rf", b"\x01\x1b[2J", b"x" * 255):
        inner = folder / os.fsdecode(name)
        inner.mkdir()
        (inner / os.fsdecode(name)).touch()


def special(folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.open(folder, os.O_RDONLY)
        listening.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
    (folder / "dangling").symlink_to("nothing")
    (folder / "loop").symlink_to("loop")


def huge(folder: Path) -> None:
    at = os.open(folder, os.O_RDONLY)
    for number in range(20_000):
        os.close(os.open(f"{number}", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=at))
    for number in range(300):
        os.mkdir(f"folder-{number}", dir_fd=at)
        os.mkdir(f"folder-{number}/inner", dir_fd=at)
    os.close(at)


KINDS: dict[str, Callable[[Path], None]] = {
    "deep": lambda folder: deep(folder, 3_000),
    "deep and long": lambda folder: deep(folder, 400, "x" * 255),
    "closed": closed,
    "names": named,
    "special": special,
    "huge": huge,
}


def names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


async def emptied(runs: Path) -> None:
    """Wait until the trash is empty."""
    while names(runs / TRASH):
        await trio.sleep(0.01)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory: there are many folders to make. Not pytest's, whose clean-up is recursive as what was here before."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    yield folder
    while (one := Pass(folder)).advance(1_000_000) or one.removed:
        pass
    folder.rmdir()


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("kind", KINDS)
async def test_whatever_a_run_leaves_is_removed(runs: Path, kind: str, nursery: trio.Nursery) -> None:
    run_dir = runs / "a-dispatch/1"
    run_dir.mkdir(parents=True)
    KINDS[kind](run_dir)
    remover = Remover(runs)
    # Its name is free at once, before anything is removed.
    await remover.remove(run_dir)
    assert names(runs) == [TRASH]
    run_dir.mkdir(parents=True)
    nursery.start_soon(remover.run)
    with trio.fail_after(HANG):
        await emptied(runs)
    assert run_dir.is_dir()


@pytest.mark.parametrize("kind", KINDS)
async def test_whatever_lies_there_at_the_start_is_removed(runs: Path, kind: str, nursery: trio.Nursery) -> None:
    for place in (runs / "1", runs / TRASH / "2"):
        place.mkdir(parents=True)
        KINDS[kind](place)
    remover = Remover(runs)
    await remover.remove_all()
    assert names(runs) == [TRASH]
    nursery.start_soon(remover.run)
    with trio.fail_after(HANG):
        await emptied(runs)


async def test_what_is_spared_keeps_its_place_and_what_lies_beside_it_goes(runs: Path) -> None:
    for place in ("one/1", "one/2", "two/1", "three"):
        (runs / place).mkdir(parents=True)
    await Remover(runs).remove_all(but=[runs / "one/1"])
    assert names(runs) == sorted([TRASH, "one"]) and names(runs / "one") == ["1"]


def test_few_descriptors_are_open_at_a_time(runs: Path) -> None:
    run_dir = runs / TRASH / "1"
    run_dir.mkdir(parents=True)
    deep(run_dir, 300)
    open_now = max(int(name) for name in names(Path("/proc/self/fd")))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 7, hard))
    try:
        one = Pass(runs / TRASH)
        while one.advance(100):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not one.left and names(runs / TRASH) == []


def test_no_link_is_followed(runs: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    trash = runs / TRASH
    (trash / "1/inner").mkdir(parents=True)
    for place in (trash, trash / "1", trash / "1/inner"):
        (place / "link").symlink_to(outside)
    one = Pass(trash)
    assert not one.advance(1_000) and not one.left
    assert names(trash) == [] and names(outside) == ["precious"]


@pytest.mark.parametrize("level", ["1", "1/inner", "1/inner/most"])
def test_a_folder_that_becomes_a_link_while_it_is_removed(
    runs: Path, tmp_path: Path, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is swapped at the worst instant: when it is known to be a folder, and is about to be opened."""
    outside = tmp_path / "outside"
    (outside / "inner/most").mkdir(parents=True)
    (outside / "inner/most/precious").touch()
    mode = stat.S_IMODE(outside.stat().st_mode)
    trash = runs / TRASH
    (trash / "1/inner/most").mkdir(parents=True)
    (trash / "1/inner/most/file").touch()
    inode = (trash / level).stat().st_ino
    opened = removal._opened
    swapped: list[str] = []

    def swap(parent: int, name: str) -> int:
        if not swapped and os.stat(name, dir_fd=parent, follow_symlinks=False).st_ino == inode:
            swapped.append(name)
            os.rename(name, "aside", src_dir_fd=parent, dst_dir_fd=parent)
            os.symlink(outside, name, dir_fd=parent)
        return opened(parent, name)

    monkeypatch.setattr(removal, "_opened", swap)
    for _ in range(3):
        assert not Pass(trash).advance(1_000)
    assert swapped and names(trash) == []
    assert (outside / "inner/most/precious").exists() and stat.S_IMODE(outside.stat().st_mode) == mode


async def test_what_cannot_be_removed_is_left_and_tried_again(
    runs: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = True
    tried = trio.Event()
    token = trio.lowlevel.current_trio_token()
    unlink = os.unlink

    def unlinking(name: str, *, dir_fd: int) -> None:
        if name == "immutable" and stuck:
            trio.from_thread.run_sync(tried.set, trio_token=token)
            raise PermissionError(1, "Operation not permitted")
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", unlinking)
    run_dir = runs / "1"
    (run_dir / "a/b").mkdir(parents=True)
    (run_dir / "a/b/immutable").touch()
    (run_dir / "c").mkdir()
    (run_dir / "c/file").touch()
    remover = Remover(runs, retry_seconds=0.01)
    await remover.remove(run_dir)
    nursery.start_soon(remover.run)
    with trio.fail_after(HANG):
        await tried.wait()
        while len(names(runs / TRASH)) != 1:
            await trio.sleep(0.01)
        # Another run's folder is removed in spite of it.
        (run_dir / "a").mkdir(parents=True)
        await remover.remove(run_dir)
        while len(names(runs / TRASH)) != 1:
            await trio.sleep(0.01)
        stuck = False
        await emptied(runs)


async def test_what_failed_once_is_tried_again_soon(
    runs: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a process that was killed a moment ago still made a file. With the longest pause it would take 900 s."""
    failed: list[bool] = []
    unlink = os.unlink

    def once(name: str, *, dir_fd: int | None = None) -> None:
        if not failed:
            failed.append(True)
            raise OSError(39, "Directory not empty")
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", once)
    (runs / "1/a").mkdir(parents=True)
    (runs / "1/a/file").touch()
    remover = Remover(runs)
    await remover.remove(runs / "1")
    nursery.start_soon(remover.run)
    with trio.fail_after(HANG):
        await emptied(runs)
    assert failed


async def test_what_cannot_be_set_aside_stops_nothing(
    runs: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(*_args: object, **_kept: object) -> str:
        raise OSError(30, "Read-only file system")

    (runs / "1").mkdir()
    remover = Remover(runs, retry_seconds=0.01)
    with monkeypatch.context() as patched:
        patched.setattr(removal, "_lift", refusing)
        await remover.remove(runs / "1")
        await remover.remove_all()
        assert (runs / "1").is_dir()
    nursery.start_soon(remover.run)
    with trio.fail_after(HANG):
        while (runs / "1").exists():
            await trio.sleep(0.01)
        await emptied(runs)


async def test_no_folder_and_no_trash_are_nothing_to_do(tmp_path: Path) -> None:
    remover = Remover(tmp_path / "runs")
    await remover.remove_all()
    await remover.remove(tmp_path / "runs/1")
    assert not Pass(tmp_path / "runs" / TRASH).advance(10)
