"""Some seeds of the simulation on paths: always on the best path there is, and everything arrives.

Which changes of the code it was seen to notice, and by which seed: docs/testing.md.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import HANG, more
from tests.simulation.paths.play import PathPlay


@pytest.mark.parametrize("first", [1, *more(1000, 1250, 1500, 1750)])
def test_whatever_happens_to_paths_the_best_one_is_taken(first: int) -> None:
    """In a process of its own, where texts are hashed as in the one that plays a seed again."""
    seeds = 4 if first < 1000 else 250
    command = [sys.executable, "-m", "tests.simulation.paths", str(first), str(first + seeds - 1)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG + 20 * seeds, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    said = {line[9:]: line[:8].strip() for line in done.stdout.splitlines()}
    for what in ("connected: direct", "connected: relay", "completed/completed", "files equal"):
        assert said.get(what, "0") != "0", f"{what} never happened\n{done.stdout}"


@pytest.mark.long
def test_a_seed_plays_the_same_again(memory: Path) -> None:
    logs = []
    for name in "ab":
        (memory / name).mkdir()
        play = PathPlay(5, memory / name, told=True)
        happened = play.run()
        # What is drawn by the system's own randomness is bytes alone: keys of a connection, nonces.
        logs.append((happened, play.log))
    assert logs[0] == logs[1]
