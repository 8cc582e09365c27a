"""`dispatch inbox` beside `python -c pass`, both as new processes: the goal is at most 4 times.

Run: python tests/bench/bench_cli.py [rounds]. Prints one JSON line a program, in milliseconds, then the ratios. The
programs take turns, so that a busy machine slows all of them; processor time is the steadier figure there. The daemon
is the fake of tests/cli.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from peer.state_folder import StateFolder  # noqa: E402
from tests.cli.documents import row  # noqa: E402
from tests.cli.fake_api import running  # noqa: E402

PROGRAMS = {
    "python -c pass": ["-c", "pass"],
    "import click": ["-c", "import click"],
    "dispatch --help": ["-c", "from cli.main import main; main()", "--help"],
    "dispatch inbox": ["-c", "from cli.main import main; main()", "inbox"],
}


def measure(arguments: list[str], env: dict[str, str]) -> tuple[float, float]:
    """Return (wall, processor) milliseconds of one process."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=env, stdout=-3, stderr=-3)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, arguments
    return (time.perf_counter() - start) * 1e3, (usage.ru_utime + usage.ru_stime) * 1e3


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    with tempfile.TemporaryDirectory() as home:
        folder = StateFolder(Path(home) / "state")
        env = {**os.environ, "DISPATCH_HOME": str(folder.path), "PYTHONPYCACHEPREFIX": f"{home}/bytecode"}
        env.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program has its bytecode
        with running(folder) as api:
            api["GET /v1/dispatches"] = {"dispatches": [row() for _ in range(50)]}
            for arguments in PROGRAMS.values():
                measure(arguments, env)  # writes the bytecode
            taken: dict[str, list[tuple[float, float]]] = {name: [] for name in PROGRAMS}
            for _ in range(rounds):
                for name, arguments in PROGRAMS.items():
                    taken[name].append(measure(arguments, env))
    figures = {
        name: {
            "wall_min": min(wall for wall, _ in pairs),
            "wall_p50": statistics.median(wall for wall, _ in pairs),
            "cpu_p50": statistics.median(cpu for _, cpu in pairs),
        }
        for name, pairs in taken.items()
    }
    for name, figure in figures.items():
        print(json.dumps({"program": name, **{key: round(value, 1) for key, value in figure.items()}}))
    base = figures["python -c pass"]
    for name in ("dispatch --help", "dispatch inbox"):
        ratios = {key: round(value / base[key], 2) for key, value in figures[name].items()}
        print(json.dumps({"ratio": f"{name} / python -c pass", **ratios, "goal": 4.0}))


if __name__ == "__main__":
    main()
