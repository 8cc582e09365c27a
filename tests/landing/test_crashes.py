"""A landing and an undo that are killed before every single call that changes something: all or nothing, no trace."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

import pytest

from tests.landing.killing import killed
from tests.landing.world import World, look, many_changes, wanted_of_many


def fresh(top: Path, name: str, other: Path | None) -> World:
    folder = top / name
    folder.mkdir()
    world = World(folder, journal=None if other is None else other / name)
    many_changes(world)
    return world


@pytest.fixture(params=["the same file system", pytest.param("another file system", marks=pytest.mark.long)])
def other(request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """Where the journal is: beside the folder, or on another file system, to which nothing can be renamed."""
    if request.param == "the same file system":
        return None
    folder = tmp_path_factory.mktemp("other")
    if folder.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system to write to")
    return folder


def test_killed_at_every_step_of_a_landing(tmp_path: Path, other: Path | None) -> None:
    outcomes = []
    step = 0
    while True:
        world = fresh(tmp_path, f"w{step}", other)
        before = world.look()
        after = wanted_of_many(before)
        was_killed = killed(step, world.apply)
        killed(step * 7 % 41, world.resume)  # the start after the crash is killed as well
        outcome = world.resume()
        outcomes.append(outcome)
        assert world.look() == (after if outcome == "applied" else before), (step, outcome)
        assert world.journal.exists() == (outcome == "applied")
        if outcome == "applied":
            assert world.undo() == []
            assert world.look() == before
        if not was_killed:
            break
        shutil.rmtree(world.root.parent)
        step += 1
    assert outcomes[0] == "nothing" and outcomes[-1] == "applied"
    assert outcomes == sorted(outcomes, reverse=True)  # from one step on it has happened


@pytest.mark.long
def test_killed_at_every_step_of_an_undo(tmp_path: Path, other: Path | None) -> None:
    step = 0
    while True:
        world = fresh(tmp_path, f"w{step}", other)
        before = world.look()
        assert world.apply() == []
        # Two entries stay, whatever happens: one was edited in place, one replaced.
        edited = world.root / "changed.txt"
        edited.write_bytes(b"newer")
        replaced = world.root / "added/run"
        replaced.unlink()
        replaced.write_bytes(b"newer")
        was_killed = killed(step, world.undo)
        killed(step * 7 % 83, world.undo)
        left = world.undo()
        refused = {world.entries[each.number].path for each in left}
        assert refused == {b"changed.txt", b"added/run"}, (step, left)
        stays = {
            "changed.txt": ("file", 0o640, b"newer"),
            "added": ("folder",),
            "added/run": ("file", 0o644, b"newer"),
        }
        assert world.look() == before | stays, step
        if not was_killed:
            break
        shutil.rmtree(world.root.parent)
        step += 1
    assert step > 50


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    world = fresh(tmp_path, "w", None)
    assert killed(5, world.apply)
    descriptor = os.open(world.root, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)
    assert look(world.root)
