"""A person's programs that work in the folder during landings: nothing is written outside, and no edit is lost."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.conftest import more
from tests.landing.world import World, look

NAMES = ("one", "two", "three", "four")
AFTER = b"what the run left\n"
MOST = 5_000
"""Rounds of a race."""


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """On a disk, where a landing takes long enough to be met."""
    return tmp_path_factory.mktemp("race")


class Writer:
    """Edits files in `sub`, now and then or all the time.

    `edits`: by the file's name, what must be somewhere in the folder.
    """

    def __init__(self, world: World, outside: Path, seed: int) -> None:
        self._root = world.root
        self._outside = outside
        self._random = random.Random(seed)
        self._number = 0
        self._ended = False
        self.edits: dict[str, list[bytes]] = {name: [] for name in NAMES}
        self._thread = threading.Thread(target=self._run)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._ended = True
            self._thread.join()

    def _run(self) -> None:
        time.sleep(self._random.random() * 0.06)  # no wait for anything: it varies what meets what
        left = self._random.choice([1, 1, 2, 5, 100])
        while left and not self._ended:
            left -= 1
            action = self._random.choices([self._replace, self._append, self._swap_parent], [2, 2, 1])[0]
            with suppress(OSError):
                action()
            time.sleep(self._random.random() * 0.004)

    def _content(self) -> bytes:
        self._number += 1
        return b"edit %d\n" % self._number

    def _replace(self) -> None:
        """As most editors save: another file, renamed over the old one, whose edits this writer itself gives up."""
        name, content = self._random.choice(NAMES), self._content()
        fresh = self._root / "fresh"
        fresh.write_bytes(content)
        folder = os.open(self._root / "sub", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            os.rename(fresh, name, dst_dir_fd=folder)
        finally:
            os.close(folder)
        self.edits[name] = [content]

    def _append(self) -> None:
        """In place, through a file that stays open for a while."""
        name, content = self._random.choice(NAMES), self._content()
        with (self._root / "sub" / name).open("r+b", buffering=0) as file:
            time.sleep(self._random.random() * 0.002)
            file.seek(0, os.SEEK_END)
            file.write(content)
        self.edits[name].append(content)

    def _swap_parent(self) -> None:
        """The folder goes elsewhere; a link out of the granted folder takes its place for a moment."""
        sub, aside = self._root / "sub", self._root / "aside"
        sub.rename(aside)
        try:
            sub.symlink_to(self._outside)
            time.sleep(self._random.random() * 0.002)
            sub.unlink()
        finally:
            aside.rename(sub)


def check(world: World, writer: Writer, outside: Path) -> None:
    found = world.look()
    contents = [about[2] for about in found.values() if about[0] == "file"]
    for name, edits in writer.edits.items():
        for each in edits:
            assert any(each in content for content in contents), (name, each, found)
    assert not [path for path in found if path.rpartition("/")[2].startswith(".dispatch-")]
    assert look(outside) == dict.fromkeys(NAMES, ("file", 420, b"outside"))


def note_all(world: World) -> None:
    """Note changes to all that is there now: a new file, and a change of each but one, which goes."""
    world.entries = []
    for name in NAMES[:-1]:
        if world.base(f"sub/{name}") is not None:
            world.change(f"sub/{name}", AFTER + name.encode(), kind="file")
    if world.base(f"sub/{NAMES[-1]}") is not None:
        world.delete(f"sub/{NAMES[-1]}")
    world.add(f"sub/new-{len(world.look())}-{time.monotonic_ns()}", AFTER)


@pytest.mark.parametrize("seed", [0, *more(1, 2, 3)])
def test_landings_beside_a_writer(tmp_path: Path, seed: int) -> None:
    race(tmp_path, seed, 60)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 108))
def test_many_landings_beside_a_writer(tmp_path: Path, seed: int) -> None:
    race(tmp_path, seed, 1_000)


def race(tmp_path: Path, seed: int, rounds: int) -> None:
    outcomes = {"applied": 0, "refused": 0, "taken back": 0, "stayed": 0}
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in NAMES:
        (outside / name).write_bytes(b"outside")
    world = World(tmp_path)
    # How often an edit falls into a landing depends on the disk: on, until each outcome was there.
    for number in range(MOST):
        if number >= rounds and outcomes["applied"] and outcomes["refused"] and outcomes["stayed"]:
            break
        for name in NAMES:
            world.put(f"sub/{name}", b"before " + name.encode())
        world.journal = world.folder / f"landing-{number}"
        note_all(world)
        writer = Writer(world, outside, seed * 10_000 + number)
        with writer.at_work():
            refused = world.apply()
        check(world, writer, outside)
        outcomes["refused" if refused else "applied"] += 1
        if refused:
            # Nothing of it is there, but where it was edited at that moment.
            left = [about[2] for about in world.look().values() if about[0] == "file"]
            assert not [content for content in left if content.startswith(AFTER) and b"edit" not in content]
            assert not world.journal.exists()
            writer.edits = {name: [] for name in NAMES}
        else:
            again = Writer(world, outside, seed * 10_000 + number + 5_000)
            again.edits = writer.edits
            with again.at_work():
                stay = world.undo()
            check(world, again, outside)
            outcomes["stayed" if stay else "taken back"] += 1
        for path in world.root.rglob("*"):
            if path.is_file():
                path.unlink()
    assert outcomes["applied"] and outcomes["refused"] and outcomes["stayed"], outcomes
