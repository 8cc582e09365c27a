"""Play one seed of the simulation, or many: `make simulate ARGS="SEED [LAST] [--people N] [--dispatches N]"`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.simulation.scenario import Play


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("seed", type=int)
    parser.add_argument("last", type=int, nargs="?")
    parser.add_argument("--people", type=int, default=3)
    parser.add_argument("--dispatches", type=int, default=20)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--troubles", type=int, default=25)
    given = parser.parse_args()
    total: Counter[str] = Counter()
    began = time.monotonic()
    for seed in range(given.seed, (given.last or given.seed) + 1):
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            play = Play(seed, Path(folder), given.people, given.dispatches, given.hours, given.troubles)
            total += play.run()
    if given.last is None:
        sys.stdout.write("\n".join(play.log) + "\n")
    for what, times in sorted(total.items()):
        sys.stdout.write(f"{times:8,} {what}\n")
    sys.stdout.write(f"{time.monotonic() - began:.1f} s\n")


if __name__ == "__main__":
    main()
