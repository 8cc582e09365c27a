"""What a run's view of its project costs at the start, by the size of the project.

Each line is a project of so many files: making the view (an overlay as dp-agent mounts it, trial and record included;
the copy that serves where no overlay can be had), and from there until /bin/true inside the sandbox was reaped. The
goal is set for the overlay: 100,000 files may cost 100 ms more than none.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import trio

from sandbox.confinement import Profile, Root
from sandbox.confinement.bubblewrap import spawn
from sandbox.views import namespace
from sandbox.views.making import make_views
from tests.bench._table import Line, ms, p50, show

SIZES = (0, 100, 10_000, 100_000)
ROUNDS = {"overlay": 15, "copy": 3}
GOAL_MS = 100.0


def project(folder: Path, files: int) -> Path:
    """A project of so many small files, a hundred in each folder."""
    folder.mkdir()
    for number in range(files):
        place = folder / f"part{number // 100}"
        if number % 100 == 0:
            place.mkdir()
        (place / f"file{number}.py").write_text(f"number = {number}\n")
    return folder


async def start(profile: Profile) -> None:
    process = await spawn(profile, ["/bin/true"], profile.environment(), stdin=subprocess.DEVNULL)
    status = await process.wait()
    await process.aclose()
    assert status == 0


def measure(base: Path, files: int, no_overlay: str, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of making the view, and until a program in it has ended."""
    made, started = [], []
    for number in range(rounds):
        run = base / f"run-{files}-{number}-{bool(no_overlay)}"
        (run / "workspace").mkdir(parents=True)
        plain = Profile(workspace=run / "workspace", roots=(Root(base / str(files), True),))
        began = time.perf_counter()
        views = make_views(plain.roots, run, no_overlay=no_overlay, limits=plain.limits)
        made.append(time.perf_counter() - began)
        trio.run(start, replace(plain, roots=views.roots))
        started.append(time.perf_counter() - began)
        views.close()
    return made, started


def main() -> None:
    refused = namespace.enter()
    with tempfile.TemporaryDirectory(prefix="dispatch-bench-", dir="/var/tmp") as folder:
        base = Path(folder).resolve()
        for files in SIZES:
            project(base / str(files), files)
        for kind, no_overlay in (("overlay", refused), ("copy", "measured")):
            if kind == "overlay" and refused:
                print(f"\nno overlay here: {refused}")
                continue
            lines, least = [], 0.0
            for files in SIZES:
                made, started = measure(base, files, no_overlay, ROUNDS[kind])
                least = least or p50(started)
                more = (p50(started) - least) * 1e3
                what = f"{files:,} files: the view, then /bin/true"
                goal = f"<= {GOAL_MS:g} ms more than none" if kind == "overlay" else ""
                lines.append(Line(f"{files:,} files: the view alone", ms(made)))
                lines.append(Line(what, ms(started), None, "", goal, more <= GOAL_MS if goal else None))
            show(f"A view that is {'an overlay' if kind == 'overlay' else 'a copy'}, {ROUNDS[kind]} times each", lines)


if __name__ == "__main__":
    main()
