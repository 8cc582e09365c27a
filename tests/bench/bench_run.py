"""What confinement costs a run, and how fast a run ends.

The first table starts /bin/true bare and under the whole profile of a run (bubblewrap, system-call filters, Landlock),
from the call until it was reaped. The second is one real run whose agent's shell sleeps: from `trust revoke`, or
`cancel`, at Bob's daemon until the kernel says that the last process of the run is gone; and from `accept` until the
run's first tool call is there, which is the start of the agent with its canaries.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import trio

from sandbox.confinement import Profile, Root
from sandbox.confinement.bubblewrap import spawn
from sandbox.views import namespace
from sandbox.views.making import make_views
from tests.bench._pair import pair
from tests.bench._table import Line, ms, p50, show
from tests.system.world import Person, all_gone, connect, descendants, eventually

ROUNDS = 40
ENDINGS = 5
GOAL_START_MS, GOAL_END_MS = 30.0, 1_000.0
SLEEP = "sleep 987"


async def started(no_overlay: str) -> dict[str, list[float]]:
    """Return the seconds of /bin/true, bare and confined, in turns."""
    taken: dict[str, list[float]] = {"bare": [], "confined": [], "project": []}
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        workspace, project = base / "workspace", base / "project"
        workspace.mkdir()
        for number in range(1_000):
            place = project / f"part{number // 50}"
            place.mkdir(parents=True, exist_ok=True)
            (place / f"file{number}.py").touch()
        plain = Profile(workspace=workspace)
        views = make_views((Root(project, writable=True),), base, no_overlay=no_overlay, limits=plain.limits)
        for _ in range(ROUNDS):
            start = time.perf_counter()
            await trio.run_process(["/bin/true"], env={})
            taken["bare"].append(time.perf_counter() - start)
            with_project = replace(plain, roots=views.roots)
            for name, profile in (("confined", plain), ("project", with_project)):
                start = time.perf_counter()
                process = await spawn(profile, ["/bin/true"], profile.environment(), stdin=subprocess.DEVNULL)
                status = await process.wait()
                taken[name].append(time.perf_counter() - start)
                await process.aclose()
                assert status == 0
        views.close()
    return taken


def ended(alice: Person, bob: Person, end: Callable[[str], object]) -> tuple[float, float]:
    """Run a dispatch and end it; return the seconds to its first tool call, and from `end` to its last process."""
    bob.will({"tool": "Bash", "input": {"command": SLEEP}})
    sent = alice.client.send(bob.email, "Sleep")["dispatch_id"]
    alice.state_of(sent, "pending")
    start = time.perf_counter()
    bob.client.accept(sent)
    bob.event_of(sent, lambda event: event["kind"] == "tool_call")
    called = time.perf_counter() - start
    assert bob.program is not None
    daemon = bob.program.pid
    eventually(lambda: any(line.strip() == SLEEP for line in descendants(daemon).values()), what=SLEEP)
    processes = list(descendants(daemon))
    start = time.perf_counter()
    end(sent)
    assert all_gone(processes)
    return called, time.perf_counter() - start


def main() -> None:
    taken = trio.run(started, namespace.enter())
    base = p50(taken["bare"])

    def line(what: str, name: str) -> Line:
        extra = p50(taken[name]) - base
        return Line(what, ms(taken[name]), None, "", f"<= {GOAL_START_MS:g} ms more", extra * 1e3 <= GOAL_START_MS)

    show(
        f"/bin/true, started and reaped, {ROUNDS} times",
        [
            Line("bare", ms(taken["bare"])),
            line("confined, a workspace", "confined"),
            line("confined, and a view of a project of 1,000 files", "project"),
        ],
    )
    calls: list[float] = []
    revoked: list[float] = []
    cancelled: list[float] = []
    with pair(approval="auto") as (alice, bob):
        for _ in range(ENDINGS):
            called, gone = ended(alice, bob, bob.client.cancel)
            calls.append(called)
            cancelled.append(gone)
            called, gone = ended(alice, bob, lambda _: bob.client.revoke_trust(alice.email))
            calls.append(called)
            revoked.append(gone)
            eventually(lambda: "revoked" in str(alice.edge(bob, "outgoing")), what="her hearing of it")
            connect(alice, bob, approval="auto")
    goal = f"each <= {GOAL_END_MS:g} ms"
    show(
        f"One run, {ENDINGS} times each",
        [
            Line("accept -> its first tool call", ms(calls)),
            Line("cancel -> its last process gone", ms(cancelled), None, "", goal, max(cancelled) * 1e3 <= GOAL_END_MS),
            Line("revoke -> its last process gone", ms(revoked), None, "", goal, max(revoked) * 1e3 <= GOAL_END_MS),
        ],
    )


if __name__ == "__main__":
    main()
