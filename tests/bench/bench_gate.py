"""What the gate costs each call of a run, beside the same call without it, and the proof before a run.

Starting and ending a run are bench_run's. Run: python -m tests.bench.bench_gate
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import json
import tempfile
import time
from pathlib import Path

import trio

from sandbox import frames
from sandbox.confinement.bubblewrap import prove, python, spawn
from sandbox.confinement.places import SHELL_LAUNCHER
from sandbox.runtimes.scripted import executor
from tests.bench._table import Line, ms, p50, show
from tests.sandbox.conftest import make_person
from tests.sandbox.node import Node, dp_agent, start

CALLS = 300
PROOFS = 10


async def calling(base: Path, views: contextlib.ExitStack) -> dict[str, list[float]]:
    """Seconds for one small Read: by the executor alone, and through gate, frames and the node's answer."""
    taken: dict[str, list[float]] = {"alone": [], "gated": []}
    profile = make_person(base, views).profile
    (profile.workspace / "a").write_text("x")
    words = [python(), "-ISBc", inspect.getsource(executor), str(SHELL_LAUNCHER)]
    line = json.dumps({"tool": "Read", "input": {"file_path": "/dispatch/a"}}).encode() + b"\n"
    async with await spawn(profile, words, profile.environment()) as process:
        assert process.stdin is not None and process.stdout is not None
        for _ in range(CALLS):
            began = time.perf_counter()
            await process.stdin.send_all(line)
            await process.stdout.receive_some(65536)
            taken["alone"].append(time.perf_counter() - began)

    asked: list[float] = []

    async def respond(node: Node, call: frames.Call) -> None:
        asked.append(time.perf_counter())
        await node.answer(call, True)

    with tempfile.TemporaryDirectory(prefix="dispatch-bench-") as folder:
        script = [{"tool": "Read", "input": {"file_path": "a"}}] * (CALLS + 1)
        begin = start(Path(folder), *script, approval="auto", budget=frames.Budget(turns=CALLS + 1))
        Path(folder, "shop/a").write_text("x")
        async with dp_agent(respond) as node:
            finished = await node.run(begin)
        assert finished.status == "completed" and len(asked) == CALLS + 1
    taken["gated"] = [later - earlier for earlier, later in itertools.pairwise(asked)]
    return taken


async def proving(base: Path, views: contextlib.ExitStack) -> list[float]:
    """Seconds of the proof before a run."""
    profile = make_person(base, views).profile
    taken = []
    for _ in range(PROOFS):
        began = time.perf_counter()
        await prove(profile)
        taken.append(time.perf_counter() - began)
    return taken


async def measure() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="dispatch-bench-", dir="/var/tmp") as folder,
        contextlib.ExitStack() as views,
    ):
        proved = await proving(Path(folder).resolve() / "proving", views)
        called = await calling(Path(folder).resolve() / "calling", views)
    alone, gated = called["alone"], called["gated"]
    show(
        "One small Read, and the proof that comes before the first",
        [
            Line("by the executor alone", ms(alone)),
            Line("through the gate", ms(gated), p50(gated) / p50(alone), "the executor alone"),
            Line("overhead of the gate", f"{(p50(gated) - p50(alone)) * 1e3:.2f} ms"),
            Line("proof of the sandbox", ms(proved)),
        ],
    )


if __name__ == "__main__":
    trio.run(measure)
