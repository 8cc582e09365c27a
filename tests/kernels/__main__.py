"""Boot the kernels of table.py, one after the other, and say what held. Exit status 0 if all of it did.

    make test-kernels ARGS="debian-12 ubuntu-24.04"      some of them
    make test-kernels ARGS="debian-12 -- canaries run"   these steps: refusals, canaries, and the suites of inside.py
    make test-kernels ARGS="debian-12 -- ordinary views"  one user alone: root, ordinary
    make test-kernels ARGS="debian-12 -- tests/landing"  these tests in place of the suites

KERNELS_CACHE names the folder that keeps downloads and disks (build/kernels); DEBIAN_MIRROR and UBUNTU_MIRROR name the
archives, where this machine's own packages come from others. Results: results/KERNEL in that folder,
results/summary.json.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.kernels import guest, image
from tests.kernels.inside import STEPS, USERS
from tests.kernels.table import KERNELS, Kernel

CACHE = "build/kernels"
_SHOWN = 60
"""Lines of a guest's console that are shown where it did not end well."""

Row = dict[str, Any]


def main(words: Sequence[str]) -> int:
    names, tests = list(words), []
    if "--" in names:
        at = names.index("--")
        names, tests = names[:at], names[at + 1 :]
    chosen = [kernel for kernel in KERNELS if not names or kernel.name in names]
    if unknown := set(names) - {kernel.name for kernel in KERNELS}:
        return _stop(f"no kernel {', '.join(sorted(unknown))}; there are {', '.join(each.name for each in KERNELS)}")
    known = {*STEPS, *USERS}
    tests_named = any(word.startswith("tests/") for word in tests)
    if not tests_named and (unknown := set(tests) - known):
        return _stop(f"no step {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}, or tests/…")
    if missing := image.missing():
        return _stop(f"please install first: apt-get install {' '.join(missing)}")
    if os.geteuid() != 0:
        return _stop("making the guests' disks needs root")
    folder = Path(os.environ.get("KERNELS_CACHE") or image.CHECKOUT / CACHE).resolve()
    results = folder / "results"
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir(parents=True)
    accelerated = guest.accelerator(image.prepare(folder, chosen[0]).vmlinuz)
    rows = [row for kernel in chosen for row in _one(kernel, folder, results, accelerated, tests)]
    (results / "summary.json").write_text(json.dumps(rows, indent=1) + "\n")
    _table(rows, accelerated)
    return 0 if rows and all(row["outcome"] == "passed" for row in rows) else 1


def _one(kernel: Kernel, folder: Path, results: Path, accelerated: str, tests: Sequence[str]) -> list[Row]:
    bootable = image.prepare(folder, kernel)
    print(f"== {kernel.name}: Linux {bootable.release} on {kernel.root.name}, {accelerated}", flush=True)
    slower = 1 if accelerated == "kvm" else guest.SLOWER
    words = [kernel.refused, *tests]
    into = results / kernel.name
    ended = guest.boot(
        bootable, image.python(folder), image.checkout(folder, words, slower=slower), into, accelerated=accelerated
    )
    about = {"kernel": kernel.name, "release": bootable.release, "userland": kernel.root.name}
    found = ended.results / "results.json"
    rows: list[Row] = [about | row for row in json.loads(found.read_text())] if found.exists() else []
    if ended.problem:
        console = ended.console.read_text(errors="replace") if ended.console.exists() else ""
        print("\n".join(console.splitlines()[-_SHOWN:]))
        rows.append(about | {"user": "-", "step": "boot", "outcome": "failed", "detail": ended.problem, "seconds": 0})
    for row in rows:
        print(f"   {row['user']:9}{row['step']:10}{row['outcome']:8}{row['seconds']:>7} s  {row['detail']}", flush=True)
    return rows


def _table(rows: Sequence[Row], accelerated: str) -> None:
    """Kernel by step: `ok` where it held for both users."""
    steps = list(dict.fromkeys(row["step"] for row in rows))
    print(f"\n{'kernel (' + accelerated + ')':36}" + "".join(f"{step:11}" for step in steps))
    for release in dict.fromkeys(row["release"] for row in rows):
        cells = []
        for step in steps:
            mine = [row for row in rows if row["release"] == release and row["step"] == step]
            bad = [row["user"] for row in mine if row["outcome"] != "passed"]
            cells.append("-" if not mine else "ok" if not bad else "FAILED" if len(bad) > 1 else f"not {bad[0]}")
        print(f"{release:36}" + "".join(f"{cell:11}" for cell in cells))


def _stop(why: str) -> int:
    print(f"test-kernels: {why}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
