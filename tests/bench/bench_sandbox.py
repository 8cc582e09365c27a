"""What confinement and the gate cost: starting, ending, and each call, beside the same without them.

Run: python -m tests.bench.bench_sandbox
"""

from __future__ import annotations

import inspect
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import trio

from sandbox import frames
from sandbox.confinement import SHELL_LAUNCHER, interpreter, prove, spawn
from sandbox.runtimes import executor
from tests.bench._table import Line, ms, p50, p95, show
from tests.sandbox.conftest import finish, make_person
from tests.sandbox.node import Node, dp_agent, members_of, start

ROUNDS = 60
CALLS = 300
STARTS_GOAL_MS, REVOKE_GOAL_S = 30.0, 1.0
STUBBORN = "trap '' TERM INT HUP; setsid sleep 1000 & touch started; while :; do sleep 1000; done"


async def starting(base: Path) -> dict[str, list[float]]:
    """Seconds from nothing to the end of a program that does nothing: bare, confined, and as a shell of a run."""
    profile = make_person(base).profile
    programs = {
        "bare": None,
        "confined": ["/usr/bin/true"],
        "shell": [str(SHELL_LAUNCHER), "true"],
    }
    taken: dict[str, list[float]] = {name: [] for name in [*programs, "proof"]}
    for _ in range(ROUNDS):
        for name, words in programs.items():
            began = time.perf_counter()
            if words is None:
                done = subprocess.Popen(["/usr/bin/true"], env={}, stdin=-1, stdout=-1, stderr=-1)
                done.communicate()
                code = done.returncode
            else:
                code = (await finish(await spawn(profile, words, profile.environment()))).code
            taken[name].append(time.perf_counter() - began)
            assert code == 0
    for _ in range(ROUNDS // 10):
        began = time.perf_counter()
        await prove(profile)
        taken["proof"].append(time.perf_counter() - began)
    return taken


async def ending(how: str) -> float:
    """Seconds from the node's word, or its death, until the last process of a stubborn run is dead."""
    with tempfile.TemporaryDirectory(prefix="dispatch-bench-") as folder:
        step = {"tool": "Bash", "input": {"command": STUBBORN}}
        async with dp_agent() as node:
            await node.say(start(Path(folder), step, approval="auto"))
            await node.answer(await node.until(frames.Call), True)
            while not Path(folder, "shop/started").exists():
                await trio.sleep(0.005)
            tree = members_of(node.process.pid) - {node.process.pid}
            began = time.perf_counter()
            if how == "cancel":
                await node.say(frames.Cancel(reason="revoked"))
            else:
                node.process.kill()
            while any(Path(f"/proc/{pid}/root").is_symlink() and _lives(pid) for pid in tree):
                await trio.sleep(0.0005)
            return time.perf_counter() - began


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def calling(base: Path) -> dict[str, list[float]]:
    """Seconds for one small Read: by the executor alone, and through gate, frames and the node's answer."""
    taken: dict[str, list[float]] = {"alone": [], "gated": []}
    profile = make_person(base).profile
    (profile.workspace / "a").write_text("x")
    words = [interpreter()[0], "-ISBc", inspect.getsource(executor), str(SHELL_LAUNCHER)]
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
        script = [{"tool": "Read", "input": {"file_path": "/project/a"}}] * (CALLS + 1)
        begin = start(Path(folder), *script, approval="auto", budget=frames.Budget(turns=CALLS + 1))
        Path(folder, "shop/a").write_text("x")
        async with dp_agent(respond) as node:
            finished = await node.run(begin)
        assert finished.status == "completed" and len(asked) == CALLS + 1
    taken["gated"] = [later - earlier for earlier, later in itertools.pairwise(asked)]
    return taken


async def measure() -> None:
    with tempfile.TemporaryDirectory(prefix="dispatch-bench-", dir="/var/tmp") as folder:
        started = await starting(Path(folder).resolve() / "starting")
        called = await calling(Path(folder).resolve() / "calling")
    ended = {how: [await ending(how) for _ in range(5)] for how in ("cancel", "kill")}
    bare = p50(started["bare"])
    overhead = (p50(started["confined"]) - bare) * 1e3
    best = (min(started["confined"]) - min(started["bare"])) * 1e3
    met = overhead <= STARTS_GOAL_MS
    show(
        "A program that does nothing, from start to end",
        [
            Line("bare", ms(started["bare"])),
            Line("confined", ms(started["confined"]), p50(started["confined"]) / bare, "bare"),
            Line(
                "overhead, of the quickest of each", f"{(min(started['confined']) - min(started['bare'])) * 1e3:.1f} ms"
            ),
            Line("overhead", f"{overhead:.1f} ms", goal=f"<= {STARTS_GOAL_MS:g} ms", met=met),
            Line("confined, as a shell of the run", ms(started["shell"]), p50(started["shell"]) / bare, "bare"),
            Line("the proof before a run", ms(started["proof"])),
        ],
    )
    show(
        "From the word to the last process dead",
        [
            Line(
                {"cancel": "revoked or cancelled", "kill": "dp-agent killed"}[how],
                f"p50 {p50(taken) * 1e3:.0f} worst {max(taken) * 1e3:.0f} ms",
                goal=f"<= {REVOKE_GOAL_S:g} s",
                met=max(taken) <= REVOKE_GOAL_S,
            )
            for how, taken in ended.items()
        ],
    )
    alone = p50(called["alone"])
    show(
        "One small Read",
        [
            Line("by the executor alone", ms(called["alone"])),
            Line("through the gate", ms(called["gated"]), p50(called["gated"]) / alone, "the executor alone"),
            Line("overhead of the gate", f"{(p50(called['gated']) - alone) * 1e3:.2f} ms"),
            Line("... at worst of 20", f"{(p95(called['gated']) - p95(called['alone'])) * 1e3:.2f} ms"),
        ],
    )


if __name__ == "__main__":
    trio.run(measure)
    sys.stdout.flush()
