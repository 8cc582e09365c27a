"""Play one seed on paths, or many: `make simulate-paths ARGS="SEED [LAST] [--people N] [--dispatches N]"`."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.simulation.paths.play import TROUBLES, PathPlay


def main() -> None:
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of a set of texts is another one in each process
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.simulation.paths", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.paths")
    parser.add_argument("seed", type=int)
    parser.add_argument("last", type=int, nargs="?")
    parser.add_argument("--people", type=int, default=3)
    parser.add_argument("--dispatches", type=int, default=8)
    parser.add_argument("--hours", type=float, default=0.25)
    parser.add_argument("--troubles", type=int, default=15)
    parser.add_argument("--only", choices=sorted(set(TROUBLES)), help="what goes wrong, in place of everything")
    parser.add_argument("--still", action="store_true", help="leave out what cannot have changed: for long plays")
    parser.add_argument("--log", action="store_true", help="with what the nodes themselves log")
    given = parser.parse_args()
    total: Counter[str] = Counter()
    longest: dict[str, float] = {}
    failed = []
    began = time.monotonic()
    gc.freeze()
    # Trio leaves many cycles, and each look for them costs a tenth of the time: more, the more people there are.
    gc.set_threshold(50_000 * max(1, given.people // 20), 20, 50)
    for seed in range(given.seed, (given.last or given.seed) + 1):
        if seed % 100 == 0 and given.last is not None:
            sys.stdout.write(f"seed {seed}\n")
            sys.stdout.flush()
        with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
            play = PathPlay(
                seed,
                Path(folder),
                given.people,
                given.dispatches,
                given.hours,
                given.troubles,
                still=given.still,
                only=(given.only,) if given.only else TROUBLES,
                told=given.log,
            )
            try:
                total += play.run()
            except (Exception, ExceptionGroup) as error:
                if given.last is None:
                    sys.stdout.write("\n".join(play.log) + "\n")
                    raise
                failed.append(seed)
                sys.stdout.write(f"seed {seed}: {str(error).splitlines()[0]}\n")
            for what, seconds in play.longest.items():
                longest[what] = max(longest.get(what, 0.0), seconds)
    if given.last is None:
        sys.stdout.write("\n".join(play.log) + "\n")
    for what, times in sorted(total.items()):
        sys.stdout.write(f"{times:8,} {what}\n")
    for what, seconds in sorted(longest.items()):
        sys.stdout.write(f"{seconds:8.0f} at most (seconds, or a count): {what}\n")
    sys.stdout.write(f"{time.monotonic() - began:.1f} s, {len(failed)} seeds failed: {failed}\n")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
