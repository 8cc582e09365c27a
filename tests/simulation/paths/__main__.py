"""Play one seed on paths, or many: `make simulate-paths ARGS="SEED [LAST] [--people N] [--dispatches N]"`.

Plays that have nothing to do with each other, of other seeds or circles, are played side by side on all processors.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.simulation.paths.play import TROUBLES, PathPlay


@dataclass
class Played:
    """What one play has shown. `error`: why it failed and what plays it again, `trace`: where; else empty."""

    happened: Counter[str] = field(default_factory=Counter)
    longest: dict[str, float] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    error: str = ""
    trace: str = ""


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
    parser.add_argument(
        "--circles", type=int, default=1, help="of people who know nobody outside, with the same relays and brokers"
    )
    parser.add_argument("--circle", type=int, help="play this one alone, counted from 0")
    parser.add_argument("--log", action="store_true", help="with what the nodes themselves log")
    given = parser.parse_args()
    if given.circles < 1 or given.people < 2 * given.circles:
        parser.error("a circle has two people or more")
    if given.circle is not None and not 0 <= given.circle < given.circles:
        parser.error("there is no such circle")
    began = time.monotonic()
    gc.freeze()
    # Trio leaves many cycles, and each look for them costs a tenth of the time: more, the more people there are.
    gc.set_threshold(50_000 * max(1, given.people // given.circles // 20), 20, 50)
    circles = range(given.circles) if given.circle is None else (given.circle,)
    plays = [(seed, circle) for seed in range(given.seed, (given.last or given.seed) + 1) for circle in circles]
    total: Counter[str] = Counter()
    longest: dict[str, float] = {}
    failed = []
    for (seed, circle), played in zip(plays, _side_by_side(given, plays), strict=True):
        total += played.happened
        for what, seconds in played.longest.items():
            longest[what] = max(longest.get(what, 0.0), seconds)
        where = f"circle {circle} of seed {seed}" if given.circles > 1 else f"seed {seed}"
        if given.last is None:
            _say(f"{where}:" if given.circles > 1 else "", *played.log, played.trace)
        elif seed % 100 == 0 and circle == circles[0]:
            _say(f"seed {seed}")
        if played.error:
            failed.append(where)
            _say(f"{where}: {played.error}")
    _say(*(f"{times:8,} {what}" for what, times in sorted(total.items())))
    _say(*(f"{seconds:8.0f} at most (seconds, or a count): {what}" for what, seconds in sorted(longest.items())))
    _say(f"{time.monotonic() - began:.1f} s, {len(failed)} of {len(plays)} plays failed: {', '.join(failed) or 'none'}")
    sys.exit(bool(failed))


def _side_by_side(given: argparse.Namespace, plays: list[tuple[int, int]]) -> Iterator[Played]:
    """Yield what each play has shown, in their order."""
    if len(plays) == 1:
        yield _play(given, plays[0])
        return
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("fork")) as pool:
        begun: list[Future[Played]] = []
        broken = Played(error="its process ended, or one beside it")
        with suppress(BrokenProcessPool):
            for which in plays:
                begun.append(pool.submit(_play, given, which))
        for each in begun:
            try:
                yield each.result()
            except BrokenProcessPool:
                yield broken
        for _ in plays[len(begun) :]:
            yield broken


def _play(given: argparse.Namespace, which: tuple[int, int]) -> Played:
    seed, circle = which
    played = Played()
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
            circle=circle,
            circles=given.circles,
        )
        try:
            played.happened = play.run()
        except (Exception, ExceptionGroup) as error:
            played.trace = traceback.format_exc()
            first: BaseException = error
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
            line = next(iter(str(first).splitlines()), "")
            played.error = f"{type(first).__name__}: {line}\n  {play.again()}"
        played.longest, played.log = play.longest, play.log
    return played


def _say(*lines: str) -> None:
    for line in filter(None, lines):
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
