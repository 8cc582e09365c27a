"""A umask that lets everybody in, and one that lets nobody: what is private stays private, what is shared works."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.conftest import more
from tests.surroundings.story import somebody, tell
from tests.system.world import Person, World

PUBLIC = 0o077


def open_to_others(folder: Path) -> list[str]:
    """What others can reach: a folder that is closed closes all that is below it."""
    found: list[str] = []
    for at, folders, files in os.walk(folder):
        private = [name for name in folders if not stat.S_IMODE((Path(at) / name).lstat().st_mode) & PUBLIC]
        folders[:] = [name for name in folders if name not in private]
        names = [*folders, *files]
        found += [f"{at}/{name}" for name in names if stat.S_IMODE((Path(at) / name).lstat().st_mode) & PUBLIC]
    return found


@pytest.mark.parametrize("umask", ["000", *more("077")])
def test_a_umask_opens_and_closes_nothing(alice: Person, world: World, tmp_path: Path, umask: str) -> None:
    bob = somebody(world, f"umask-{umask}", tmp_path / "bob")
    inside = ["/bin/sh", "-c", f'umask {umask}; exec "$@"', "sh"]
    bob.launch(inside=inside)
    bob.ready()
    seen: list[str] = []
    project = tell(alice, bob, tmp_path / "back", meanwhile=lambda _: seen.extend(open_to_others(bob.state.path)))
    assert (seen, open_to_others(bob.state.path)) == ([], [])
    assert stat.S_IMODE(bob.state.path.stat().st_mode) == 0o700
    # Nobody else may change what a run made, whatever the daemon's umask lets them.
    for made in (project / "new", project / "new/b.txt"):
        assert not stat.S_IMODE(made.stat().st_mode) & 0o022, made
    # The command line makes a state folder of its own.
    bob.environment["DISPATCH_HOME"] = str(tmp_path / "another")
    bob.cli("config", "set", "notifications", "off", inside=inside)
    assert stat.S_IMODE((tmp_path / "another").stat().st_mode) == 0o700
    assert open_to_others(tmp_path / "another") == []
