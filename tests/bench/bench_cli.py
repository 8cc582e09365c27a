"""`dispatch inbox` beside `python -c pass`, both as new processes, with 1,000 dispatches in the inbox.

Once with Bob's real daemon up (the list comes over the loopback API), once with it down (from the store, read-only).
The programs take turns, so that a busy machine slows all of them alike.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench._pair import fill, pair
from tests.bench._table import Line, ms, p50, show
from tests.system.world import ROOT

ROUNDS = 30
INBOX = 1_000
GOAL = 4.0
DISPATCH = "from cli.main import main; main()"
BASE = "python -c pass"
PROGRAMS = {
    BASE: ["-c", "pass"],
    "import click": ["-c", "import click"],
    "dispatch --help": ["-c", DISPATCH, "--help"],
    "dispatch inbox": ["-c", DISPATCH, "inbox"],
    "dispatch inbox --json": ["-c", DISPATCH, "inbox", "--json"],
    "dispatch contacts": ["-c", DISPATCH, "contacts"],
}


def seconds(arguments: list[str], env: dict[str, str]) -> float:
    """Run one program to its end; return how long it took."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, env=env, stdout=-3, stderr=-3, check=True)
    return time.perf_counter() - start


def measure(env: dict[str, str]) -> dict[str, list[float]]:
    """Return the seconds of every program."""
    for arguments in PROGRAMS.values():
        seconds(arguments, env)  # writes the bytecode: an installed program has it
    taken: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(ROUNDS):
        for name, arguments in PROGRAMS.items():
            taken[name].append(seconds(arguments, env))
    return taken


def table(title: str, taken: dict[str, list[float]]) -> None:
    base = p50(taken[BASE])
    lines = []
    for name, values in taken.items():
        ratio = p50(values) / base
        bound = name.startswith("dispatch inbox")
        goal, met = (f"<= {GOAL:g}x", ratio <= GOAL) if bound else ("", None)
        lines.append(Line(name, ms(values), ratio, BASE, goal, met))
    show(title, lines)


def main() -> None:
    with pair() as (alice, bob), tempfile.TemporaryDirectory() as bytecode:
        alice.stop()
        bob.stop()
        fill(alice, bob, INBOX)
        env = bob.environment | {"PYTHONPYCACHEPREFIX": str(Path(bytecode))}
        bob.start()
        table(f"Commands with the daemon up, {INBOX:,} in the inbox, {ROUNDS} times", measure(env))
        bob.stop()
        table("The same with the daemon down", measure(env))


if __name__ == "__main__":
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    main()
